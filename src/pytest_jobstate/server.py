"""A jobstate service with an embedded server, run as a process."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

#: Seconds in which the service must start or stop.
TIMEOUT: Final = 60.0
#: Seconds to wait for the last lines of the log.
LOG_TIMEOUT: Final = 5.0
MAX_LOG: Final = 64 * 1024
INSTALL: Final = (
    "The command `jobstate` was not found beside this Python or on the `PATH`. "
    "Install `jobstate-server[embedded]`, for example in the environment of the tests."
)
#: Prefixes of the variables that the service inherits. Its settings do not depend on the environment of the tests.
INHERITED: Final = ("PATH", "HOME", "TMP", "TEMP", "LANG", "LC_", "LD_", "DYLD_", "PYTHON", "VIRTUAL_ENV")
_DEFAULTS: Final = {"LOG_FORMAT": "console", "SHUTDOWN_DRAIN_SECONDS": "0"}
_COLOR: Final = re.compile(r"\x1b\[[0-9;]*m")
_BANNER: Final = re.compile(r"listens on (http://\S+)\n.*redis-cli -s (.+)\)\n")
#: Deletes all keys except the event stream: a service that loses its position there resets its clients' streams.
_EMPTY: Final = (
    "for _, key in ipairs(redis.call('KEYS', '*')) do "
    "if key ~= 'jobs:events' then redis.call('UNLINK', key) end end "
    "return redis.status_reply('OK')"
)
#: Stops the service when the process of the tests has ended without doing so: then its end of the pipe is closed.
_GUARD: Final = 'read line; kill "$1"'


class ServerError(Exception):
    """The service does not start, stop or respond. The message says why, and contains the end of its log."""


class JobstateServer:
    """A jobstate service. It keeps its jobs and its URL over `stop` and `start`."""

    #: The address, once it was started.
    url: str = ""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Prepare a service that keeps its data and its log in `folder`. `settings` are its environment variables."""
        if refused := {"REDIS_URL", "REDIS_HOST"} & settings.keys():
            raise ValueError(f"`jobstate_settings`: remove {', '.join(refused)}; the jobs would be deleted there")
        self._log_file = folder / "service.log"
        self._log_file.touch()
        inherited = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        address = {"JOBSTATE_HOST": "127.0.0.1", "JOBSTATE_PORT": "0", "JOBSTATE_DATA": str(folder / "data")}
        self._environment = {**inherited, **_DEFAULTS, **settings, **address}
        self._socket = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def log_size(self) -> int:
        """The size of the log in bytes."""
        return self._log_file.stat().st_size

    def log(self, position: int = 0) -> str:
        """Return the log from a position, such as an earlier `log_size`; at most the last `MAX_LOG` bytes of it."""
        with self._log_file.open("rb") as log:
            log.seek(max(position, self.log_size - MAX_LOG))
            return _COLOR.sub("", log.read().decode(errors="replace"))

    def wait_for_log(self) -> None:
        """Wait until the requests so far are in the log.

        The service writes their lines before it answers another request. It answers none if the test has stopped it.
        """
        url = urlsplit(self.url)
        address = url.hostname, url.port
        with contextlib.suppress(OSError), socket.create_connection(address, LOG_TIMEOUT) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(1)

    def start(self) -> None:
        """Start the service unless it is running. Raises `ServerError`."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        position = self.log_size
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [_command(), "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must not reach the service before the tests have ended
            )
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self.url, self._socket = self._wait_for_banner(self._process, position)
        self._environment["JOBSTATE_PORT"] = self.url.rpartition(":")[2]

    def stop(self) -> None:
        """Stop the service, if it is running. Its jobs are kept."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def restart(self) -> None:
        """Stop and start the service. Its jobs are kept. Raises `ServerError`."""
        self.stop()
        self.start()

    def empty(self) -> None:
        """Delete all jobs and queue settings, the drain, idempotency keys and rate limits. Raises `ServerError`."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT)
                connection.connect(self._socket)
                connection.sendall(f'EVAL "{_EMPTY}" 0\r\n'.encode())
                reply = connection.recv(1024)
        except OSError as error:
            raise ServerError(f"The jobs cannot be deleted: {error}. Its log:\n{self.log()}") from error
        if reply != b"+OK\r\n":
            raise ServerError(f"The jobs cannot be deleted: {reply.decode(errors='replace')}")

    def _wait_for_banner(self, process: subprocess.Popen[bytes], position: int) -> tuple[str, str]:
        """Return the URL of the service and the path of the socket of its embedded server."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            has_exited = process.poll() is not None
            if banner := _BANNER.search(self.log(position)):
                return banner[1], banner[2]
            if has_exited:
                code = process.returncode
                raise ServerError(f"The jobstate service exited with code {code}. Its log:\n{self.log(position)}")
            time.sleep(0.01)
        raise ServerError(f"The jobstate service did not start in {TIMEOUT:g} s. Its log:\n{self.log(position)}")


def _command() -> str:
    """Return the path of the command `jobstate`; that of this environment precedes others. Raises `ServerError`."""
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)))
    command = shutil.which("jobstate", path=path)
    if command is None:
        raise ServerError(INSTALL)
    return command
