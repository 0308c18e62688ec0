"""The embedded server: started, watched over and ended by the service that owns its data directory."""

import atexit
import os
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from service.embedded.binary import Binary, find
from service.embedded.data_directory import DataDirectory
from service.embedded.errors import EmbeddedServerError
from service.embedded.stale_server import STOP_TIMEOUT, acquire_server_lock, send_command

#: Seconds that a started server that died is left alone at first; doubled each time, up to the most.
MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0

_log = structlog.get_logger(__name__)


class EmbeddedServer:
    """A Valkey or Redis of our own, durable, on a unix socket; a context manager.

    It keeps an append-only file that is synced before each answer, evicts nothing, and is started again when it dies.
    One process owns a data directory; a server that a killed owner left behind is ended first, its data kept.
    """

    def __init__(self, data: Path) -> None:
        """Prepare to keep data in `data`. Raises `EmbeddedServerError` where that cannot be."""
        self.binary: Binary = find()
        self.directory = DataDirectory(data)
        self.url = self.directory.url
        self._owner: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._started: Future[None] = Future()
        self._watcher = threading.Thread(target=self._supervise, name="embedded-server", daemon=True)

    def __enter__(self) -> Self:
        """Own the directory and start the server. Raises `EmbeddedServerError` saying why it cannot run."""
        self.directory.make_private()
        atexit.register(self._release)  # for a signal that comes where no `with` block ends the server yet
        self._owner = self.directory.lock("owner")
        try:
            if self._owner is None:
                raise EmbeddedServerError(
                    f"Another jobstate works on {self.directory.path}: stop it, or choose another JOBSTATE_DATA."
                )
            self.directory.check_compatible(self.binary)
            self._watcher.start()
            self._started.result()
        except BaseException:  # a signal's, too
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the server and give up the directory."""
        self._release()

    def __str__(self) -> str:
        return f"{self.directory.path} ({self.binary}; look with: redis-cli -s {self.directory.socket})"

    @property
    def pid(self) -> int | None:
        """The process id of the server; `None` while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def _release(self) -> None:
        self._stopping.set()
        self._end()
        while self._watcher.is_alive():  # it may be about to start a server
            self._watcher.join(0.05)
            self._end()
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None
        atexit.unregister(self._release)

    def _end(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _launch(self) -> None:
        lock = acquire_server_lock(self.directory, self._stopping)
        try:
            with self.directory.open_log() as log:
                self._process = subprocess.Popen(
                    [self.binary.path, *self._options()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),  # held as long as the server lives, whatever becomes of us
                    start_new_session=True,  # Ctrl-C is for the service
                    umask=0o077,
                )
        finally:
            os.close(lock)
        self._wait_until_ready(self._process)
        self.directory.record_server(self.binary)

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.directory.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory.path),
            "pidfile": str(self.directory.pid_file),
            "set-proc-title": "no",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "4096",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT
        while (answer := send_command(self.directory.socket, "PING")) != "+PONG":
            if process.poll() is not None:
                raise EmbeddedServerError(f"{self.binary} ended at its start. Its log says:\n{self._log_tail()}")
            if answer.startswith("-LOADING"):
                deadline = time.monotonic() + STOP_TIMEOUT
            if time.monotonic() > deadline:
                self._end()
                raise EmbeddedServerError(f"{self.binary} does not answer. Its log says:\n{self._log_tail()}")
            time.sleep(0.005)

    def _log_tail(self) -> str:
        return "\n".join(self.directory.log.read_text(errors="replace").splitlines()[-8:])

    def _supervise(self) -> None:
        """Start the server, and start it again whenever it dies, until the service stops.

        No signal handler runs in this thread, so none can lose a process between its start and the note of it.
        """
        try:
            self._launch()
        except BaseException as error:
            self._end()
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        pause = MIN_BACKOFF
        while True:
            code = self._process.wait() if self._process else None
            if self._stopping.wait(pause):
                return
            _log.error("the embedded server has died; starting it again", exit_code=code)
            started = time.monotonic()
            try:
                self._launch()
            except EmbeddedServerError as error:
                if not self._stopping.is_set():
                    _log.error("the embedded server could not be started again", detail=str(error))
            pause = MIN_BACKOFF if time.monotonic() - started > 60 else min(pause * 2, MAX_BACKOFF)
