"""Start of requests: a limited number in each iteration of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

#: Maximum requests started in one iteration of the event loop. Their commands are on the way to Redis while the next
#: requests start, and fewer requests are in progress concurrently.
MAX_STARTS_PER_TICK: Final = 8


class RequestScheduler:
    """Starts requests in order of arrival, at most `MAX_STARTS_PER_TICK` in each iteration of the event loop."""

    def __init__(self) -> None:
        self._available = MAX_STARTS_PER_TICK
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def schedule(self, start: Callable[..., None], *args: Any) -> None:
        """Call `start` with `args`, immediately or in one of the next iterations."""
        self._schedule_tick()
        if self._available:
            self._available -= 1
            start(*args)
        else:
            self._waiting.append(partial(start, *args))

    def _schedule_tick(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run_tick)

    def _run_tick(self) -> None:
        self._is_scheduled = False
        self._available = MAX_STARTS_PER_TICK
        try:
            while self._waiting and self._available:
                self._available -= 1
                self._waiting.popleft()()
        finally:
            if self._available < MAX_STARTS_PER_TICK:
                self._schedule_tick()
