"""Runs the service as its users do: the `jobstate` command in a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.helpers.guards import Guard
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import TIMEOUT, free_port


class Service:
    """A running service. `start` after `kill` or `stop` uses the same port and data."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        defaults = {"JOBSTATE_PORT": str(free_port()), "JOBSTATE_DATA": str(folder / "data")}
        self._environment = {**defaults, "REDIS_PARTITIONS": str(len(PARTITIONS)), **environment}
        self._log = folder / "service.log"
        self.start()

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "JOB"))}
        before = len(self.log) if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                env=inherited | self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._guard = Guard(self.process, signal.SIGINT)
        self.banner = self._read_banner()
        listening = re.search(r"listens on (http://\S+)", self.banner)
        assert listening, f"the service did not start: {self.banner}{self.log[before:]}"
        self.url = listening[1]

    def _read_banner(self) -> str:
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(line.decode())
            if line.strip().startswith(b"curl"):
                break
        return "".join(lines)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(TIMEOUT)
        self._guard.close()
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGINT)  # unlike SIGTERM, it does not wait for the leases that a test left


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """Pause a process for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
