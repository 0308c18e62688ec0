"""HTTP clients that are quick to make: httpx reads every certificate authority anew for each, which takes 40 ms."""

import ssl
from typing import Any, Final

import httpx

TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Transport(httpx.AsyncHTTPTransport):
    """A transport for which a connection that is reset as soon as it is made has not come about."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:  # of anyio over uvloop, which looks at the socket that is gone
            raise httpx.ConnectError("reset as it was made", request=request) from error


def connected(url: str, *, connect: float = 3, timeout: float = 10, **more: Any) -> httpx.AsyncClient:
    """Return a client of the service at `url`; its time-outs are in seconds."""
    return httpx.AsyncClient(
        base_url=url, timeout=httpx.Timeout(timeout, connect=connect), transport=Transport(verify=TLS), **more
    )
