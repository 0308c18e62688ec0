"""A data directory: who owns it, where its socket is, and which server wrote it."""

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

import msgspec

from service.embedded.binary import Binary
from service.embedded.errors import EmbeddedServerError
from service.embedded.permissions import refuse_replaceable, restrict_to_owner

#: Bytes that the path of a unix socket may have on every system (macOS: 104 with the final zero).
SOCKET_PATH_LIMIT: Final = 100


class ServerInfo(msgspec.Struct, frozen=True):
    """The server that last opened a directory."""

    product: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


class DataDirectory:
    """The directory of one embedded server, made with mode 700 where it is missing."""

    def __init__(self, path: Path) -> None:
        """Raise `EmbeddedServerError` where the directory cannot be made or used."""
        self.path = path.absolute()
        try:
            for parent in reversed(self.path.parents):
                parent.mkdir(mode=0o755, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedServerError(f"JOBSTATE_DATA={path}: {error.strerror}") from error
        self.socket = self._socket()
        self.log = self.path / "server.log"
        self.pid_file = self.path / "server.pid"
        self._writer_file = self.path / "server.json"

    @property
    def url(self) -> str:
        """Where the server on it is reached."""
        return f"unix://{quote(str(self.socket))}?db=0"

    def make_private(self) -> None:
        """Remove the access of other users. Raises `EmbeddedServerError` where that cannot be done."""
        restrict_to_owner(self.path)

    def open_log(self) -> BinaryIO:
        """Return a new file for the output of the server; the one before is kept."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        return open(self.log, "wb", opener=_open_private)

    def lock(self, name: str) -> int | None:
        """Take the lock of that name and return its open file; `None` while another process holds it.

        The lock lasts as long as any process has the file open, so a child that inherits it holds it on.
        """
        try:
            file = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedServerError(f"JOBSTATE_DATA={self.path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def check_compatible(self, binary: Binary) -> None:
        """Raise `EmbeddedServerError` where the data is of a server that `binary` cannot follow."""
        try:
            writer = msgspec.json.decode(self._writer_file.read_bytes(), type=ServerInfo)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            raise EmbeddedServerError(f"{self._writer_file} cannot be read: {error}") from error
        if not binary.can_read_data_from(writer.product, writer.version):
            raise EmbeddedServerError(
                f"The jobs in {self.path} were written by {writer}, and {binary} ({binary.path}) cannot read them; "
                f"they are untouched. Install {writer} or later, or start with an empty JOBSTATE_DATA."
            )

    def record_server(self, binary: Binary) -> None:
        """Note that `binary` has opened the data."""
        noted = self._writer_file.with_suffix(".new")
        with open(noted, "wb", opener=_open_private) as file:
            file.write(msgspec.json.encode(ServerInfo(binary.product, binary.version)))
        noted.replace(self._writer_file)

    def _socket(self) -> Path:
        socket = self.path / "redis.sock"
        if len(os.fsencode(socket)) <= SOCKET_PATH_LIMIT:
            return socket
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"jobstate-{os.getuid()}-{name}"
        refuse_replaceable(folder, "TMPDIR")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise EmbeddedServerError(f"{folder} is not a directory of ours with mode 700; remove it")
        return folder / "redis.sock"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
