"""Problem details (RFC 9457) for every error, and the table that maps errors to problem types."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import Raw, Struct

from service.api.middleware.head_requests import allow
from service.api.openapi.schemas import extensible_enum
from service.api.request_context import address, context_of, correlation_id
from service.domain import bulk, errors
from service.domain.api_keys import Scope
from service.domain.constraints import truncated_repr
from service.domain.jobs import count_meta, description
from service.domain.states import Status

#: The prefix of a problem's `type`; its name follows.
TYPE_PREFIX: Final = "urn:jobstate:problem:"
MEDIA_TYPE: Final = "application/problem+json"
#: The option of a route with the name of the setting that limits its bodies, if that is not `MAX_BODY_BYTES`.
BODY_LIMIT: Final = "body_limit"
#: The default `Retry-After` in seconds.
RETRY_AFTER: Final = 1

_log = structlog.get_logger(__name__)


class ProblemType(NamedTuple):
    """A type of problem: its HTTP status, its stable name and its title for people."""

    status: int
    name: str
    title: str


#: The problem type of every domain error.
PROBLEM_TYPES: Final[Mapping[type[errors.JobStateError], ProblemType]] = {
    errors.Unauthenticated: ProblemType(401, "unauthenticated", "Authentication required"),
    errors.InsufficientScope: ProblemType(403, "insufficient-scope", "Insufficient scope"),
    errors.InvalidValue: ProblemType(400, "invalid-request", "Invalid request"),
    errors.JobNotFound: ProblemType(404, "job-not-found", "Job not found"),
    bulk.BulkActionNotFound: ProblemType(404, "bulk-action-not-found", "Bulk action not found"),
    bulk.UnexpectedCount: ProblemType(409, "unexpected-count", "Unexpected count"),
    errors.IdempotencyKeyReused: ProblemType(422, "idempotency-key-reused", "Idempotency key reused"),
    errors.PreconditionFailed: ProblemType(412, "precondition-failed", "Precondition failed"),
    errors.RateLimited: ProblemType(429, "rate-limited", "Rate limit exceeded"),
    errors.TooManyWatchers: ProblemType(429, "too-many-watchers", "Watch limit exceeded"),
    errors.JobExists: ProblemType(409, "job-exists", "Job exists"),
    errors.IllegalTransition: ProblemType(409, "illegal-transition", "Illegal transition"),
    errors.LeaseLost: ProblemType(409, "lease-lost", "Lease lost"),
    errors.NotLeased: ProblemType(409, "not-leased", "Job not leased"),
    errors.JobNotFinal: ProblemType(409, "job-not-final", "Job not finished"),
    errors.ResultNotReady: ProblemType(404, "result-not-ready", "Result not ready"),
    errors.JobFailed: ProblemType(409, "job-failed", "Job failed"),
    errors.JobCancelled: ProblemType(409, "job-cancelled", "Job cancelled"),
    errors.Overloaded: ProblemType(503, "overloaded", "Service overloaded"),
    errors.Draining: ProblemType(503, "draining", "Service draining"),
    errors.StoreUnreachable: ProblemType(503, "store-unreachable", "Job store unreachable"),
    errors.StorePartitionUnavailable: ProblemType(503, "store-partition-unavailable", "Part of the job store away"),
    errors.StoreMoving: ProblemType(503, "store-moving", "Part of the job store moving"),
    errors.StoreTimeout: ProblemType(503, "store-timeout", "Job store timeout"),
    errors.StoreLoading: ProblemType(503, "store-loading", "Job store loading"),
    errors.StoreReadOnly: ProblemType(503, "store-read-only", "Job store read-only"),
    errors.StoreOutOfMemory: ProblemType(503, "store-out-of-memory", "Job store full"),
    errors.StoreBusy: ProblemType(503, "store-busy", "Job store busy"),
    errors.StoreAccessDenied: ProblemType(503, "store-access-denied", "Job store access denied"),
    errors.DataVersionUnsupported: ProblemType(503, "data-version-unsupported", "Unsupported data version"),
    errors.PartitionsMismatch: ProblemType(503, "partitions-mismatch", "Partitions mismatch"),
    errors.StoreCorrupt: ProblemType(500, "store-corrupt", "Unexpected job store data"),
}

#: The problem types of Litestar's errors, by HTTP status.
HTTP_PROBLEM_TYPES: Final[Mapping[int, ProblemType]] = {
    400: PROBLEM_TYPES[errors.InvalidValue],
    404: ProblemType(404, "unknown-route", "Unknown route"),
    405: ProblemType(405, "method-not-allowed", "Method not allowed"),
    406: ProblemType(406, "not-acceptable", "No acceptable media type"),
    413: ProblemType(413, "content-too-large", "Content too large"),
    415: ProblemType(415, "unsupported-media-type", "Unsupported media type"),
}
INTERNAL_ERROR: Final = ProblemType(500, "internal-error", "Internal server error")
# The server and the middleware send these before the application runs.
HOST_NOT_ALLOWED: Final = ProblemType(421, "host-not-allowed", "Host not allowed")
ORIGIN_NOT_ALLOWED: Final = ProblemType(403, "origin-not-allowed", "Origin not allowed")
OVERLOADED: Final = PROBLEM_TYPES[errors.Overloaded]
MALFORMED_REQUEST: Final = ProblemType(400, "malformed-request", "Malformed HTTP request")
REQUEST_TIMEOUT: Final = ProblemType(408, "request-timeout", "Request timeout")
HEADERS_TOO_LARGE: Final = ProblemType(431, "headers-too-large", "Headers too large")

_OWN: Final = (
    INTERNAL_ERROR,
    HOST_NOT_ALLOWED,
    ORIGIN_NOT_ALLOWED,
    MALFORMED_REQUEST,
    REQUEST_TIMEOUT,
    HEADERS_TOO_LARGE,
)
#: Every problem type, those of domain errors first.
ALL_PROBLEM_TYPES: Final = tuple(dict.fromkeys((*PROBLEM_TYPES.values(), *HTTP_PROBLEM_TYPES.values(), *_OWN)))
_RETRYABLE: Final = (
    *(errors.StoreUnavailable, errors.ResultNotReady, errors.RateLimited),
    *(errors.TooManyWatchers, errors.Overloaded, errors.Draining),
)
#: The problem types of errors that may be over when the client retries; their responses have `Retry-After`.
RETRYABLE: Final = frozenset(
    problem_type for error, problem_type in PROBLEM_TYPES.items() if issubclass(error, _RETRYABLE)
)
_EXTENSION_MEMBERS: Final = ("current_status", "revision", "error_message", "scope")
_REALM: Final = 'Bearer realm="jobstate"'


class FieldError(Struct, frozen=True):
    """A part of the request that is not valid."""

    field: Annotated[str, description("The field of the body, the parameter or the header")]
    detail: Annotated[str, description("What is wrong with it")]
    allowed: Annotated[str, description("What is allowed")]

    def __str__(self) -> str:
        return f"`{self.field}`: {self.detail}; allowed: {self.allowed}"


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457). `type` is stable; `title` and `detail` are for people."""

    type: Annotated[
        str, extensible_enum("The type of the problem", [TYPE_PREFIX + one.name for one in ALL_PROBLEM_TYPES])
    ]
    title: Annotated[str, description("The name of the problem type, for people")]
    status: Annotated[int, description("The HTTP status")]
    detail: Annotated[str, description("What went wrong with this request")]
    correlation_id: Annotated[str, description("The id of the request in the logs")]
    errors: Annotated[list[FieldError], description("With `invalid-request`: the parts that are not valid")] | None = (
        None
    )
    current_status: Annotated[Status, description("The current status of the job")] | None = None
    revision: Annotated[int, count_meta("The current revision of the job", 1)] | None = None
    error_message: Annotated[Raw, description("The job's `error_message`: any JSON")] | None = None
    scope: Annotated[Scope, description("With `insufficient-scope`: the scope that the API key lacks")] | None = None


def handle_domain_error(request: Request[Any, Any, Any], error: errors.JobStateError) -> Response[Problem]:
    """Return the response to a domain error."""
    problem_type = PROBLEM_TYPES[type(error)]
    _log_store_error(problem_type, error)
    return _response(request, problem_type, str(error), error_headers(problem_type, error), extension_members(error))


def problem_of(error: errors.JobStateError, request_id: str) -> Problem:
    """Return the problem of a domain error that a part of a request has had; `request_id` is the correlation id."""
    problem_type = PROBLEM_TYPES[type(error)]
    _log_store_error(problem_type, error)
    return build_problem(problem_type, str(error), request_id, extension_members(error))


def _log_store_error(problem_type: ProblemType, error: errors.JobStateError) -> None:
    if isinstance(error, errors.StoreUnavailable):  # without a traceback: an outage causes many of them
        _log.warning("store unavailable", problem=problem_type.name, detail=str(error))
    elif isinstance(error, errors.StoreCorrupt):
        _log.error("store corrupt", problem=problem_type.name, exc_info=error.__cause__ or error)


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Return the response to an error that Litestar found in the request."""
    problem_type = HTTP_PROBLEM_TYPES.get(error.status_code)
    if problem_type is None and context_of(request.scope).is_disconnected:  # nobody reads it; not worth an error log
        return _response(request, INTERNAL_ERROR, error.detail)
    if problem_type is None:
        return handle_unexpected_error(request, error)
    field_errors = _field_errors(request, error)
    detail = "; ".join(str(one) for one in field_errors) or _detail(request, error)
    headers = dict(error.headers or {})
    if problem_type.status == 405:
        headers["allow"] = _allow(error)
    return _response(request, problem_type, detail, headers, {"errors": field_errors} if field_errors else {})


def handle_unexpected_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Return the response to a bug, without its details; the log has them under the correlation id."""
    _log.error("unexpected error", exc_info=error, correlation_id=correlation_id(request.scope))
    detail = "An unexpected error occurred. The service's log has the details under this `correlation_id`."
    return _response(request, INTERNAL_ERROR, detail)


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]]] = {
    errors.JobStateError: handle_domain_error,
    HTTPException: handle_http_exception,
    Exception: handle_unexpected_error,
}


def extension_members(error: errors.JobStateError) -> dict[str, Any]:
    """Return the extension members (RFC 9457, section 3.2) of the problem of an error."""
    members: dict[str, Any] = {name: getattr(error, name) for name in _EXTENSION_MEMBERS if hasattr(error, name)}
    if isinstance(error, errors.InvalidValue):
        members["errors"] = [FieldError(error.field, error.detail, error.allowed)]
    return members


def build_problem(
    problem_type: ProblemType, detail: str, request_id: str, extensions: Mapping[str, Any] = MappingProxyType({})
) -> Problem:
    """Return a problem of a type; `request_id` is the correlation id."""
    return Problem(
        type=TYPE_PREFIX + problem_type.name,
        title=problem_type.title,
        status=problem_type.status,
        detail=detail,
        correlation_id=request_id,
        **extensions,
    )


def error_headers(problem_type: ProblemType, error: errors.JobStateError) -> dict[str, str]:
    """Return the headers of the problem of an error: `Retry-After`, or `WWW-Authenticate` (RFC 6750, section 3)."""
    if problem_type in RETRYABLE:
        return {"Retry-After": str(getattr(error, "retry_after", RETRY_AFTER))}
    match error:
        case errors.Unauthenticated():
            return {"WWW-Authenticate": f'{_REALM}, error="invalid_token"' if error.is_unknown else _REALM}
        case errors.InsufficientScope():
            scope = f', scope="{error.scope}"' if error.scope else ""
            return {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope"{scope}'}
    return {}


def _response(
    request: Request[Any, Any, Any],
    problem_type: ProblemType,
    detail: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    extensions: Mapping[str, Any] = MappingProxyType({}),
) -> Response[Problem]:
    context_of(request.scope).problem = problem_type.name
    body = build_problem(problem_type, detail, correlation_id(request.scope), extensions)
    headers = {**headers, "Cache-Control": "no-store"}
    return Response(body, status_code=problem_type.status, media_type=MEDIA_TYPE, headers=headers)


def _field_errors(request: Request[Any, Any, Any], error: HTTPException) -> list[FieldError]:
    if not isinstance(error, ValidationException):
        return []
    found = error.extra if isinstance(error.extra, list) else []
    return [_field_error(request, one.get("key", "body"), one["message"]) for one in found]


def _field_error(request: Request[Any, Any, Any], key: str, message: str) -> FieldError:
    if key == "data":
        return FieldError("body", "missing", "a JSON object")
    parameter = request.route_handler.parsed_fn_signature.parameters.get(key)
    definition = parameter.kwarg_definition if parameter else None
    text = getattr(definition, "description", None) or "see the API document"
    if key in request.path_params:
        message = f"{truncated_repr(request.path_params[key])} is not allowed"
    return FieldError(key, message, text.partition(": ")[2] or text)


def _allow(error: HTTPException) -> str:
    return allow((error.headers or {}).get("allow", "").split(", "))


def _detail(request: Request[Any, Any, Any], error: HTTPException) -> str:
    match error.status_code:
        case 404:
            path, document = (address(request.scope, one) for one in (request.scope["path"], "/schema/openapi.json"))
            return f"There is no resource at {path!r}. {document} lists all paths."
        case 405:
            return f"This path does not allow {request.method}. Use one of {_allow(error)}."
        case 413:
            limit = request.route_handler.resolve_request_max_body_size()
            setting = request.route_handler.opt.get(BODY_LIMIT, "MAX_BODY_BYTES")
            return f"The body exceeds the limit of {limit} bytes (`{setting}`). Send a smaller one."
        case _:
            return error.detail
