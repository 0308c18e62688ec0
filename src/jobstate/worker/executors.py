"""How a function runs: in the event loop, a thread or a process."""

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Coroutine
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from jobstate.models import Job
from jobstate.worker.context import JobContext
from jobstate.worker.outcomes import JobUpdate, failure_update, success_update
from jobstate.worker.shutdown import resolve_future

#: Seconds between two checks whether a process should stop, and seconds that a process has to exit by itself.
POLL_INTERVAL: Final = 0.1
PROCESS_EXIT_TIMEOUT: Final = 2.0
#: The signals that stop the worker. A signal to the process group also reaches the processes of its functions.
STOP_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}
_GUARD: Final = '`if __name__ == "__main__":`'


class ProcessDied(Exception):
    """The process of a function exited before the function returned, or sent an unreadable message."""


Function: TypeAlias = Callable[[JobContext], Any]
#: Runs a function and returns the update that ends the attempt; stops waiting for the function when the event is set.
Run: TypeAlias = Callable[[JobContext, threading.Event], Coroutine[Any, Any, JobUpdate]]


class Runner(NamedTuple):
    """A function, and how it is run."""

    run: Run
    #: Whether cancelling `run` cancels the function. If not, the function must read `JobContext.cancel_requested`.
    cancellable: bool


def check_not_importing() -> None:
    """Raise `RuntimeError` if this process is a child of `multiprocessing` that still imports the main module."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as `multiprocessing` itself checks
        raise RuntimeError(
            "a process of a job function imports the main module, and must not start a second worker: put the call "
            f"that starts the worker under {_GUARD}"
        )


def is_async(function: Function) -> bool:
    """Return whether `function` runs in the event loop."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def runner_for(function: Function, executor: Literal["thread", "process"]) -> Runner:
    """Return a runner for `function`. Raises `ValueError` if the executor is unknown or cannot run `function`."""
    if executor not in {"thread", "process"}:
        raise ValueError(f'`executor` must be "thread" or "process", not {executor!r}')
    if is_async(function):
        if executor == "process":
            raise ValueError('an async function runs in the event loop: remove `executor="process"`')
        return Runner(lambda context, abandoned: _run_async(function, context), cancellable=True)
    if executor == "thread":
        return Runner(lambda context, abandoned: _in_thread(_run_sync, function, context), cancellable=False)
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{function!r} cannot run in a process: a process must be able to import it by name"
        ) from error
    return Runner(lambda context, abandoned: _in_thread(_in_process, function, context, abandoned), cancellable=False)


async def _run_async(function: Function, context: JobContext) -> JobUpdate:
    try:
        return success_update(context, await function(context))
    except GeneratorExit:
        raise
    except BaseException as error:
        return failure_update(context, error)


def _run_sync(function: Function, context: JobContext) -> JobUpdate:
    try:
        return success_update(context, function(context))
    except BaseException as error:
        return failure_update(context, error)


async def _in_thread(call: Callable[..., JobUpdate], *arguments: object) -> JobUpdate:
    """Run `call` in a new daemon thread, so that no function delays the exit of the process."""
    future: concurrent.futures.Future[JobUpdate] = concurrent.futures.Future()
    threading.Thread(target=resolve_future, args=(future, functools.partial(call, *arguments)), daemon=True).start()
    return await asyncio.wrap_future(future)


def _in_process(function: Function, context: JobContext, abandoned: threading.Event) -> JobUpdate:
    """Run `function` in a new process: receive its progress, forward a cancel request, kill it when abandoned."""
    spawn = multiprocessing.get_context("spawn")
    pipe, child_end = spawn.Pipe()
    process = spawn.Process(target=_in_child, args=(function, child_end))
    _start(process)
    child_end.close()
    try:
        pipe.send(context.job)
        update = _supervise_child(pipe, context, abandoned)
        process.join(0 if abandoned.is_set() else PROCESS_EXIT_TIMEOUT)
        return update
    except Exception as error:
        return failure_update(context, _exit_error(process, error))
    finally:
        process.kill()
        process.join()
        pipe.close()


def _start(process: BaseProcess) -> None:
    """Start a process with `STOP_SIGNALS` blocked until it has installed its handlers."""
    resource_tracker.ensure_running()  # else `process.start` starts it, which unblocks the signals
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _exit_error(process: BaseProcess, error: Exception) -> ProcessDied:
    process.join(PROCESS_EXIT_TIMEOUT)
    if process.exitcode is None:
        return ProcessDied(f"the process sent an unreadable message: {error!r}")
    hint = f". See the worker's output; is the call that starts the worker under {_GUARD}?"
    return ProcessDied(f"the process exited with code {process.exitcode}{hint if process.exitcode == 1 else ''}")


def _supervise_child(pipe: "Connection[Any, Any]", context: JobContext, abandoned: threading.Event) -> JobUpdate:
    stop_sent = False
    while not abandoned.is_set():
        if context.cancel_requested and not stop_sent:
            pipe.send("stop")
            stop_sent = True
        if pipe.poll(POLL_INTERVAL):
            message = pipe.recv()
            if isinstance(message, JobUpdate):
                return message
            context.latest = message
    return JobUpdate.release()


def _in_child(function: Function, pipe: "Connection[Any, Any]") -> None:
    _ignore_signals()
    job: Job = pipe.recv()
    send_lock = threading.Lock()

    def send(message: object) -> None:
        with send_lock:
            pipe.send(message)

    context = JobContext(job, send)
    threading.Thread(target=_listen, args=(pipe, context), daemon=True).start()
    send(_run_sync(function, context))


def _ignore_signals() -> None:
    """Ignore the stop signals, which the parent handles. Processes that this one starts still handle SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # unlike SIG_IGN, not inherited by other programs
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _listen(pipe: "Connection[Any, Any]", context: JobContext) -> None:
    """Stop the function on a message from the parent; exit when the parent exits."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.recv()
            context.stop()
    os._exit(1)
