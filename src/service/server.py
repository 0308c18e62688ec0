"""The HTTP server: uvicorn, set up for this service, and what it says when it is ready."""

import socket
import sys
from typing import Final

import uvicorn

from service import __version__
from service.app import create_app
from service.settings import Settings

READY: Final = """\
jobstate {version} listens on {url}
  jobs      {home}
  API       {url}/schema/openapi.json
  try       curl {url}/v1/jobs -H 'Content-Type: application/json' -d '{{"input_params": {{"hello": "world"}}}}'
            curl {url}/v1/jobs
"""


class ListenError(Exception):
    """The address to listen on cannot be had; the message says why and what to change."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address, not listening yet. Raises `ListenError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = f"Cannot listen on {host} port {port}: {error.strerror}"
        raise ListenError(f"{reason}; choose another JOBSTATE_HOST or JOBSTATE_PORT.") from error
    return bound


class Server(uvicorn.Server):
    """Serves until it gets SIGINT or SIGTERM, then waits for the requests in flight."""

    def __init__(self, settings: Settings, redis_url: str, *, home: str) -> None:
        """Work on the Redis at `redis_url`; `home` says to people where the jobs are."""
        self._home = home
        super().__init__(
            uvicorn.Config(
                create_app(settings, redis_url),
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_drain_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(READY.format(version=__version__, url=self._url(), home=self._home))
            sys.stdout.flush()

    def _url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
