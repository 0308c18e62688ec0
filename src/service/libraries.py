"""Shorter imports, for a quick start.

Imports redis-py and structlog without the optional libraries that they import, and that the service does not use: a
tenth of a second. A process imports this before anything else that imports them.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: redis-py counts commands with OpenTelemetry, and structlog prints tracebacks with rich.
_UNUSED: Final = [name for name in ("opentelemetry", "rich") if name not in sys.modules]

sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]  # an import of them raises `ImportError`
try:
    import redis.asyncio  # noqa: F401
    import structlog  # noqa: F401
finally:
    for _name in _UNUSED:
        del sys.modules[_name]


@contextmanager
def uncollected() -> Iterator[None]:
    """Import many modules in the `with` block without garbage collection, which takes a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
