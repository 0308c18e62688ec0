"""HTTP clients that are quick to make: httpx reads every certificate authority anew for each, which takes 40 ms."""

import ssl
from typing import Any, Final

import httpx

TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def connected(url: str, *, connect: float = 3, timeout: float = 10, **more: Any) -> httpx.AsyncClient:
    """Return a client of the service at `url`; its time-outs are in seconds."""
    return httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(timeout, connect=connect), verify=TLS, **more)
