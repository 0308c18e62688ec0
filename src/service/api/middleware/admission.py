"""Middleware that rejects requests before the application runs: too many, for another host, from another origin."""

from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api.middleware.concurrency import ConcurrencyLimiter, RequestSlot
from service.api.middleware.hosts import check_host
from service.api.middleware.origins import check_origin, cors_headers
from service.api.middleware.rejections import Rejection, send_rejection

#: Paths without any check: probes address a replica by its IP address, and must not take a busy process for dead.
EXEMPT_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})


class AdmissionMiddleware:
    """ASGI middleware that runs the checks in order, and counts each admitted request until it ends."""

    def __init__(
        self, app: ASGIApp, limiter: ConcurrencyLimiter, hosts: tuple[str, ...] | None, origins: tuple[str, ...]
    ) -> None:
        """Wrap `app`. `hosts` are the allowed hosts (`None`: every host), `origins` the other origins of pages."""
        self._app = app
        self._limiter = limiter
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request or call the app."""
        if scope["type"] != ScopeType.HTTP or scope["path"] in EXEMPT_PATHS:
            await self._app(scope, receive, send)
        elif rejection := self._check(scope):
            headers = {**rejection.headers, **cors_headers(scope, self._origins)}
            await send_rejection(scope, send, rejection._replace(headers=headers))
        else:
            slot = RequestSlot(self._limiter, scope)
            try:
                await self._app(scope, receive, send)
            finally:
                slot.release()

    def _check(self, scope: HTTPScope) -> Rejection | None:
        return self._limiter.check(scope) or check_host(scope, self._hosts) or check_origin(scope, self._origins)
