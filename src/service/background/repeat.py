"""The loop of every background task."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from service.api.correlation import new_correlation_id


async def repeat(run_once: Callable[[], Awaitable[float]], stopping: asyncio.Event) -> None:
    """Call `run_once` until `stopping` is set; it returns the seconds until the next call.

    Each call has a correlation id of its own in the log.
    """
    while not stopping.is_set():
        structlog.contextvars.bind_contextvars(correlation_id=new_correlation_id())
        delay = await run_once()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await stopping.wait()
