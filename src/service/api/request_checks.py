"""Checks before every handler: API key, rate limit, query parameters, `Accept` and `Content-Type`."""

from collections import Counter
from functools import cache, lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import structlog
from litestar import Litestar, Request, Response
from litestar.datastructures.headers import Accept, MediaTypeHeader
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.routes import HTTPRoute
from litestar.utils import get_enum_string_value

from service.api import auth, rate_limit
from service.api.middleware.head_requests import allow
from service.domain import constraints
from service.domain.errors import InvalidValue
from service.services import services_of

JSON: Final = "application/json"
#: Option of a handler: the media types that it produces, unless they are its own, JSON and problems.
PRODUCES: Final = "produces"
#: The paths on which an unknown query parameter is an error; pages, probes and metrics ignore it.
_STRICT_PREFIX: Final = "/v1/"
#: The names of UTF-8 and of ASCII, its subset.
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


async def validate_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Reject a request that Litestar would accept although a part of it is not allowed. Answer OPTIONS.

    The API key is checked here and not in a guard: Litestar (2.25) copies the handler for each call of a guard. A hook
    nearer to a handler would replace this one, so `reject_unchecked_handlers` finds such a handler.

    Raises the domain's errors, and `HTTPException` (406, 415).
    """
    if constraints.JOB_ID.is_valid(job_id := request.scope["path_params"].get("job_id", "")):
        structlog.contextvars.bind_contextvars(job_id=job_id)
    if request.method == "OPTIONS":
        return _options_response(request)
    auth.authorize(request)
    is_limited = request.scope["path"].startswith(rate_limit.RATE_LIMITED_PREFIX)
    if is_limited and (limiter := services_of(request).rate_limiter) is not None:
        await rate_limit.enforce(request, limiter)
    if request.scope["query_string"] and request.scope["path"].startswith(_STRICT_PREFIX):
        _check_query(request)
    if accepted := request.headers.get("accept"):
        _check_accept(accepted, _produces(request.route_handler))
    if _reads_body(request.route_handler):
        _check_content_type(request)
    return None


def reject_unchecked_handlers(app: Litestar) -> None:
    """Raise `TypeError` if a handler declares no access, or escapes `validate_request`."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            raise TypeError(f"{route.path} does not run `validate_request`: use an HTTP handler.")
        for method, (handler, _) in route.route_handler_map.items():
            if handler.resolve_before_request() is not validate_request:
                raise TypeError(f"`{handler}` does not run `validate_request`: remove its own `before_request`.")
            if method != "OPTIONS" and auth.ACCESS not in handler.opt:
                raise TypeError(f"`{handler}` declares no access: add `**requires(Scope.…)` or `**PUBLIC`.")


@cache
def _produces(handler: HTTPRouteHandler) -> tuple[str, ...]:
    """Return the media types that a handler produces, its own first."""
    own = get_enum_string_value(handler.media_type) or JSON
    return tuple(handler.opt.get(PRODUCES) or (own, JSON, "application/problem+json"))


@cache
def _reads_body(handler: HTTPRouteHandler) -> bool:
    return "data" in handler.parsed_fn_signature.parameters


def _options_response(request: Request[Any, Any, Any]) -> Response[None]:
    """Return the methods of a path in `Allow`; Litestar's own response (2.25) misses those of later handlers."""
    template = request.scope["path_template"]
    methods = {method for route in request.app.routes if route.path_format == template for method in route.methods}
    return Response(None, status_code=204, headers={"Allow": allow(methods)})


def _check_query(request: Request[Any, Any, Any]) -> None:
    parameters = request.route_handler.parsed_fn_signature.parameters
    known = {
        one.kwarg_definition.name or name: one
        for name, one in parameters.items()
        if isinstance(one.kwarg_definition, QueryParameter)
    }
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError as error:
        raise InvalidValue("query", "it is not valid UTF-8", "UTF-8, percent-encoded") from error
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise InvalidValue(name, "there is no such query parameter", ", ".join(known) or "no query parameters")
        if count > 1 and not known[name].has_inner_subclass_of(list):
            raise InvalidValue(name, f"sent {count} times", "at most once")


def _check_accept(accepted: str, produced: tuple[str, ...]) -> None:
    if not accepts_media_type(accepted, produced):
        detail = f"`Accept: {accepted}` does not match. Accept {produced[0]}, which this path produces."
        raise HTTPException(detail=detail, status_code=406)


@lru_cache(256)  # few kinds of clients, each with a constant header
def accepts_media_type(accepted: str, produced: tuple[str, ...]) -> bool:
    """Return whether an `Accept` header accepts one of these media types."""
    return Accept(accepted).best_match(list(produced)) is not None


def quality_of(media_type: str, accepted: str) -> int:
    """Return the weight of a media type in an `Accept` header, in hundredths (RFC 9110, section 12.4.2)."""
    wanted = MediaTypeHeader(media_type)
    ranges = [MediaTypeHeader(one) for one in accepted.split(",") if one.strip()]
    return max((one.priority[0] for one in ranges if wanted.match(one)), default=0)


def _check_content_type(request: Request[Any, Any, Any]) -> None:
    sent = request.headers.get("content-type", "")
    if sent == JSON or request.headers.get("content-length") == "0":  # an empty body needs no type
        return
    media_type, options = request.content_type
    if sent and (media_type != JSON or options.get("charset", "utf-8").lower() not in _CHARSETS):
        detail = f"`Content-Type: {sent}` is not supported. Send `Content-Type: {JSON}` in UTF-8."
        raise HTTPException(detail=detail, status_code=415, headers={"Accept": JSON})
