"""What the server, the middleware and the handlers know of one request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from litestar import Request
from litestar.types import Scope
from msgspec import Struct, field

from service.domain.api_keys import ApiKey
from service.domain.constraints import TEXT, TRACEPARENT, new_correlation_id
from service.domain.rate_limits import Quota

if TYPE_CHECKING:  # these modules import this one
    from service.api.middleware.concurrency import RequestSlot
    from service.api.problems import ProblemType

CORRELATION_HEADER: Final = "X-Correlation-ID"
RAW_CORRELATION_HEADER: Final = CORRELATION_HEADER.lower().encode()
#: Key in a request's state: its `RequestContext`.
CONTEXT: Final = "context"


class RequestContext(Struct):
    """One request. The server creates it when the request begins."""

    #: When the server received the request (s, `time.perf_counter`).
    received_at: float = field(default_factory=time.perf_counter)
    #: Empty until `correlation_id` is called.
    correlation_id: str = ""
    #: The path prefix that a trusted proxy removed, such as `/sub`.
    path_prefix: str = ""
    #: The API key that the request was authenticated with.
    api_key: ApiKey | None = None
    #: The client's quota, once the request was counted against the rate limit.
    quota: Quota | None = None
    #: The request's share of the concurrency limits, while it is handled.
    slot: RequestSlot | None = None
    #: Since when the request waits for an event (s, `time.perf_counter`).
    waiting_since: float | None = None
    #: The name of the problem that it was answered with, for logs and metrics.
    problem: str | None = None
    #: The problem type that the server sent while the application still ran.
    rejected_as: ProblemType | None = None
    #: Whether its connection exceeds `MAX_CONNECTIONS`.
    is_over_connection_limit: bool = False
    #: Whether the client has pipelined another request, so that the server cannot detect a disconnect.
    is_pipelined: bool = False
    #: Whether the client disconnected, or was rejected, before the response.
    is_disconnected: bool = False


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request; a new one if the server created none."""
    try:
        context: RequestContext = scope["state"][CONTEXT]
    except KeyError:
        context = scope.setdefault("state", {})[CONTEXT] = RequestContext()
    return context


def correlation_id(scope: Scope) -> str:
    """Return the correlation id of a request, the same at every call: from its header, else generated."""
    context = context_of(scope)
    if not context.correlation_id:
        context.correlation_id = _sent_correlation_id(scope) or new_correlation_id()
    return context.correlation_id


def traceparent(request: Request[Any, Any, Any]) -> str | None:
    """Return the trace context of the client; W3C Trace Context has an invalid one ignored."""
    sent = request.headers.getall("traceparent", [])
    return sent[0] if len(sent) == 1 and TRACEPARENT.is_valid(sent[0]) else None


def address(scope: Scope, path: str) -> str:
    """Return the path under which the client of a request reaches `path` of this service."""
    return context_of(scope).path_prefix + path


def _sent_correlation_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == RAW_CORRELATION_HEADER:
            text = value.decode("utf-8", errors="replace")
            return text if TEXT.is_valid(text) and text.isascii() else None
    return None
