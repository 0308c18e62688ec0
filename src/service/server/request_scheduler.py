"""When a request that has come is begun: not all that came together in one turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

#: The most requests that are begun in one turn of the event loop: what they ask of Redis is on its way while others are
#: begun, and fewer of them are half done at one time.
MAX_STARTS_PER_TICK: Final = 8


class RequestScheduler:
    """Begins requests in the order in which they came, a few in each turn of the event loop."""

    def __init__(self) -> None:
        self._left = MAX_STARTS_PER_TICK
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_called = False

    def schedule(self, start: Callable[..., None], *args: Any) -> None:
        """Call `start` with `args`, at once or in one of the next turns."""
        self._schedule_tick()
        if self._left:
            self._left -= 1
            start(*args)
        else:
            self._waiting.append(partial(start, *args))

    def _schedule_tick(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._run_tick)

    def _run_tick(self) -> None:
        self._is_called = False
        self._left = MAX_STARTS_PER_TICK
        try:
            while self._waiting and self._left:
                self._left -= 1
                self._waiting.popleft()()
        finally:
            if self._left < MAX_STARTS_PER_TICK:
                self._schedule_tick()
