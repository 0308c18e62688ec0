"""Shorter imports, for a quick start.

Libraries import others that the service does not use, if these are installed: redis-py and structlog for a tenth of a
second, Litestar for a third. A process imports this module before anything else that imports redis-py and structlog.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Import in the `with` block as if these libraries were not installed, but for those that are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # an import of them raises `ImportError`
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# redis-py counts commands with OpenTelemetry, and structlog prints tracebacks with rich.
with without("opentelemetry", "rich"):
    import redis.asyncio  # noqa: F401
    import structlog  # noqa: F401


@contextmanager
def uncollected() -> Iterator[None]:
    """Import many modules in the `with` block without garbage collection, which takes a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
