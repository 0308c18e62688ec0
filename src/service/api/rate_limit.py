"""The rate limit over HTTP and its headers.

The headers are those of draft-ietf-httpapi-ratelimit-headers-08 and later.
"""

import math
from typing import Any, Final

from litestar import Request

from service.api.client_identity import client_id
from service.api.request_context import context_of
from service.domain.errors import InvalidValue, RateLimited
from service.domain.rate_limits import Quota
from service.store.rate_limiter import RateLimiter

HEADERS: Final = ("RateLimit", "RateLimit-Policy")
#: The paths that the limit applies to.
RATE_LIMITED_PREFIX: Final = "/v1/"


async def enforce(request: Request[Any, Any, Any], limiter: RateLimiter) -> None:
    """Count a request against its client's limit. Raises `RateLimited`, and `StoreUnavailable` if Redis fails."""
    context = context_of(request.scope)
    try:
        context.quota = await limiter.acquire(client_id(request.scope))
    except RateLimited as error:
        context.quota = error.quota
        raise


async def charge(request: Request[Any, Any, Any], limiter: RateLimiter | None, field: str, count: int) -> None:
    """Count a request as `count` requests; one of them was counted before. `field` has the parts that count.

    Raises `InvalidValue` for more than the limit ever allows, and like `enforce`.
    """
    if limiter is None or count == 1:
        return
    if count > limiter.limit.requests:
        allowed = f"at most {limiter.limit.requests}, the rate limit of the service"
        raise InvalidValue(field, f"{count} exceed what a client may ever send at once", allowed)
    context = context_of(request.scope)
    try:
        context.quota = await limiter.acquire(client_id(request.scope), count - 1)
    except RateLimited as error:
        context.quota = error.quota
        for_the_next_request = math.ceil(limiter.limit.window_seconds / limiter.limit.requests)
        raise RateLimited(error.quota, error.retry_after + for_the_next_request) from error


def headers(quota: Quota | None) -> list[tuple[bytes, bytes]]:
    """Return the headers with the limit and the client's remaining quota; none for a request that was not counted."""
    if quota is None:
        return []
    policy = f'"default";q={quota.limit.requests};w={quota.limit.window_seconds}'
    remaining = f'"default";r={quota.remaining};t={quota.reset_seconds}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", remaining.encode())]
