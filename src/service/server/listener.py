"""The socket that the service listens on."""

import socket
from typing import Final

#: Milliseconds until TCP closes a connection whose sent data is not acknowledged (tcp(7)).
TCP_USER_TIMEOUT_MS: Final = 60_000


class ListenError(Exception):
    """The service cannot listen on its address. The message says why and what to change."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address but not listening yet. Raises `ListenError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted connections inherit the timeout. It detects subscribers whose machine has failed.
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = f"Cannot listen on {host} port {port}: {error.strerror}."
        raise ListenError(f"{reason} Change `JOBSTATE_HOST` or `JOBSTATE_PORT`.") from error
    return bound


def url_of(listener: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
