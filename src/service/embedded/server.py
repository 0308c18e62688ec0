"""The embedded server: started, supervised and stopped by the service that owns its data directory."""

import atexit
import os
import subprocess
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

import structlog

from service.embedded.binary import Binary, find
from service.embedded.data_directory import DataDirectory
from service.embedded.errors import EmbeddedServerError
from service.embedded.permissions import restrict_to_owner
from service.embedded.stale_server import STOP_TIMEOUT, acquire_server_lock, send_command

#: Seconds before a server that exited is restarted. The pause doubles with each exit, up to `MAX_BACKOFF`.
MIN_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0

_log = structlog.get_logger(__name__)


class EmbeddedServer:
    """Context manager that runs a durable Valkey or Redis on a unix socket.

    The server syncs its append-only file before each reply and evicts nothing. It is restarted if it exits. One process
    owns a data directory. If a killed owner has left a stale server running, that one is stopped first.
    """

    def __init__(self, data: Path) -> None:
        """Prepare to store data in the directory `data`. Raises `EmbeddedServerError` if that is not possible."""
        self.binary: Binary = find()
        self.directory = DataDirectory(data)
        self.url = self.directory.url
        self._owner_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # A handler of a signal may raise between any two instructions of the main thread, also where an `Event` or a
        # `Future` holds its lock, for which the supervisor would then wait for ever. These two hold none.
        self._is_stopping = False
        #: One item: the error of the start, or `None`.
        self._started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._supervisor = threading.Thread(target=self._supervise, name="embedded-server", daemon=True)

    def __enter__(self) -> Self:
        """Lock the directory and start the server. Raises `EmbeddedServerError`."""
        restrict_to_owner(self.directory.path)
        atexit.register(self._release)  # a signal may arrive before the `with` block begins
        self._owner_lock = self.directory.lock("owner")
        try:
            if self._owner_lock is None:
                raise EmbeddedServerError(
                    f"Another service uses {self.directory.path}. Stop it, or change `JOBSTATE_DATA`."
                )
            self.directory.check_compatible(self.binary)
            self._supervisor.start()
            if (error := self._started.get()) is not None:
                raise error
        except BaseException:  # including those raised by signals
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Stop the server and unlock the directory."""
        self._release()

    def __str__(self) -> str:
        return f"{self.directory.path} ({self.binary}; inspect: redis-cli -s {self.directory.socket})"

    @property
    def pid(self) -> int | None:
        """The process id of the server, or `None` while it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def _release(self) -> None:
        self._is_stopping = True
        self._stop_server()
        while self._supervisor.is_alive():  # it may still start a server
            self._supervisor.join(0.05)
            self._stop_server()
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None
        atexit.unregister(self._release)

    def _stop_server(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _launch(self) -> None:
        lock = acquire_server_lock(self.directory, lambda: self._is_stopping)
        try:
            with self.directory.open_log() as log:
                self._process = subprocess.Popen(
                    [self.binary.path, *self._options()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),  # held until the server exits, even if this process is killed
                    start_new_session=True,  # Ctrl-C must not reach the server
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
        return [argument for name, value in options.items() for argument in (f"--{name}", value)]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT
        while (reply := send_command(self.directory.socket, "PING")) != "+PONG":
            if process.poll() is not None:
                raise EmbeddedServerError(f"{self.binary} exited during startup. End of its log:\n{self._log_tail()}")
            if reply.startswith("-LOADING"):
                deadline = time.monotonic() + STOP_TIMEOUT
            if time.monotonic() > deadline:
                self._stop_server()
                raise EmbeddedServerError(f"{self.binary} does not respond. End of its log:\n{self._log_tail()}")
            time.sleep(0.005)

    def _log_tail(self) -> str:
        return "\n".join(self.directory.log.read_text(errors="replace").splitlines()[-8:])

    def _supervise(self) -> None:
        """Start the server, and restart it whenever it exits, until the service stops.

        Signal handlers run in the main thread only. In this thread no signal can separate the start of a process from
        the assignment of `self._process`.
        """
        try:
            self._launch()
        except BaseException as error:
            self._stop_server()
            self._started.put(error)
            return
        self._started.put(None)
        pause = MIN_BACKOFF
        while True:
            exit_code = self._process.wait() if self._process else None
            restart_at = time.monotonic() + pause
            while time.monotonic() < restart_at and not self._is_stopping:
                time.sleep(0.01)
            if self._is_stopping:
                return
            _log.error("embedded server exited, restarting", exit_code=exit_code)
            started = time.monotonic()
            try:
                self._launch()
            except EmbeddedServerError as error:
                if not self._is_stopping:
                    _log.error("embedded server restart failed", detail=str(error))
            pause = MIN_BACKOFF if time.monotonic() - started > 60 else min(pause * 2, MAX_BACKOFF)
