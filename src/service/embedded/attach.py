"""Access to the jobs in a data directory, whether a service uses it or not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from service.embedded.data_directory import DataDirectory
from service.embedded.errors import EmbeddedServerError
from service.embedded.server import EmbeddedServer
from service.embedded.stale_server import send_command


@contextlib.contextmanager
def attach_or_start(data: Path) -> Iterator[tuple[str, str]]:
    """Yield the URL of the server running on `data` and a description of the directory.

    Without such a server, one runs for the duration of the block. Raises `EmbeddedServerError` if `data` contains no
    jobs, or the server cannot run.
    """
    if not (data / "appendonlydir").is_dir():
        raise EmbeddedServerError(f"`JOBSTATE_DATA`: there are no jobs in {data}. Choose a directory with jobs.")
    directory = DataDirectory(data)
    if send_command(directory.socket, "PING"):
        yield directory.url, f"{directory.path}, in use by a running service"
    else:
        with EmbeddedServer(data) as server:
            yield server.url, f"{directory.path}, not in use by a service"
