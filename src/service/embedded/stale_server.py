"""Ending a server that a killed service left behind, so that its data can be opened again."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from service.embedded.data_directory import DataDirectory
from service.embedded.errors import EmbeddedServerError

#: Seconds that a server has for anything but reading its data, which takes as long as it takes.
STOP_TIMEOUT: Final = 30.0

_log = structlog.get_logger(__name__)


def acquire_server_lock(directory: DataDirectory, stopping: threading.Event) -> int:
    """Return the lock that a running server holds, after ending one that holds it now; its data stays.

    Raises `EmbeddedServerError` if it does not end, or if the service is stopped meanwhile.
    """
    for end in (_shut_down, _signal(signal.SIGTERM), _signal(signal.SIGKILL)):
        if (lock := directory.lock("server")) is not None:
            return lock
        _log.warning("ending the server that an earlier service left behind", data=str(directory.path))
        end(directory)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if (lock := directory.lock("server")) is not None:
                return lock
            if stopping.wait(0.01):
                raise EmbeddedServerError("The service was stopped before its server started.")
    raise EmbeddedServerError(f"The server left behind in {directory.path} does not end; end it by hand.")


def send_command(path: Path, command: str) -> str:
    """Return the first line of a server's answer on a unix socket; empty if there is none within a second."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(512).decode(errors="replace").split("\r\n", 1)[0]
        except OSError:
            return ""


def _shut_down(directory: DataDirectory) -> None:
    """Ask for an orderly end: the append-only file is written out."""
    send_command(directory.socket, "SHUTDOWN")


def _signal(number: signal.Signals) -> Callable[[DataDirectory], None]:
    def send(directory: DataDirectory) -> None:
        try:
            pid = int(directory.pid_file.read_text())
            if str(directory.path) in _command_of(pid):
                os.kill(pid, number)
        except (OSError, ValueError):
            _log.warning("the process id of the server left behind is not known", pid_file=str(directory.pid_file))

    return send


def _command_of(pid: int) -> str:
    """Return the command line of a process: a process id on file may be another program's by now."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        said = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
        return said.stdout
