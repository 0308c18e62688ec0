"""Several processes that serve one address: started, watched over and ended together."""

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
from typing import Any, Final, NamedTuple

import structlog

from service.observability import logs, metrics
from service.server.server import Server
from service.server.signals import end_as_sigint
from service.settings import Settings

#: Seconds that a worker that died is left alone at first; doubled each time, up to the most.
MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0
#: Seconds after which a worker counts as sound: if it dies later, that is a first time.
HEALTHY_AFTER: Final = 60.0
#: Seconds that a worker may take to end beyond the time that its requests have.
KILL_AFTER: Final = 10.0

_log = structlog.get_logger(__name__)
_spawn = multiprocessing.get_context("spawn")


class SupervisorError(Exception):
    """The workers cannot be started; the message says what to look at."""


class _Worker(NamedTuple):
    process: SpawnProcess
    #: Tells once that the worker serves.
    ready: Connection
    started: float


class Supervisor:
    """Keeps processes that share a listener, a Redis and what they measure; one that dies is started again."""

    def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
        """Serve with `settings.workers` processes; call `started` once all of them serve."""
        self._settings = settings
        self._redis_url = redis_url
        self._on_started = started
        self._workers: dict[int, _Worker] = {}
        self._backoffs = dict.fromkeys(range(settings.workers), MIN_BACKOFF)
        #: When a worker that died is to be started again.
        self._restart_at: dict[int, float] = {}
        #: The signal that ends it all, once it has come.
        self._stopping: signal.Signals | None = None
        self._wake_reader, self._wake_writer = multiprocessing.Pipe(duplex=False)

    def run(self, listeners: list[socket.socket]) -> None:
        """Serve until SIGINT or SIGTERM, then until the requests in flight are answered. Raises `SupervisorError`."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        with tempfile.TemporaryDirectory(prefix="jobstate-") as folder:
            self._restart_at = dict.fromkeys(self._backoffs, 0.0)
            try:
                self._serve(listeners, Path(folder))
            finally:
                for listener in listeners:  # else what connects to it while the workers end would wait for nobody
                    listener.close()
                self._end()

    def _serve(self, listeners: list[socket.socket], folder: Path) -> None:
        unready = set(self._backoffs)
        while not self._stopping:
            for worker in [worker for worker, due in self._restart_at.items() if due <= time.monotonic()]:
                self._start(worker, listeners, folder)
            self._wait()
            for worker, died in self._worker_events():
                if died:
                    if unready:
                        raise SupervisorError(f"Worker {worker} ended at its start; its log says why.")
                    self._on_exit(worker, folder)
                elif unready:
                    unready.discard(worker)
                    if not unready:
                        self._on_started()

    def _start(self, worker: int, listeners: list[socket.socket], folder: Path) -> None:
        del self._restart_at[worker]
        ready, tell = _spawn.Pipe(duplex=False)
        args = (worker, self._settings, self._redis_url, listeners, folder, tell)
        process = _spawn.Process(target=worker_main, args=args, name=f"worker-{worker}")
        process.start()
        tell.close()
        self._workers[worker] = _Worker(process, ready, time.monotonic())

    def _wait(self) -> None:
        """Wait until a worker is ready or dies, one is due to be started, or a signal comes."""
        soonest = min(self._restart_at.values(), default=None)
        timeout = None if soonest is None else max(0.0, soonest - time.monotonic())
        wait([self._wake_reader, *self._wait_handles()], timeout)

    def _wait_handles(self) -> Iterable[Any]:
        for worker in self._workers.values():
            yield worker.process.sentinel
            if not worker.ready.closed:
                yield worker.ready

    def _worker_events(self) -> Iterable[tuple[int, bool]]:
        """Yield the workers that have died (true) or become ready (false)."""
        for number, worker in list(self._workers.items()):
            if worker.process.exitcode is not None:
                yield number, True
            elif not worker.ready.closed and worker.ready.poll():
                worker.ready.close()
                yield number, False

    def _on_exit(self, worker: int, folder: Path) -> None:
        process, ready, started = self._workers.pop(worker)
        ready.close()
        metrics.mark_worker_dead(folder, worker)
        if self._stopping:
            return
        _log.error("a worker has died; starting it again", worker=worker, exit_code=process.exitcode)
        lived = time.monotonic() - started
        pause = MIN_BACKOFF if lived > HEALTHY_AFTER else self._backoffs[worker]
        self._backoffs[worker] = min(pause * 2, MAX_BACKOFF)
        self._restart_at[worker] = time.monotonic() + pause

    def _stop(self, number: int, _: FrameType | None) -> None:
        """End; at a second signal without waiting for requests."""
        if self._stopping:
            self._signal(signal.SIGINT if self._stopping is signal.SIGTERM else signal.SIGTERM)
            return
        self._stopping = signal.Signals(number)
        self._wake_writer.send_bytes(b"!")

    def _end(self) -> None:
        """End every worker as this process is ended, at last by force."""
        self._signal(self._stopping or signal.SIGINT)
        deadline = time.monotonic() + self._settings.shutdown_drain_seconds + KILL_AFTER
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.exitcode is None:
                _log.error("a worker does not end; killing it", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            if worker.process.exitcode is None and worker.process.pid is not None:
                os.kill(worker.process.pid, number)


def worker_main(
    worker: int, settings: Settings, redis_url: str, listeners: list[socket.socket], folder: Path, ready: Connection
) -> None:
    """Serve as one of several processes; this is where a new one begins."""
    signal.signal(signal.SIGTERM, _leave)
    end_as_sigint()
    logs.configure(settings.log_level, settings.log_format, worker=worker)
    metrics.enable_multiprocess(folder, worker)
    with contextlib.suppress(KeyboardInterrupt):
        Server(settings, redis_url, started=lambda: ready.send_bytes(b"!")).run(listeners)


def _leave(*_: Any) -> None:
    raise SystemExit(0)
