"""What a function gets of a job, and the three ways to run it: in the event loop, in a thread, in a process."""

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
from jobstate_worker.ending import resolve_future
from jobstate_worker.outcomes import cancelled, completed, failed, released
from jobstate_worker.progress import Progress, progress_report
from jobstate_worker.requests import JobUpdate
from jobstate_worker.service import log

#: How often a thread looks whether its process is to stop, and how long a process may take to end by itself (s).
POLL_INTERVAL: Final = 0.1
PROCESS_EXIT_TIMEOUT: Final = 2.0
#: What ends the worker, and reaches its processes as well where it is sent to all of a terminal or of a service.
STOP_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


class JobFailed(Exception):
    """Raised by a function: the job has failed for good, whatever attempts it has left.

    `error_message` is any JSON, and what the job's record says. For anything else this raises an error that is both a
    `TypeError` and a `ValueError`; a function that does not catch it fails its job for good all the same.
    """

    def __init__(self, error_message: object) -> None:
        try:
            encoded(error_message)
        except Exception as error:
            raise InvalidErrorMessage(error_message, error) from error
        super().__init__(error_message)
        self.error_message = error_message


class InvalidErrorMessage(TypeError, ValueError):
    """Raised by `JobFailed` for an `error_message` that cannot be sent as JSON, for the given reason."""

    def __init__(self, error_message: object, reason: Exception) -> None:
        super().__init__(f"the `error_message` of `JobFailed` cannot be sent as JSON: {text_of(lambda: reason)}")
        self.error_message = error_message


class ProcessDied(Exception):
    """The process of a function ended before the function did, or can no longer be understood."""


class Work:
    """One job as its function sees it; every method may be called from any thread."""

    #: The record as the claim gave it: the JSON of `GET /v1/jobs/{id}`.
    job: Mapping[str, Any]
    #: What `progress` was last told; `None` before.
    latest: Progress | None = None

    def __init__(self, job: Mapping[str, Any], report: Callable[[Progress], None] = lambda progress: None) -> None:
        """Call `report` with every progress."""
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
        """What the client wants to be done: any JSON."""
        return self.job.get("input_params")

    @property
    def attempt(self) -> int:
        """1 at the job's first run, 2 at its second."""
        return int(self.job["attempt"])

    @property
    def correlation_id(self) -> str | None:
        """What ties the job to the work that caused it."""
        return self.job.get("correlation_id")

    @property
    def cancel_requested(self) -> bool:
        """Whether to stop: a cancel was asked for, or the job is no longer this worker's."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the function to stop."""
        self._stop.set()

    def progress(self, current: int, total: int | None = None, message: str | None = None) -> None:
        """Report how far the work is, in units of its choice; cheap, for the newest is sent once a second.

        Values that cannot be sent do not fail the attempt; the first one is logged. The report is left out if `current`
        is not an integer from 0 to 2**53 - 1; only `total` is left out if it is not. Control characters of a message
        become spaces, and it is cut to 1,024 bytes.
        """
        report = progress_report(current, total, message, self._warn)
        if report:
            self.latest = report
            self._report(report)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s: progress is not reported: %s", self.job.get("job_id"), reason)


Function: TypeAlias = Callable[[Work], Any]
#: Runs a function on its work and says what is to become of the job; gives the function up once the event is set.
Run: TypeAlias = Callable[[Work, threading.Event], Coroutine[Any, Any, JobUpdate]]


class Runner(NamedTuple):
    """A function, and how it is run."""

    run: Run
    #: Whether a cancellation of `run` reaches the function; else it has to look at `Work.cancel_requested`.
    cancellable: bool


def runner_for(function: Function, in_: Literal["thread", "process"]) -> Runner:
    """Return how to run `function`; raise `ValueError` for one that cannot be run in a process."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    if is_async:
        if in_ == "process":
            raise ValueError("an async function runs in the event loop, not in a process")
        return Runner(lambda work, given_up: _run_async(function, work), cancellable=True)
    if in_ == "thread":
        return Runner(lambda work, given_up: _in_thread(_run_sync, function, work), cancellable=False)
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"{function!r} cannot run in a process, which has to import it by its name") from error
    return Runner(lambda work, given_up: _in_thread(_in_process, function, work, given_up), cancellable=False)


def success_update(work: Work, result: object) -> JobUpdate:
    """Say what becomes of a job whose function has returned: what stopped returns `None`, what is done its result."""
    if result is None and work.cancel_requested:
        return cancelled()
    return completed(result, work.latest)


def failure_update(work: Work, error: BaseException) -> JobUpdate:
    """Say what becomes of a job whose function has raised."""
    if isinstance(error, JobFailed | InvalidErrorMessage):
        return failed(error)
    if isinstance(error, asyncio.CancelledError) and work.cancel_requested:
        return cancelled()
    _log_failure(work, error)
    return released(error)


def _log_failure(work: Work, error: BaseException) -> None:
    try:
        log.warning("%s: the function raised", work.job_id, exc_info=error)
    except Exception:  # such as RecursionError, for an exception that is nested too deep to be formatted
        log.warning("%s: the function raised %s", work.job_id, text_of(lambda: type(error).__name__))


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
    """Run in a thread of its own, which ends with the process at the latest: no function can hold up the end."""
    future: concurrent.futures.Future[JobUpdate] = concurrent.futures.Future()
    threading.Thread(target=resolve_future, args=(future, functools.partial(call, *arguments)), daemon=True).start()
    return await asyncio.wrap_future(future)


def _in_process(function: Function, work: Work, abandoned: threading.Event) -> JobUpdate:
    """Run in a fresh process: pass its progress on and a wish to stop in, and kill it once it is given up."""
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
    """Start a process that `ENDING` does not reach before it has said what is to become of it."""
    resource_tracker.ensure_running()  # by itself it starts with the process, and takes the block away
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _exit_error(process: BaseProcess, error: Exception) -> ProcessDied:
    process.join(PROCESS_EXIT_TIMEOUT)
    if process.exitcode is None:
        return ProcessDied(f"the process said what nobody understands: {error!r}")
    return ProcessDied(f"the process ended with exit code {process.exitcode}")


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
    """Leave it to the parent what its signals mean; what this process starts can still be ended by `terminate`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # other than SIG_IGN, no program inherits it
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _listen(pipe: "Connection[Any, Any]", work: Work) -> None:
    """Stop the work when told so; end the process with its parent."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.recv()
            work.stop()
    os._exit(1)
