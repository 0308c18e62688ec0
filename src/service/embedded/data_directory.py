"""A data directory: its files, its locks, its socket, and the server that last opened it."""

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

import msgspec

from service.embedded.binary import Binary, ServerInfo
from service.embedded.errors import EmbeddedServerError
from service.embedded.permissions import refuse_replaceable

#: Maximum bytes of a unix socket's path on every platform (macOS: 104 with the final zero byte, unix(4)).
SOCKET_PATH_LIMIT: Final = 100


class DataDirectory:
    """The directory of one embedded server, created with mode 700 if it is missing."""

    def __init__(self, path: Path) -> None:
        """Raise `EmbeddedServerError` if the directory cannot be created or used."""
        self.path = path.absolute()
        try:
            for parent in reversed(self.path.parents):
                parent.mkdir(mode=0o755, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedServerError(_unusable(path, error)) from error
        self.socket = self._socket()
        self.log = self.path / "server.log"
        self.pid_file = self.path / "server.pid"
        self._server_info_file = self.path / "server.json"

    @property
    def url(self) -> str:
        """The URL of the server on this directory."""
        return f"unix://{quote(str(self.socket))}?db=0"

    def open_log(self) -> BinaryIO:
        """Return a new file for the output of the server. The previous one is kept as `server.log.1`."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        return open(self.log, "wb", opener=_open_private)

    def lock(self, name: str) -> int | None:
        """Lock the file of that name and return its descriptor, or `None` if another process holds the lock.

        The lock lasts until every process has closed the descriptor, including child processes that inherit it.
        """
        try:
            file = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedServerError(_unusable(self.path, error)) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def check_compatible(self, binary: Binary) -> None:
        """Raise `EmbeddedServerError` if the data was written by a server whose data `binary` cannot read."""
        try:
            writer = msgspec.json.decode(self._server_info_file.read_bytes(), type=ServerInfo)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            raise EmbeddedServerError(
                f"{self._server_info_file} cannot be read: {error}. Restore it from a backup."
            ) from error
        if not binary.can_read_data_of(writer):
            raise EmbeddedServerError(
                f"The jobs in {self.path} were written by {writer}. {binary} ({binary.path}) cannot read them. "
                f"They are unchanged. Install {writer} or later, or set `JOBSTATE_DATA` to an empty directory."
            )

    def record_server(self, binary: Binary) -> None:
        """Record that `binary` has opened the data."""
        new_file = self._server_info_file.with_suffix(".new")
        with open(new_file, "wb", opener=_open_private) as file:
            file.write(msgspec.json.encode(ServerInfo(binary.product, binary.version)))
        new_file.replace(self._server_info_file)

    def _socket(self) -> Path:
        socket = self.path / "redis.sock"
        if len(os.fsencode(socket)) <= SOCKET_PATH_LIMIT:
            return socket
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"jobstate-{os.getuid()}-{name}"
        refuse_replaceable(directory, "TMPDIR")
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700:
            raise EmbeddedServerError(f"{directory} is not a directory of this user with mode 700. Remove it.")
        return directory / "redis.sock"


def _unusable(path: Path, error: OSError) -> str:
    return f"`JOBSTATE_DATA`: {path} cannot be used: {error.strerror}. Choose another directory."


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
