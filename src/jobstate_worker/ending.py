"""The end, which does not wait for those who do not heed it."""

import asyncio
import concurrent.futures
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from jobstate_worker.service import log

#: Seconds for what was cancelled to end, and for what was closed.
CANCEL_TIMEOUT: Final = 1.0
CLOSE_TIMEOUT: Final = 0.1
#: As many threads as asyncio has by default at most.
MAX_THREADS: Final = 32

T = TypeVar("T")


async def cancel_and_wait(tasks: Collection[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Cancel tasks; those that have not ended within a second are closed where they stand, and do nothing more.

    Returns those that defy this too, and go on for as long as the loop.
    """
    for task in tasks:
        task.cancel()
    unresponsive = await _still_running(tasks, CANCEL_TIMEOUT)
    for task in unresponsive:
        log.warning("%s does not heed its cancellation; cut off", task.get_name())
        _close(task)
    return await _still_running(unresponsive, CLOSE_TIMEOUT)


async def cancel_all() -> None:
    """End all that runs in this loop but for the caller; the loop is not to run on afterwards."""
    loop = asyncio.get_running_loop()
    for task in await cancel_and_wait(asyncio.all_tasks() - {asyncio.current_task()}):
        threading.Thread(target=_pin_task, args=(task,), daemon=True).start()
    await asyncio.wait({asyncio.create_task(loop.shutdown_asyncgens())}, timeout=CANCEL_TIMEOUT)


def _pin_task(task: asyncio.Task[Any]) -> None:
    """Never give up a task: to collect a coroutine that swallows all exceptions takes for ever."""
    threading.Event().wait()


async def _still_running(tasks: Collection[asyncio.Task[Any]], seconds: float) -> set[asyncio.Task[Any]]:
    return (await asyncio.wait(tasks, timeout=seconds))[1] if tasks else set()


def _close(task: asyncio.Task[Any]) -> None:
    """Raise `GeneratorExit` in a task, which then ends at its next step, because there is nothing left to step into."""
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    coroutine = task.get_coro()
    if coroutine is not None:
        with contextlib.suppress(Exception):
            coroutine.close()
    task.cancel()


def resolve_future(future: concurrent.futures.Future[T], call: Callable[[], T]) -> None:
    """Make a call's outcome a future's, unless nobody wants it any more."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)


class DaemonThreadPool(concurrent.futures.ThreadPoolExecutor):
    """A default executor whose threads end with the process at the latest: nothing in them can hold up the end."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Call `fn` in the next thread that is free."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._calls.put(functools.partial(resolve_future, future, functools.partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._started < MAX_THREADS:
            self._started += 1
            threading.Thread(target=self._work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads that are idle, and the others after their calls, and wait for none."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._calls.get_nowait()
        except queue.Empty:
            self._idle.release()
            return self._calls.get()
