"""Around the whole application: what is logged and measured of every request, also of one that no route takes.

Here, too, begins what a request may cost in all, the time that it has for Redis, and every answer gets its headers.
"""

from __future__ import annotations  # else those of the functions within a function are evaluated for every request

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
from service.observability.metrics import Metrics
from service.store.deadlines import TimeBudget, budget
from service.store.events.claim_waiter import ClaimWaiter

#: The status that is noted where a client left before its answer began; no client ever sees it (nginx uses it so).
CLIENT_CLOSED_REQUEST: Final = 499
#: The route that is noted for an address that none takes, and the method for one that its route does not take.
UNMATCHED: Final = "unmatched"
#: Where a request's state says when it had come (s, as `time.perf_counter`), by who lets it wait before it is begun.
RECEIVED_AT: Final = "arrived"
#: So many characters of an address are logged.
MAX_LOGGED_PATH: Final = 512

_log = structlog.get_logger("service.access")


class TelemetryMiddleware:
    """An ASGI application around another: binds the correlation id, times the request, writes its one access line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, state: State) -> None:
        """Watch over `app`, which keeps on `state` whether it is about to end."""
        self._app = app
        self._metrics = metrics
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it went."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started, status = scope["state"].get(RECEIVED_AT) or time.perf_counter(), CLIENT_CLOSED_REQUEST
        address = scope["raw_path"].decode("ascii", "backslashreplace")[:MAX_LOGGED_PATH]
        identity = correlation_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=identity)
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
                message["headers"] = [*message["headers"], (RAW_HEADER, identity.encode()), *self._headers(scope)]
            await send(message)

        self._metrics.request_started()
        try:
            await self._app(scope, receive_wrapper, send_wrapper)
        except Exception:
            status = 500  # as the server answers
            raise
        finally:
            self._record(scope, address, status, started)

    def _headers(self, scope: HTTPScope) -> list[tuple[bytes, bytes]]:
        """Return what stands on an answer, whoever gives it, but for its correlation id."""
        own = rate_limit.headers(scope)
        waiting: ClaimWaiter | None = self._state.get("waiting")
        if waiting is not None and waiting.is_closed:  # with its next request the client is better off elsewhere
            own.append((b"connection", b"close"))
        return own

    def _record(self, scope: HTTPScope, address: str, status: int, started: float) -> None:
        seconds = time.perf_counter() - started
        route = scope.get("path_template") or UNMATCHED
        method = UNMATCHED if route == UNMATCHED else scope["method"]
        problem = scope["state"].get(PROBLEM) if status != CLIENT_CLOSED_REQUEST else None
        refused: ProblemType | None = scope["state"].get(REJECTED_AS)
        if refused is not None:
            status, problem = refused.status, refused.name
        waits_since = scope["state"].get(WAITING_SINCE)
        self._metrics.request_finished(
            method, route, status, seconds if waits_since is None else waits_since - started, problem
        )
        details = {"problem": problem} if problem else {}
        if (key := get_api_key(scope)) is not None:
            details["key"] = key.name
        client = scope["client"]
        _log.info(
            "request",
            method=scope["method"],
            path=address,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            client=client[0] if client else None,
            **details,
        )
