"""The loop of every background task."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from service.domain.constraints import new_correlation_id


@contextlib.asynccontextmanager
async def running(*calls: Callable[[], Awaitable[float]]) -> AsyncIterator[None]:
    """Repeat each of `calls` in a task inside the `async with` block."""
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(repeat(call, stopping), name=call.__qualname__) for call in calls]
    try:
        yield
    finally:
        stopping.set()  # ends a task that swallowed its cancellation
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
