"""HTTP clients that are cheap to create: by default httpx loads all certificate authorities for each (40 ms)."""

import ssl
from typing import Any, Final

import httpx

TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Transport(httpx.AsyncHTTPTransport):
    """A transport that raises `ConnectError` for a connection that is reset as soon as it is made."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:  # anyio on uvloop reads the socket, which is None by then
            raise httpx.ConnectError("the connection was reset as it was made", request=request) from error


def open_client(url: str, *, connect: float = 3, timeout: float = 10, **more: Any) -> httpx.AsyncClient:
    """Return a client of the service at `url`; timeouts are in seconds."""
    return httpx.AsyncClient(
        base_url=url, timeout=httpx.Timeout(timeout, connect=connect), transport=Transport(verify=TLS), **more
    )
