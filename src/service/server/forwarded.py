"""What trusted proxies say about a request: the client's address, the scheme, the host and the removed path prefix."""

import re
from typing import Any, Final

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.api.addresses import PATH_PREFIX

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+;=:@%-]+)*")


class ForwardedHeaders(ProxyHeadersMiddleware):
    """An ASGI application around another: adds `X-Forwarded-Host` and `X-Forwarded-Prefix` to what uvicorn reads."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Apply the headers of a trusted proxy; those of anybody else have no effect."""
        if scope["type"] == "http":
            client = scope.get("client")
            if (client[0] if client else None) in self.trusted_hosts:
                _apply(scope)
        await super().__call__(scope, receive, send)


def _apply(scope: Any) -> None:
    hosts = _values(scope, b"x-forwarded-host")
    if hosts:
        # Each proxy appends what it saw: the last value is that of the trusted proxy, those before it are the client's.
        others = [one for one in scope["headers"] if one[0] != b"host"]
        scope["headers"] = [(b"host", hosts[-1].encode("latin-1")), *others]
    # Of several proxies, each removes its prefix from what the one before it has left.
    prefix = "".join(one.rstrip("/") for one in _values(scope, b"x-forwarded-prefix"))
    if prefix and _PREFIX.fullmatch(prefix):
        scope["state"][PATH_PREFIX] = prefix


def _values(scope: Any, name: bytes) -> list[str]:
    """Return the values of a list header, those of several lines in their order."""
    lines = [value.decode("latin-1") for header, value in scope["headers"] if header == name]
    return [one.strip() for one in ",".join(lines).split(",") if one.strip()]
