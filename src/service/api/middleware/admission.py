"""Middleware that rejects requests before the application runs: too many, for another host, from another origin."""

from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.middleware.concurrency import ConcurrencyLimiter, RequestSlot
from service.api.middleware.hosts import check_host
from service.api.middleware.origins import check_origin, cors_headers
from service.api.middleware.rejections import send_rejection

#: Paths without any check: probes address a replica by its IP address, and must not take a busy process for dead.
EXEMPT_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})


def admit_requests(
    app: ASGIApp, limiter: ConcurrencyLimiter, hosts: tuple[str, ...] | None, origins: tuple[str, ...]
) -> ASGIApp:
    """Return `app` behind the checks; each admitted request is counted until it ends.

    `hosts` are the allowed hosts (`None`: every host), `origins` the other origins of pages.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] in EXEMPT_PATHS:
            await app(scope, receive, send)
        elif rejection := limiter.check(scope) or check_host(scope, hosts) or check_origin(scope, origins):
            headers = {**rejection.headers, **cors_headers(scope, origins)}
            await send_rejection(scope, send, rejection._replace(headers=headers))
        else:
            slot = RequestSlot(limiter, scope)
            try:
                await app(scope, receive, send)
            finally:
                slot.release()

    return handle
