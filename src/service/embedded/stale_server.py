"""Stopping a stale server, which a killed service has left running, so that its data can be opened again."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from service.embedded.data_directory import DataDirectory
from service.embedded.errors import EmbeddedServerError

#: Seconds for a server to start or stop. Loading its data has no time limit.
STOP_TIMEOUT: Final = 30.0

_log = structlog.get_logger(__name__)


def acquire_server_lock(directory: DataDirectory, is_stopping: Callable[[], bool]) -> int:
    """Return the lock of a running server, after stopping a stale server that holds it.

    Raises `EmbeddedServerError` if the stale server does not stop, or once `is_stopping`: the service is stopped.
    """
    for stop in (_shut_down, partial(_signal, signal.SIGTERM), partial(_signal, signal.SIGKILL)):
        if (lock := directory.lock("server")) is not None:
            return lock
        _log.warning("stopping stale embedded server", data=str(directory.path))
        stop(directory)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if (lock := directory.lock("server")) is not None:
                return lock
            if is_stopping():
                raise EmbeddedServerError("The service was stopped before its embedded server started.")
            time.sleep(0.01)
    raise EmbeddedServerError(f"The stale server in {directory.path} does not stop. Kill it by hand.")


def send_command(path: Path, command: str) -> str:
    """Return the first line of a server's reply on a unix socket, or an empty string if there is none in a second."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(512).decode(errors="replace").split("\r\n", 1)[0]
        except OSError:
            return ""


def _shut_down(directory: DataDirectory) -> None:
    """Send `SHUTDOWN`, which completes the append-only file."""
    send_command(directory.socket, "SHUTDOWN")


def _signal(number: signal.Signals, directory: DataDirectory) -> None:
    try:
        pid = int(directory.pid_file.read_text())
        if str(directory.path) in _command_line(pid):
            os.kill(pid, number)
    except (OSError, ValueError):
        _log.warning("stale embedded server process id unknown", pid_file=str(directory.pid_file))


def _command_line(pid: int) -> str:
    """Return the command line of a process, since a recorded process id may belong to another program by now."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        output = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
        return output.stdout
