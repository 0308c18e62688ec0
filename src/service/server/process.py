"""One process that serves: uvicorn's server with the limits and the end that this service has."""

import asyncio
import multiprocessing
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.app import create_service
from service.metrics import Metrics
from service.server.connection import connections
from service.server.descriptors import make_room
from service.settings import Settings


class Server(uvicorn.Server):
    """Serves until SIGINT, SIGTERM, or the end of the process that started it, then until its requests are answered."""

    def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
        """Work on the Redis at `redis_url`; call `started` once requests are answered."""
        make_room(settings)
        self._on_started = started
        metrics = Metrics()
        super().__init__(
            uvicorn.Config(
                create_service(settings, redis_url, metrics),
                http=connections(settings, metrics.refused),
                ws="none",
                lifespan="on",
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                timeout_keep_alive=settings.keep_alive_seconds,
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_drain_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so; end with the process that started this one."""
        await super().startup(sockets)
        if self.started:
            if (parent := multiprocessing.parent_process()) is not None:
                asyncio.get_running_loop().add_reader(parent.sentinel, self._left_alone, parent.sentinel)
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at a second signal without waiting for requests."""
        if self._captured_signals:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what serves; whoever is not answered by then is cut off rather than told half of it."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _left_alone(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self.should_exit = True
