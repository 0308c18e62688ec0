"""The job as its function sees it, and how a function runs: in the event loop, a thread or a process."""

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
from collections.abc import Callable, Coroutine, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from jobstate_worker.encoding import encoded, text_of
from jobstate_worker.outcomes import cancelled, completed, failed, released
from jobstate_worker.progress import Progress, progress_report
from jobstate_worker.requests import JobUpdate
from jobstate_worker.service import log
from jobstate_worker.shutdown import resolve_future

#: Seconds between two checks whether a process should stop, and seconds that a process has to exit by itself.
POLL_INTERVAL: Final = 0.1
PROCESS_EXIT_TIMEOUT: Final = 2.0
#: The signals that stop the worker. A signal to the process group also reaches the processes of its functions.
STOP_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


class JobFailed(Exception):
    """Raise it in a function to fail the job for good, whatever attempts remain.

    `error_message` is any JSON, and becomes the job's `error_message`. For other values the constructor raises an error
    that is both a `TypeError` and a `ValueError`. If the function does not catch it, the job fails for good too.
    """

    def __init__(self, error_message: object) -> None:
        try:
            encoded(error_message)
        except Exception as error:
            raise InvalidErrorMessage(error_message, error) from error
        super().__init__(error_message)
        self.error_message = error_message


class InvalidErrorMessage(TypeError, ValueError):
    """The `error_message` of a `JobFailed` cannot be sent as JSON."""

    def __init__(self, error_message: object, reason: Exception) -> None:
        super().__init__(f"the `error_message` of `JobFailed` cannot be sent as JSON: {text_of(lambda: reason)}")
        self.error_message = error_message


class ProcessDied(Exception):
    """The process of a function exited before the function returned, or sent an unreadable message."""


class Work:
    """One job, as its function sees it. All methods are thread-safe."""

    #: The record at the time of the claim, as in `GET /v1/jobs/{id}`.
    job: Mapping[str, Any]
    #: The latest progress; `None` before the first report.
    latest: Progress | None = None

    def __init__(self, job: Mapping[str, Any], report: Callable[[Progress], None] = lambda progress: None) -> None:
        """Call `report` with each valid progress."""
        self.job = job
        self._report = report
        self._stop = threading.Event()
        self._warned = False

    @property
    def job_id(self) -> str:
        """The job's id."""
        return str(self.job["job_id"])

    @property
    def input_params(self) -> Any:
        """The input of the job: any JSON, or `None`."""
        return self.job.get("input_params")

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1 for the first."""
        return int(self.job["attempt"])

    @property
    def correlation_id(self) -> str | None:
        """The correlation id that the client gave, or `None`."""
        return self.job.get("correlation_id")

    @property
    def cancel_requested(self) -> bool:
        """Whether to stop: cancellation was requested, the lease is lost, or the worker shuts down."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Set `cancel_requested`."""
        self._stop.set()

    def progress(self, current: int, total: int | None = None, message: str | None = None) -> None:
        """Report progress in units of your choice. Calls are cheap: the latest report is sent at most once a second.

        Invalid values do not fail the attempt. The first one is logged. `current` and `total` must be integers from 0
        to 2**53 - 1. An invalid `current` omits the report, an invalid `total` only the total. Control characters in
        `message` become spaces, and it is cut to 1,024 bytes.
        """
        report = progress_report(current, total, message, self._warn)
        if report:
            self.latest = report
            self._report(report)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("job %s: invalid progress omitted: %s", self.job.get("job_id"), reason)


Function: TypeAlias = Callable[[Work], Any]
#: Runs a function and returns the update that ends the attempt; stops waiting for the function when the event is set.
Run: TypeAlias = Callable[[Work, threading.Event], Coroutine[Any, Any, JobUpdate]]


class Runner(NamedTuple):
    """A function, and how it is run."""

    run: Run
    #: Whether cancelling `run` cancels the function. If not, the function must read `Work.cancel_requested`.
    cancellable: bool


def runner_for(function: Function, in_: Literal["thread", "process"]) -> Runner:
    """Return a runner for `function`. Raises `ValueError` if `function` cannot run in a process."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    if is_async:
        if in_ == "process":
            raise ValueError('an async function runs in the event loop: remove `in_="process"`')
        return Runner(lambda work, abandoned: _run_async(function, work), cancellable=True)
    if in_ == "thread":
        return Runner(lambda work, abandoned: _in_thread(_run_sync, function, work), cancellable=False)
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{function!r} cannot run in a process: a process must be able to import it by name"
        ) from error
    return Runner(lambda work, abandoned: _in_thread(_in_process, function, work, abandoned), cancellable=False)


def success_update(work: Work, result: object) -> JobUpdate:
    """Return the update for a function that returned: `cancelled` after a cancel request and `None`, else completed."""
    if result is None and work.cancel_requested:
        return cancelled()
    return completed(result, work.latest)


def failure_update(work: Work, error: BaseException) -> JobUpdate:
    """Return the update for a function that raised `error`."""
    if isinstance(error, JobFailed | InvalidErrorMessage):
        return failed(error)
    if isinstance(error, asyncio.CancelledError) and work.cancel_requested:
        return cancelled()
    _log_failure(work, error)
    return released(error)


def _log_failure(work: Work, error: BaseException) -> None:
    try:
        log.warning("job %s: attempt failed", work.job_id, exc_info=error)
    except Exception:  # such as RecursionError, if the exception is nested too deep to be formatted
        log.warning("job %s: attempt failed with %s", work.job_id, text_of(lambda: type(error).__name__))


async def _run_async(function: Function, work: Work) -> JobUpdate:
    try:
        return success_update(work, await function(work))
    except GeneratorExit:
        raise
    except BaseException as error:
        return failure_update(work, error)


def _run_sync(function: Function, work: Work) -> JobUpdate:
    try:
        return success_update(work, function(work))
    except BaseException as error:
        return failure_update(work, error)


async def _in_thread(call: Callable[..., JobUpdate], *arguments: object) -> JobUpdate:
    """Run `call` in a new daemon thread, so that no function delays the exit of the process."""
    future: concurrent.futures.Future[JobUpdate] = concurrent.futures.Future()
    threading.Thread(target=resolve_future, args=(future, functools.partial(call, *arguments)), daemon=True).start()
    return await asyncio.wrap_future(future)


def _in_process(function: Function, work: Work, abandoned: threading.Event) -> JobUpdate:
    """Run `function` in a new process: receive its progress, forward a cancel request, kill it when abandoned."""
    context = multiprocessing.get_context("spawn")
    pipe, child_end = context.Pipe()
    process = context.Process(target=_in_child, args=(function, work.job, child_end))
    _start(process)
    child_end.close()
    try:
        update = _supervise_child(pipe, work, abandoned)
        process.join(0 if abandoned.is_set() else PROCESS_EXIT_TIMEOUT)
        return update
    except Exception as error:
        return failure_update(work, _exit_error(process, error))
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
    return ProcessDied(f"the process exited with code {process.exitcode}")


def _supervise_child(pipe: "Connection[Any, Any]", work: Work, abandoned: threading.Event) -> JobUpdate:
    stop_sent = False
    while not abandoned.is_set():
        if work.cancel_requested and not stop_sent:
            pipe.send("stop")
            stop_sent = True
        if pipe.poll(POLL_INTERVAL):
            message = pipe.recv()
            if isinstance(message, JobUpdate):
                return message
            work.latest = message
    return JobUpdate.release()


def _in_child(function: Function, job: Mapping[str, Any], pipe: "Connection[Any, Any]") -> None:
    _ignore_signals()
    send_lock = threading.Lock()

    def send(message: object) -> None:
        with send_lock:
            pipe.send(message)

    work = Work(job, send)
    threading.Thread(target=_listen, args=(pipe, work), daemon=True).start()
    send(_run_sync(function, work))


def _ignore_signals() -> None:
    """Ignore the stop signals, which the parent handles. Processes that this one starts still handle SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # unlike SIG_IGN, not inherited by other programs
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _listen(pipe: "Connection[Any, Any]", work: Work) -> None:
    """Stop the function on a message from the parent; exit when the parent exits."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.recv()
            work.stop()
    os._exit(1)
