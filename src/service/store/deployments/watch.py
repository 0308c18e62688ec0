"""A task that looks again and again at where Redis is."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

import structlog

from service.store.auto_pipeline import CANCEL_INTERVAL

#: Seconds between two calls, even if much fails.
MIN_INTERVAL: Final = 0.05

_log = structlog.get_logger(__name__)


class Watch:
    """Calls a function at intervals, and sooner when something has failed."""

    def __init__(self, look: Callable[[], Awaitable[float]]) -> None:
        """Call `look`, which returns the seconds until the next call."""
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()

    def start(self) -> None:
        """Begin, unless it has begun in this event loop."""
        if self._task is None or self._task.done():
            self._wakeup = asyncio.Event()
            # In an empty context: the task belongs to no request.
            self._task = asyncio.create_task(self._run(), name="redis nodes", context=Context())

    def wake(self) -> None:
        """Call soon. Begins like `start`."""
        self.start()
        self._wakeup.set()

    async def aclose(self) -> None:
        """End."""
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_INTERVAL)

    async def _run(self) -> None:
        interval = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._wakeup.wait()
            self._wakeup.clear()
            try:
                interval = await self._look()
            except Exception:  # a bug
                _log.exception("look at redis nodes failed")
                interval = MIN_INTERVAL
            await asyncio.sleep(MIN_INTERVAL)
