"""Access log and metrics of every request, also of one without a route.

This middleware also starts a request's time budget for Redis, and adds the headers that every response has.
"""

from __future__ import annotations  # else every request would evaluate those of the nested functions

import time
from typing import Final

import structlog
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from service.api import rate_limit
from service.api.client_identity import get_api_key
from service.api.correlation import RAW_HEADER, correlation_id
from service.api.middleware.concurrency import WAITING_SINCE
from service.api.problems import DISCONNECTED, PROBLEM, REJECTED_AS, ProblemType
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.store.deadlines import TimeBudget, budget

#: The logged status of a request whose client disconnected before the response (as in nginx); it is never sent.
CLIENT_CLOSED_REQUEST: Final = 499
#: The logged route of a path that matches none, and the method in its metrics.
UNMATCHED: Final = "unmatched"
#: Key in a request's state: when the server received it (s, `time.perf_counter`).
RECEIVED_AT: Final = "received_at"
#: The maximum characters of a path in the log.
MAX_LOGGED_PATH: Final = 512

_log = structlog.get_logger("service.access")


class TelemetryMiddleware:
    """ASGI middleware that binds the correlation id, times each request and writes its access log line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, state: State) -> None:
        """Wrap `app`, whose state is `state`."""
        self._app = app
        self._metrics = metrics
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app and record the request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started, status = scope["state"].get(RECEIVED_AT) or time.perf_counter(), CLIENT_CLOSED_REQUEST
        path = scope["raw_path"].decode("ascii", "backslashreplace")[:MAX_LOGGED_PATH]
        request_id = correlation_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=request_id)
        budget.set(TimeBudget())

        async def receive_wrapper() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            message = await receive()
            if message["type"] == "http.disconnect":
                scope["state"][DISCONNECTED] = True
            return message

        async def send_wrapper(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                if DISCONNECTED not in scope["state"]:
                    status = message["status"]
                message["headers"] = [*message["headers"], (RAW_HEADER, request_id.encode()), *self._headers(scope)]
            await send(message)

        self._metrics.request_started()
        try:
            await self._app(scope, receive_wrapper, send_wrapper)
        except Exception:
            status = 500  # what the server sends
            raise
        finally:
            self._record(scope, path, status, started)

    def _headers(self, scope: HTTPScope) -> list[tuple[bytes, bytes]]:
        """Return the headers that every response has, except the correlation id."""
        headers = rate_limit.headers(scope)
        shutdown: Shutdown | None = self._state.get("shutdown")
        if shutdown is not None and shutdown.has_begun:  # the process stops: reconnect to another one
            headers.append((b"connection", b"close"))
        return headers

    def _record(self, scope: HTTPScope, path: str, status: int, started: float) -> None:
        seconds = time.perf_counter() - started
        route = scope.get("path_template") or UNMATCHED
        method = UNMATCHED if route == UNMATCHED else scope["method"]
        problem = scope["state"].get(PROBLEM) if status != CLIENT_CLOSED_REQUEST else None
        rejected_as: ProblemType | None = scope["state"].get(REJECTED_AS)
        if rejected_as is not None:
            status, problem = rejected_as.status, rejected_as.name
        waiting_since = scope["state"].get(WAITING_SINCE)
        self._metrics.request_finished(
            method, route, status, seconds if waiting_since is None else waiting_since - started, problem
        )
        fields = {"problem": problem} if problem else {}
        if (key := get_api_key(scope)) is not None:
            fields["key"] = key.name
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
