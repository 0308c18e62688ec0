"""Calls to Redis with a timeout, one retry and typed errors."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.asyncio import ConnectionPool

from service.domain import errors
from service.store.channel import REPLY_TIMEOUT
from service.store.deadlines import REQUEST_TIMEOUT, budget
from service.store.observer import Observer
from service.store.redis_errors import map_error, to_domain_error
from service.store.replicas import ReplicasMissing

T = TypeVar("T")

#: Seconds after which a call without a reply is sent a second time.
FIRST_ATTEMPT_TIMEOUT: Final = REPLY_TIMEOUT
#: Seconds before the retry. What reset one connection may be about to reset the others of the pool too.
RETRY_DELAY: Final = 0.05
#: Errors after which the command may or may not have run. Only these are retried, with the same change id.
AMBIGUOUS_ERRORS: Final = (errors.StoreUnreachable, errors.StorePartitionUnavailable, errors.StoreTimeout)


class Calls:
    """Makes calls within their time limits, repeats them once, and reports them."""

    def __init__(self, observer: Observer, pool: ConnectionPool) -> None:
        """Report calls to `observer`. Texts of errors do not show the passwords of `pool`."""
        self._observer = observer
        self._pool = pool

    async def call(
        self,
        name: str,
        command: Callable[[float], Awaitable[T]],
        time_limit: float = REQUEST_TIMEOUT,
        outcome: Callable[[T], str] = lambda _: "ok",
        first_time_limit: float | None = None,
    ) -> T:
        """Run a command within `time_limit` seconds and the time left to the request. It may be sent twice.

        `command` gets its deadline (s, as `time.monotonic`) and must raise `TimeoutError` then; `with_timeout` makes
        such a command. The first attempt has `first_time_limit` seconds (`FIRST_ATTEMPT_TIMEOUT`). Raises
        `StoreUnavailable` or `StoreCorrupt`.

        The observer receives `name`, and the `outcome` of the reply or the class name of the error.
        """
        self._observer.on_call_start()
        started, result, request_budget = time.perf_counter(), "CancelledError", budget.get()
        try:
            left = time_limit if request_budget is None else request_budget.within(time_limit)
            deadline = (now := time.monotonic()) + left
            first_time_limit = FIRST_ATTEMPT_TIMEOUT if first_time_limit is None else first_time_limit
            try:
                reply = await command(now + min(first_time_limit, left))
            except Exception as error:
                reply = await self._retry_once(command, error, deadline)
            result = outcome(reply)
        except Exception as error:
            result = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - started
            self._observer.on_call_end(name, result, seconds)
            if request_budget is not None:
                request_budget.spend(seconds)
        return reply

    async def _retry_once(self, command: Callable[[float], Awaitable[T]], error: Exception, deadline: float) -> T:
        """Run a failed command again if its outcome is unknown and there is time; otherwise raise the domain error."""
        domain_error: Exception | None = None
        try:
            if issubclass(map_error(error), AMBIGUOUS_ERRORS) and time.monotonic() + RETRY_DELAY <= deadline:
                await asyncio.sleep(RETRY_DELAY)
                try:
                    return await command(deadline)
                except Exception as second:
                    error = second
            if isinstance(error, ReplicasMissing):
                self._observer.on_replicas_missing()
            domain_error = to_domain_error(error, self._pool)
            if domain_error is error:
                raise error
            raise domain_error from error
        finally:
            # An error refers to this frame. Without this, the request would stay in memory until a garbage collection.
            del error, domain_error


def with_timeout(command: Callable[[], Awaitable[T]]) -> Callable[[float], Awaitable[T]]:
    """Return a command for `Calls.call` that raises `TimeoutError` at its deadline."""

    async def run(deadline: float) -> T:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await command()

    return run
