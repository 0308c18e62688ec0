"""Long polls: how long a client wants to wait, and whether it is still connected."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from litestar import Request

from service.domain import constraints

#: One preference of a `Prefer` header (RFC 7240, section 2). A comma within quotes does not end it.
_PREFERENCE: Final = re.compile(r'(?:"(?:[^"\\]|\\.?)*"?|[^",])+')
#: The value of the preference `wait` (RFC 7240, section 4.3).
_SECONDS: Final = re.compile(r'("?)([0-9]+)\1')


def parse_prefer_wait(prefer: str | None) -> int | None:
    """Return the seconds of `wait` in a `Prefer` header, at most the allowed maximum; `None` if absent or invalid.

    Only the first `wait` counts (RFC 7240, section 2).
    """
    for preference in _PREFERENCE.findall(prefer or ""):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            match = _SECONDS.fullmatch(value.strip())
            return None if match is None else min(int(match[2].lstrip("0")[:9] or 0), constraints.WAIT_SECONDS.maximum)
    return None


@contextlib.asynccontextmanager
async def on_disconnect(request: Request[Any, Any, Any], callback: Callable[[], None]) -> AsyncIterator[None]:
    """Call `callback` when the client of `request` disconnects within the block."""

    async def wait_for_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        callback()

    task = asyncio.create_task(wait_for_disconnect())
    try:
        yield
    finally:
        task.cancel()
