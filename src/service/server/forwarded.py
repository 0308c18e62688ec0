"""The `X-Forwarded-…` headers of trusted proxies: client address, scheme, host and removed path prefix."""

import re
from typing import Any, Final

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.api.request_context import context_of

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+;=:@%-]+)*")


class ForwardedHeaders(ProxyHeadersMiddleware):
    """ASGI middleware that adds `X-Forwarded-Host` and `X-Forwarded-Prefix` to the headers that uvicorn supports."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Apply the headers of a trusted proxy; ignore those of any other client."""
        if scope["type"] == "http":
            client = scope.get("client")
            if (client[0] if client else None) in self.trusted_hosts:
                _apply(scope)
        await super().__call__(scope, receive, send)


def _apply(scope: Any) -> None:
    hosts = _values(scope, b"x-forwarded-host")
    if hosts:
        # Each proxy appends a value: only the last one comes from the trusted proxy.
        others = [header for header in scope["headers"] if header[0] != b"host"]
        scope["headers"] = [(b"host", hosts[-1].encode("latin-1")), *others]
    # Each of several proxies removes its own prefix, so the prefixes join to the full one.
    prefix = "".join(value.rstrip("/") for value in _values(scope, b"x-forwarded-prefix"))
    if prefix and _PREFIX.fullmatch(prefix):
        context_of(scope).path_prefix = prefix


def _values(scope: Any, name: bytes) -> list[str]:
    """Return the values of a list header, in order over all its lines."""
    lines = [value.decode("latin-1") for header, value in scope["headers"] if header == name]
    return [value.strip() for value in ",".join(lines).split(",") if value.strip()]
