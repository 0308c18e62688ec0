"""Looking into a data directory, whether its service runs or not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from service.embedded.data_directory import DataDirectory
from service.embedded.errors import EmbeddedServerError
from service.embedded.server import EmbeddedServer
from service.embedded.stale_server import send_command


@contextlib.contextmanager
def attach_or_start(data: Path) -> Iterator[tuple[str, str]]:
    """Yield the URL of the server that runs on `data`, else of one that is started for the block, and where it is.

    Raises `EmbeddedServerError` where there are no jobs, or the server cannot run.
    """
    if not (data / "appendonlydir").is_dir():
        raise EmbeddedServerError(f"JOBSTATE_DATA={data}: there are no jobs in it.")
    directory = DataDirectory(data)
    if send_command(directory.socket, "PING"):
        yield directory.url, f"{directory.path}, which a service works on"
    else:
        with EmbeddedServer(data) as server:
            yield server.url, f"{directory.path}, which no service works on"
