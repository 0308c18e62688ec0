"""Checks of a request's `Origin` against `CORS_ORIGINS`, and Litestar's CORS with the same comparison.

A browser sends a preflight only for requests that no HTML form can send. So the service also checks the `Origin` of
every request that changes something.
"""

from collections.abc import Sequence
from typing import Final

from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api import rate_limit
from service.api.middleware.header_lines import get_header
from service.api.middleware.rejections import Rejection, send_rejection
from service.api.problems import ORIGIN_NOT_ALLOWED
from service.api.request_context import CORRELATION_HEADER
from service.domain.origins import is_same_origin, normalize_origin

#: Methods that change nothing.
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: The response headers that a page of an allowed origin may read.
EXPOSED_HEADERS: Final = [
    *("ETag", "Location", "Retry-After", "Idempotency-Replayed", "WWW-Authenticate"),
    *(CORRELATION_HEADER, *rate_limit.HEADERS),
]


def check_origin(scope: HTTPScope, allowed: Sequence[str]) -> Rejection | None:
    """Return the rejection of a change by a page of an origin that is neither the service's own nor in `allowed`."""
    origin = get_header(scope, b"origin")
    if scope["method"] in _SAFE_METHODS or origin is None or is_allowed(origin, allowed):
        return None
    if is_same_origin(origin, get_header(scope, b"host") or ""):
        return None
    problem = f"Web pages from the origin {origin} may not change data of this service."
    return Rejection(ORIGIN_NOT_ALLOWED, f"{problem} Add the origin to `CORS_ORIGINS` to allow it.")


def cors_headers(scope: HTTPScope, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers that let a page of an allowed origin read a rejection."""
    origin = get_header(scope, b"origin")
    if origin is None or not is_allowed(origin, allowed):
        return {}
    return {"access-control-allow-origin": origin, "access-control-expose-headers": "retry-after", "vary": "origin"}


def is_allowed(origin: str, allowed: Sequence[str]) -> bool:
    """Return whether an origin is in `allowed`, whose origins are normalized; `*` allows every origin."""
    if "*" in allowed:
        return True
    try:
        return normalize_origin(origin) in allowed
    except ValueError:
        return False


class NormalizingCORSConfig(CORSConfig):
    """Litestar's CORS with normalized origins: it accepts the default port and capital letters."""

    def is_origin_allowed(self, origin: str) -> bool:
        """Return whether pages of an origin may read responses."""
        return is_allowed(origin, self.allow_origins)


def cors_config(origins: Sequence[str]) -> CORSConfig | None:
    """Return the CORS of pages of these origins, `None` without any."""
    return NormalizingCORSConfig(allow_origins=list(origins), expose_headers=EXPOSED_HEADERS) if origins else None


def reject_preflights(app: ASGIApp, config: CORSConfig) -> ASGIApp:
    """Return `app` such that preflights that `config` does not allow get a problem; Litestar (2.25) sends plain text.

    Litestar takes every OPTIONS request with an `Origin` for a preflight, so the origin of any other one is removed.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS":
            await app(scope, receive, send)
            return
        origin = get_header(scope, b"origin")
        if not origin or config.is_origin_allowed(origin):
            await app(scope, receive, send)
        elif get_header(scope, b"access-control-request-method") is None:
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"origin"]
            await app(scope, receive, send)
        else:
            problem = f"Web pages from the origin {origin} may not call this service."
            detail = f"{problem} Add the origin to `CORS_ORIGINS` to allow it."
            await send_rejection(scope, send, Rejection(ORIGIN_NOT_ALLOWED, detail))

    return handle
