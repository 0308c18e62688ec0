"""Limits on how many requests one process handles concurrently, and how many of them wait for an event."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Final, TypeVar

from litestar.types import HTTPScope, Scope

from service.api.client_identity import client_id
from service.api.middleware.rejections import Rejection
from service.api.problems import OVERLOADED, RETRY_AFTER
from service.api.request_context import context_of
from service.domain import errors

T = TypeVar("T")

_RETRY: Final = {"retry-after": str(RETRY_AFTER)}


@dataclass
class ConcurrencyLimiter:
    """The limits of one process, and the current numbers of requests: active, waiting, and watching by client."""

    max_active: int
    max_waiting: int
    max_watching_per_client: int
    #: Receives each change of the number of waiting requests.
    observe: Callable[[int], None] = lambda change: None
    active: int = 0
    waiting: int = 0
    watching: Counter[str] = field(default_factory=Counter)

    def check(self, scope: HTTPScope) -> Rejection | None:
        """Return the rejection of a request that exceeds the connection limit or the request limit."""
        if context_of(scope).is_over_connection_limit:
            detail = "The process has reached its connection limit (`MAX_CONNECTIONS`). Retry on a new connection."
            return Rejection(OVERLOADED, detail, {**_RETRY, "connection": "close"})
        if self.active >= self.max_active:
            limit = f"{self.max_active} concurrent requests (`MAX_CONCURRENT_REQUESTS`)"
            return Rejection(OVERLOADED, f"The process has reached its limit of {limit}. Retry later.", _RETRY)
        return None


class RequestSlot:
    """The limiter's count of one request: active, then perhaps waiting, until it is released."""

    def __init__(self, limiter: ConcurrencyLimiter, scope: HTTPScope) -> None:
        """Count a request as active and store the slot in its context."""
        self._limiter = limiter
        self._scope = scope
        self._context = context_of(scope)
        self._context.slot = self
        self._is_waiting = False
        self._stack: ExitStack | None = None
        limiter.active += 1

    def start_waiting(self) -> None:
        """Count the request as waiting. Raises `Overloaded`, and `InvalidValue` if the client pipelined another one."""
        limiter = self._limiter
        if self._context.is_pipelined:
            detail = "the client sent another request on this connection"
            raise errors.InvalidValue("connection", detail, "no pipelined request after one that waits")
        if limiter.waiting >= limiter.max_waiting:
            limit = f"{limiter.max_waiting} waiting requests (`MAX_WAITING_REQUESTS`)"
            raise errors.Overloaded(f"The process has reached its limit of {limit}. Retry later.")
        self._decrement()
        limiter.waiting += 1
        limiter.observe(1)
        self._context.waiting_since = time.perf_counter()
        self._is_waiting = True

    def start_watching(self) -> None:
        """Count the request as waiting, and also in the client's limit. Raises `TooManyWatchers` and `Overloaded`."""
        watching, client = self._limiter.watching, client_id(self._scope)
        if watching[client] >= self._limiter.max_watching_per_client:
            raise errors.TooManyWatchers(self._limiter.max_watching_per_client)
        self.start_waiting()
        watching[client] += 1

        def stop_watching() -> None:
            watching[client] -= 1
            if not watching[client]:
                del watching[client]

        self._exit_stack.callback(stop_watching)

    def enter_context(self, context: AbstractContextManager[T]) -> T:
        """Enter a context and return its value; `release` exits it."""
        return self._exit_stack.enter_context(context)

    def release(self) -> None:
        """End the request: stop counting it and exit its contexts."""
        self._context.slot = None  # ends a reference cycle, which would last until the next garbage collection
        self._decrement()
        if self._stack is not None:
            self._stack.close()

    @property
    def _exit_stack(self) -> ExitStack:
        if self._stack is None:
            self._stack = ExitStack()
        return self._stack

    def _decrement(self) -> None:
        if self._is_waiting:
            self._limiter.waiting -= 1
            self._limiter.observe(-1)
        else:
            self._limiter.active -= 1


def get_slot(scope: Scope) -> RequestSlot:
    """Return the slot of a request. Raises `LookupError` outside the middleware."""
    slot = context_of(scope).slot
    if slot is None:
        raise LookupError("the request has no slot; run the application within its middleware")
    return slot
