"""Several server processes on one address: started, supervised and stopped together."""

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import structlog

from service import libraries
from service.observability import logs, metrics
from service.server.signals import deferred_signals, exit_on_signals
from service.settings import Settings

#: Seconds before a process that exited is restarted. The pause doubles with each exit, up to `MAX_BACKOFF`.
MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0
#: Seconds of run time after which the pause starts at `MIN_BACKOFF` again.
HEALTHY_AFTER: Final = 60.0
#: Seconds after `SHUTDOWN_DRAIN_SECONDS` at which a process that has not exited is killed.
KILL_AFTER: Final = 10.0

_log = structlog.get_logger(__name__)
_spawn = multiprocessing.get_context("spawn")


class SupervisorError(Exception):
    """A process exited during startup. The message says what to check."""


class _Worker(NamedTuple):
    process: SpawnProcess
    #: Receives one message, when the process accepts requests.
    ready: Connection
    started: float


class Supervisor:
    """Runs processes that share a listener, a Redis and their metrics. Restarts those that exit."""

    def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
        """Prepare `settings.workers` processes. `started` is called once all of them accept requests."""
        self._settings = settings
        self._redis_url = redis_url
        self._on_started = started
        self._workers: dict[int, _Worker] = {}
        self._backoffs = dict.fromkeys(range(settings.workers), MIN_BACKOFF)
        #: When to restart a process that exited (`time.monotonic`).
        self._restart_at: dict[int, float] = {}
        #: The first signal to shut down, once received.
        self._stop_signal: signal.Signals | None = None
        self._wake_reader, self._wake_writer = multiprocessing.Pipe(duplex=False)

    def run(self, listeners: list[socket.socket]) -> None:
        """Serve until SIGINT or SIGTERM, then shut down. Raises `SupervisorError`."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        with tempfile.TemporaryDirectory(prefix="jobstate-") as metrics_dir:
            self._restart_at = dict.fromkeys(self._backoffs, 0.0)
            try:
                self._serve(listeners, Path(metrics_dir))
            finally:
                for listener in listeners:  # else clients could still connect, and would get no response
                    listener.close()
                self._shut_down()

    def _serve(self, listeners: list[socket.socket], metrics_dir: Path) -> None:
        unready = set(self._backoffs)
        while not self._stop_signal:
            for worker in [worker for worker, due in self._restart_at.items() if due <= time.monotonic()]:
                self._start(worker, listeners, metrics_dir)
            self._wait()
            for worker, has_exited in self._worker_events():
                if has_exited:
                    if unready:
                        raise SupervisorError(f"Process {worker} exited during startup. Check its log for the cause.")
                    self._on_exit(worker, metrics_dir)
                elif unready:
                    unready.discard(worker)
                    if not unready:
                        self._on_started()

    def _start(self, worker: int, listeners: list[socket.socket], metrics_dir: Path) -> None:
        del self._restart_at[worker]
        ready, ready_writer = _spawn.Pipe(duplex=False)
        args = (worker, self._settings, self._redis_url, listeners, metrics_dir, ready_writer)
        process = _spawn.Process(target=worker_main, args=args, name=f"worker-{worker}")
        process.start()
        ready_writer.close()
        self._workers[worker] = _Worker(process, ready, time.monotonic())

    def _wait(self) -> None:
        """Wait until a process is ready, exits or is due for a restart, or a signal arrives."""
        next_restart = min(self._restart_at.values(), default=None)
        timeout = None if next_restart is None else max(0.0, next_restart - time.monotonic())
        exits = [worker.process.sentinel for worker in self._workers.values()]
        unready = [worker.ready for worker in self._workers.values() if not worker.ready.closed]
        wait([self._wake_reader, *exits, *unready], timeout)

    def _worker_events(self) -> Iterable[tuple[int, bool]]:
        """Yield the number of each process that has exited (true) or become ready (false)."""
        for number, worker in list(self._workers.items()):
            if worker.process.exitcode is not None:
                yield number, True
            elif not worker.ready.closed and worker.ready.poll():
                worker.ready.close()
                yield number, False

    def _on_exit(self, worker: int, metrics_dir: Path) -> None:
        process, ready, started = self._workers.pop(worker)
        ready.close()
        metrics.mark_worker_dead(metrics_dir, worker)
        if self._stop_signal:
            return
        _log.error("worker exited, restarting", worker=worker, exit_code=process.exitcode)
        run_time = time.monotonic() - started
        pause = MIN_BACKOFF if run_time > HEALTHY_AFTER else self._backoffs[worker]
        self._backoffs[worker] = min(pause * 2, MAX_BACKOFF)
        self._restart_at[worker] = time.monotonic() + pause

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Shut down. On a second signal do not wait for leases or requests."""
        if self._stop_signal:  # `Server.handle_exit` ignores a repetition of the same signal
            self._send_signal(signal.SIGINT if self._stop_signal is signal.SIGTERM else signal.SIGTERM)
            return
        self._stop_signal = signal.Signals(number)
        self._wake_writer.send_bytes(b"!")

    def _shut_down(self) -> None:
        """Send the received signal to every process. Kill those that do not exit in time."""
        self._send_signal(self._stop_signal or signal.SIGINT)
        deadline = time.monotonic() + self._settings.shutdown_drain_seconds + KILL_AFTER
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.exitcode is None:
                _log.error("worker did not stop, killing", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()

    def _send_signal(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            if worker.process.exitcode is None and worker.process.pid is not None:
                os.kill(worker.process.pid, number)


def worker_main(
    worker: int,
    settings: Settings,
    redis_url: str,
    listeners: list[socket.socket],
    metrics_dir: Path,
    ready: Connection,
) -> None:
    """Run one of several processes. This is the entry point of a spawned process."""
    exit_on_signals()
    logs.configure(settings.log_level, settings.log_format, worker=worker)
    metrics.configure(metrics_dir, worker)
    with contextlib.suppress(KeyboardInterrupt):
        with deferred_signals(), libraries.uncollected():  # here, because the supervisor does not need the application
            from service.server.server import Server

        Server(settings, redis_url, started=lambda: ready.send_bytes(b"!")).run(listeners)
