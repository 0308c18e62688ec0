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
PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
#: Seconds after which a worker counts as sound: if it dies later, that is a first time.
SOUND: Final = 60.0
#: Seconds that a worker may take to end beyond the time that its requests have.
GRACE: Final = 10.0

_log = structlog.get_logger(__name__)
_spawn = multiprocessing.get_context("spawn")


class WorkersError(Exception):
    """The workers cannot be started; the message says what to look at."""


class _Worker(NamedTuple):
    process: SpawnProcess
    #: Tells once that the worker serves.
    ready: Connection
    started: float


class Workers:
    """Keeps processes that share a listener, a Redis and what they measure; one that dies is started again."""

    def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
        """Serve with `settings.workers` processes; call `started` once all of them serve."""
        self._settings = settings
        self._redis_url = redis_url
        self._on_started = started
        self._workers: dict[int, _Worker] = {}
        self._pauses = dict.fromkeys(range(settings.workers), PAUSE)
        #: When a worker that died is to be started again.
        self._due: dict[int, float] = {}
        #: The signal that ends it all, once it has come.
        self._stopping: signal.Signals | None = None
        self._bell, self._ring = multiprocessing.Pipe(duplex=False)

    def run(self, listeners: list[socket.socket]) -> None:
        """Serve until SIGINT or SIGTERM, then until the requests in flight are answered. Raises `WorkersError`."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        with tempfile.TemporaryDirectory(prefix="jobstate-") as folder:
            self._due = dict.fromkeys(self._pauses, 0.0)
            try:
                self._serve(listeners, Path(folder))
            finally:
                for listener in listeners:  # else what connects to it while the workers end would wait for nobody
                    listener.close()
                self._end()

    def _serve(self, listeners: list[socket.socket], folder: Path) -> None:
        unready = set(self._pauses)
        while not self._stopping:
            for worker in [worker for worker, due in self._due.items() if due <= time.monotonic()]:
                self._start(worker, listeners, folder)
            self._wait()
            for worker, died in self._news():
                if died:
                    if unready:
                        raise WorkersError(f"Worker {worker} ended at its start; its log says why.")
                    self._bury(worker, folder)
                elif unready:
                    unready.discard(worker)
                    if not unready:
                        self._on_started()

    def _start(self, worker: int, listeners: list[socket.socket], folder: Path) -> None:
        del self._due[worker]
        ready, tell = _spawn.Pipe(duplex=False)
        args = (worker, self._settings, self._redis_url, listeners, folder, tell)
        process = _spawn.Process(target=work, args=args, name=f"worker-{worker}")
        process.start()
        tell.close()
        self._workers[worker] = _Worker(process, ready, time.monotonic())

    def _wait(self) -> None:
        """Wait until a worker is ready or dies, one is due to be started, or a signal comes."""
        soonest = min(self._due.values(), default=None)
        timeout = None if soonest is None else max(0.0, soonest - time.monotonic())
        wait([self._bell, *self._open_ends()], timeout)

    def _open_ends(self) -> Iterable[Any]:
        for worker in self._workers.values():
            yield worker.process.sentinel
            if not worker.ready.closed:
                yield worker.ready

    def _news(self) -> Iterable[tuple[int, bool]]:
        """Yield the workers that have died (true) or become ready (false)."""
        for number, worker in list(self._workers.items()):
            if worker.process.exitcode is not None:
                yield number, True
            elif not worker.ready.closed and worker.ready.poll():
                worker.ready.close()
                yield number, False

    def _bury(self, worker: int, folder: Path) -> None:
        process, ready, started = self._workers.pop(worker)
        ready.close()
        metrics.forget_current(folder, worker)
        if self._stopping:
            return
        _log.error("a worker has died; starting it again", worker=worker, exit_code=process.exitcode)
        lived = time.monotonic() - started
        pause = PAUSE if lived > SOUND else self._pauses[worker]
        self._pauses[worker] = min(pause * 2, LONGEST_PAUSE)
        self._due[worker] = time.monotonic() + pause

    def _stop(self, number: int, _: FrameType | None) -> None:
        """End; at a second signal without waiting for requests."""
        if self._stopping:
            self._signal(signal.SIGINT if self._stopping is signal.SIGTERM else signal.SIGTERM)
            return
        self._stopping = signal.Signals(number)
        self._ring.send_bytes(b"!")

    def _end(self) -> None:
        """End every worker as this process is ended, at last by force."""
        self._signal(self._stopping or signal.SIGINT)
        deadline = time.monotonic() + self._settings.shutdown_drain_seconds + GRACE
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


def work(
    worker: int, settings: Settings, redis_url: str, listeners: list[socket.socket], folder: Path, ready: Connection
) -> None:
    """Serve as one of several processes; this is where a new one begins."""
    signal.signal(signal.SIGTERM, _leave)
    end_as_sigint()
    logs.configure(settings.log_level, settings.log_format, worker=worker)
    metrics.share(folder, worker)
    with contextlib.suppress(KeyboardInterrupt):
        Server(settings, redis_url, started=lambda: ready.send_bytes(b"!")).run(listeners)


def _leave(*_: Any) -> None:
    raise SystemExit(0)
