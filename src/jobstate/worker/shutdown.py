"""Shut down without waiting for tasks and threads that do not stop."""

import asyncio
import concurrent.futures
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from jobstate._flow import log

#: Seconds that a task has to end after its cancellation, and after its coroutine was closed.
CANCEL_TIMEOUT: Final = 1.0
CLOSE_TIMEOUT: Final = 0.1
#: The maximum of asyncio's default executor.
MAX_THREADS: Final = 32

T = TypeVar("T")


async def cancel_and_wait(tasks: Collection[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Cancel tasks, and close those that are still running after `CANCEL_TIMEOUT`.

    Returns the tasks that still run. They continue as long as the loop does.
    """
    for task in tasks:
        task.cancel()
    unresponsive = await _still_running(tasks, CANCEL_TIMEOUT)
    for task in unresponsive:
        log.warning("task %s: cancellation ignored, closing it", task.get_name())
        _close(task)
    return await _still_running(unresponsive, CLOSE_TIMEOUT)


async def cancel_all() -> None:
    """Cancel all other tasks of the current loop, which must not run afterwards."""
    loop = asyncio.get_running_loop()
    for task in await cancel_and_wait(asyncio.all_tasks() - {asyncio.current_task()}):
        threading.Thread(target=_pin_task, args=(task,), daemon=True).start()
    await asyncio.wait({asyncio.create_task(loop.shutdown_asyncgens())}, timeout=CANCEL_TIMEOUT)


def _pin_task(task: asyncio.Task[Any]) -> None:
    """Keep a task alive for ever: collecting a coroutine that suppresses all exceptions would not return."""
    threading.Event().wait()


async def _still_running(tasks: Collection[asyncio.Task[Any]], seconds: float) -> set[asyncio.Task[Any]]:
    return (await asyncio.wait(tasks, timeout=seconds))[1] if tasks else set()


def _close(task: asyncio.Task[Any]) -> None:
    """Raise `GeneratorExit` in the coroutine of a task. The task ends at its next step."""
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    coroutine = task.get_coro()
    if coroutine is not None:
        with contextlib.suppress(Exception):
            coroutine.close()
    task.cancel()


def resolve_future(future: concurrent.futures.Future[T], call: Callable[[], T]) -> None:
    """Set the result or exception of `call` on `future`, unless the future is cancelled."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)


class DaemonThreadPool(concurrent.futures.ThreadPoolExecutor):
    """A default executor with daemon threads, so that no call delays the exit of the process."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Call `fn` in the next idle thread."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._calls.put(functools.partial(resolve_future, future, functools.partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._started < MAX_THREADS:
            self._started += 1
            threading.Thread(target=self._work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End each thread after its current call, without waiting."""
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
