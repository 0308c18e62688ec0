"""The start of a process that serves."""

import gc
import socket
from collections.abc import Callable

from service.settings import Settings


def run_server(
    settings: Settings, redis_url: str, listeners: list[socket.socket], *, started: Callable[[], None]
) -> None:
    """Serve in this process until a signal or the exit of its parent. Call `started` once it accepts requests."""
    gc.disable()  # an import creates many objects and almost no garbage
    try:
        from service.server.server import Server  # imports the application, which a supervisor does not need

        server = Server(settings, redis_url, started=started)
    finally:
        gc.enable()
    server.run(listeners)
