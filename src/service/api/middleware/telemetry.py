"""Access log and metrics of every request, also of one without a route.

This middleware also starts a request's time budget for Redis, and adds the headers that every response has.
"""

from __future__ import annotations  # else every request would evaluate those of the nested functions

import time
from typing import Any, Final

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service.api import rate_limit
from service.api.request_context import RAW_CORRELATION_HEADER, RequestContext, context_of, correlation_id
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.store.deadlines import new_budget

#: The logged status of a request whose client disconnected before the response (as in nginx); it is never sent.
CLIENT_CLOSED_REQUEST: Final = 499
#: The logged route of a path that matches none, and the method in its metrics.
UNMATCHED: Final = "unmatched"
#: The maximum characters of a path in the log.
MAX_LOGGED_PATH: Final = 512

_log = structlog.get_logger("service.access")


class TelemetryMiddleware:
    """ASGI middleware that binds the correlation id, times each request and writes its access log line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, shutdown: Shutdown) -> None:
        """Wrap `app`. Close each connection after its response once `shutdown` begins."""
        self._app = app
        self._metrics = metrics
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app and record the request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        status = CLIENT_CLOSED_REQUEST
        path = scope["raw_path"].decode("ascii", "backslashreplace")[:MAX_LOGGED_PATH]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id(scope))
        new_budget()

        async def receive_wrapper() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                context.is_disconnected = True
            return message

        async def send_wrapper(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                if not context.is_disconnected:
                    status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(context)]
            await send(message)

        self._metrics.request_started()
        try:
            await self._app(scope, receive_wrapper, send_wrapper)
        except Exception:
            status = 500  # what the server sends
            raise
        finally:
            self._record(scope, context, path, status)

    def _headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        """Return the headers that every response has."""
        headers = [(RAW_CORRELATION_HEADER, context.correlation_id.encode()), *rate_limit.headers(context.quota)]
        if self._shutdown.has_begun:  # the client must reconnect to another process
            headers.append((b"connection", b"close"))
        return headers

    def _record(self, scope: HTTPScope, context: RequestContext, path: str, status: int) -> None:
        seconds = time.perf_counter() - context.received_at
        route = scope.get("path_template") or UNMATCHED
        method = UNMATCHED if route == UNMATCHED else scope["method"]
        problem = context.problem if status != CLIENT_CLOSED_REQUEST else None
        if context.rejected_as is not None:
            status, problem = context.rejected_as.status, context.rejected_as.name
        busy = seconds if context.waiting_since is None else context.waiting_since - context.received_at
        self._metrics.request_finished(method, route, status, busy, problem)
        fields = {"problem": problem} if problem else {}
        if context.api_key is not None:
            fields["key"] = context.api_key.name
        client = scope["client"]
        _log.info(
            "request",
            method=scope["method"],
            path=path,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            client=client[0] if client else None,
            **fields,
        )
