"""Runs the `jobstate` command as a process, on pipes or on a pseudo-terminal."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from typing import Any, NamedTuple, Self

from tests.helpers.paths import ROOT
from tests.helpers.polling import TIMEOUT, wait_until

#: Terminal control sequences: cursor movement and colours.
CONTROL_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[78]|\r")


class CommandResult(NamedTuple):
    """The exit code and output of a command."""

    code: int
    out: bytes
    err: str


def environment(url: str, **more: str) -> dict[str, str]:
    dropped = ("JOB", "REDIS_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**inherited, "JOBSTATE_URL": url, "TERM": "xterm-256color", **more}


def jobstate(url: str, *args: str, stdin: bytes = b"", **env: str) -> CommandResult:
    """Run a command on pipes and return its result."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *args],
        cwd=ROOT,
        env=environment(url, **env),
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


class RunningCommand:
    """A running command and its output so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: int, errors: int | None = None) -> None:
        self.process = process
        self._written: dict[int, bytearray] = {}
        self._readers = [self._read(stream) for stream in (output, errors) if stream is not None]
        self._output, self._errors = output, errors

    def _read(self, stream: int) -> threading.Thread:
        written = self._written[stream] = bytearray()

        def read() -> None:
            with contextlib.suppress(OSError):  # the process of the terminal has exited
                while part := os.read(stream, 65536):
                    written.extend(part)

        reader = threading.Thread(target=read)
        reader.start()
        return reader

    @property
    def raw(self) -> str:
        return bytes(self._written[self._output]).decode()

    @property
    def text(self) -> str:
        """The output without control sequences."""
        return CONTROL_SEQUENCES.sub("", self.raw)

    @property
    def errors(self) -> str:
        return bytes(self._written[self._errors or self._output]).decode()

    def wait_for_output(self, text: str) -> None:
        wait_until(lambda: text in self.text or text in self.errors, f"{text!r}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code when the command has exited and all its output is read."""
        code = self.process.wait(TIMEOUT)
        for reader in self._readers:
            reader.join(TIMEOUT)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.wait()
        for stream in self._written:
            os.close(stream)


def start(url: str, *args: str, **env: str) -> RunningCommand:
    """Start a command on pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *args],
        cwd=ROOT,
        env=environment(url, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    streams = [os.dup(stream.fileno()) for stream in (process.stdout, process.stderr)]
    process.stdout.close()
    process.stderr.close()
    return RunningCommand(process, *streams)


def start_on_terminal(url: str, *args: str, columns: int = 120, lines: int = 30, **env: str) -> RunningCommand:
    """Start a command on a new pseudo-terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *args],
        cwd=ROOT,
        env=environment(url, **env),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    return RunningCommand(process, controller)
