"""The rate limit over HTTP: who is counted, and the headers that say what is left.

The headers are those of draft-ietf-httpapi-ratelimit-headers (from its eighth version on).
"""

from typing import Any, Final

from litestar import Request
from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from service.api.clients import client_of
from service.domain.errors import RateLimited
from service.domain.limits import Quota
from service.store.rate_limiter import RateLimiter

HEADERS: Final = ("RateLimit", "RateLimit-Policy")
#: What is limited; health, metrics and the API document are not.
LIMITED: Final = "/v1/"
_KEY: Final = "quota"


async def charge(request: Request[Any, Any, Any]) -> None:
    """Count a request against its client's limit. Raises `RateLimited`, or `StoreUnavailable` if it can't count."""
    if not request.scope["path"].startswith(LIMITED):
        return
    limiter: RateLimiter | None = request.app.state.rate_limiter
    if limiter is None:
        return
    state = request.scope["state"]
    try:
        state[_KEY] = await limiter.admit(client_of(request.scope))
    except RateLimited as error:
        state[_KEY] = error.quota
        raise


async def add_headers(message: Message, scope: Scope) -> None:
    """Say on a response what is left to the client."""
    quota: Quota | None = scope["state"].get(_KEY)
    if quota is not None and message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        headers["RateLimit-Policy"] = f'"default";q={quota.limit.requests};w={quota.limit.window_seconds}'
        headers["RateLimit"] = f'"default";r={quota.remaining};t={quota.reset_seconds}'
