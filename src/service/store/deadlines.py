"""Time limits for Redis: per call, and for all calls of one HTTP request together."""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar, copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Seconds that one request may spend on Redis, including waits for a connection and retries.
REQUEST_TIMEOUT: Final = 3.0


class TimeBudget:
    """The time that one request may still spend on Redis, over all its calls."""

    def __init__(self, left: float = REQUEST_TIMEOUT) -> None:
        self._left = left

    def within(self, timeout: float) -> float:
        """Return `timeout` (s), or the time left if that is less."""
        return max(0.0, min(self._left, timeout))

    def spend(self, seconds: float) -> None:
        """Subtract the duration of a call."""
        self._left -= seconds

    def copy(self) -> "TimeBudget":
        """Return a budget of its own with the time left."""
        return TimeBudget(self._left)


#: The budget of the current request. Without one, each call has only its own timeout.
budget: Final[ContextVar[TimeBudget | None]] = ContextVar("budget", default=None)


def new_budget() -> None:
    """Give the current request `REQUEST_TIMEOUT` seconds from now on."""
    budget.set(TimeBudget())


async def gather(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of calls of Redis that run at the same time, which the budget counts once.

    Raises the first error; the other calls go on.
    """
    shared, started = budget.get(), time.perf_counter()
    try:
        return await asyncio.gather(*(_start(call, shared) for call in calls))
    finally:
        if shared is not None:
            shared.spend(time.perf_counter() - started)


def _start(call: Coroutine[Any, Any, T], shared: TimeBudget | None) -> asyncio.Task[T]:
    """Start a call with a budget of its own."""
    context = copy_context()
    context.run(budget.set, None if shared is None else shared.copy())
    return asyncio.create_task(call, context=context)
