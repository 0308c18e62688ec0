"""Problem details (RFC 9457) for every error there is, and the one table that says which is which."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import HTTPScope, Send
from msgspec import Raw, Struct

from service.api.addresses import address
from service.api.correlation import correlation_id
from service.api.middleware.head_requests import allow
from service.api.openapi.schemas import extensible_enum
from service.domain import errors
from service.domain.api_keys import Scope
from service.domain.jobs import count_meta, description
from service.domain.states import Status

#: What a problem's name hangs from in its `type`.
TYPE_PREFIX: Final = "urn:jobstate:problem:"
MEDIA_TYPE: Final = "application/problem+json"
#: Seconds after which a client may ask again: for a result that is not ready, for a store that is away.
RETRY_AFTER: Final = 1

_log = structlog.get_logger(__name__)


class ProblemType(NamedTuple):
    """A sort of problem: its HTTP status, its stable name, and its title for people."""

    status: int
    name: str
    title: str


#: Every error of the domain, each with the problem that it is over HTTP.
PROBLEM_TYPES: Final[Mapping[type[errors.JobStateError], ProblemType]] = {
    errors.Unauthenticated: ProblemType(401, "unauthenticated", "The service asks for an API key"),
    errors.InsufficientScope: ProblemType(403, "insufficient-scope", "The API key is for other things"),
    errors.InvalidValue: ProblemType(400, "invalid-request", "The request is not valid"),
    errors.JobNotFound: ProblemType(404, "job-not-found", "There is no such job"),
    errors.IdempotencyKeyReused: ProblemType(
        422, "idempotency-key-reused", "The idempotency key was used for another request"
    ),
    errors.PreconditionFailed: ProblemType(412, "precondition-failed", "The job has changed since"),
    errors.RateLimited: ProblemType(429, "rate-limited", "The client asks too often"),
    errors.TooManyWatchers: ProblemType(429, "too-many-watchers", "The client watches too much at one time"),
    errors.JobExists: ProblemType(409, "job-exists", "Another job has this id"),
    errors.IllegalTransition: ProblemType(409, "illegal-transition", "The job cannot change like this"),
    errors.LeaseLost: ProblemType(409, "lease-lost", "The lease is another's or over"),
    errors.NotLeased: ProblemType(409, "not-leased", "The job has no lease"),
    errors.JobNotFinal: ProblemType(409, "job-not-final", "The job has not ended"),
    errors.ResultNotReady: ProblemType(404, "result-not-ready", "The job has not ended"),
    errors.JobFailed: ProblemType(409, "job-failed", "The job failed"),
    errors.JobCancelled: ProblemType(409, "job-cancelled", "The job was cancelled"),
    errors.Overloaded: ProblemType(503, "overloaded", "The service has too much to do"),
    errors.Draining: ProblemType(503, "draining", "The service is made ready to be stopped"),
    errors.StoreUnreachable: ProblemType(503, "store-unreachable", "The job store is away"),
    errors.StoreTimeout: ProblemType(503, "store-timeout", "The job store is too slow"),
    errors.StoreLoading: ProblemType(503, "store-loading", "The job store is starting"),
    errors.StoreReadOnly: ProblemType(503, "store-read-only", "The job store takes no changes"),
    errors.StoreOutOfMemory: ProblemType(503, "store-out-of-memory", "The job store is full"),
    errors.StoreBusy: ProblemType(503, "store-busy", "The job store is held up"),
    errors.StoreAccessDenied: ProblemType(503, "store-access-denied", "The job store refuses the service"),
    errors.DataVersionUnsupported: ProblemType(503, "data-version-unsupported", "The job store is a newer service's"),
    errors.StoreCorrupt: ProblemType(500, "store-corrupt", "The job store holds something foreign"),
}

#: The errors of the framework, by HTTP status.
HTTP_PROBLEM_TYPES: Final[Mapping[int, ProblemType]] = {
    400: PROBLEM_TYPES[errors.InvalidValue],
    404: ProblemType(404, "unknown-route", "There is nothing at this address"),
    405: ProblemType(405, "method-not-allowed", "This address does not take this method"),
    406: ProblemType(406, "not-acceptable", "The service cannot answer in an accepted media type"),
    413: ProblemType(413, "content-too-large", "The request body is too large"),
    415: ProblemType(415, "unsupported-media-type", "Unsupported body format"),
}
INTERNAL_ERROR: Final = ProblemType(500, "internal-error", "The service made a mistake")
#: What is refused before the application sees it.
HOST_NOT_ALLOWED: Final = ProblemType(421, "host-not-allowed", "The service does not answer to this host")
ORIGIN_NOT_ALLOWED: Final = ProblemType(403, "origin-not-allowed", "Origin not allowed")
OVERLOADED: Final = PROBLEM_TYPES[errors.Overloaded]
MALFORMED_REQUEST: Final = ProblemType(400, "malformed-request", "This is no HTTP request")
REQUEST_TIMEOUT: Final = ProblemType(408, "request-timeout", "The request did not arrive in time")
HEADERS_TOO_LARGE: Final = ProblemType(431, "headers-too-large", "The request's line and headers are too large")

#: Where a request's state keeps the name of the problem that it is answered with, for whoever logs and measures.
PROBLEM: Final = "problem"
#: Where it keeps the kind of problem that the server has answered with while the application was still at it.
REJECTED_AS: Final = "refused"
#: Where it says that the client has left, or was refused, before it had its answer.
DISCONNECTED: Final = "left"

#: Every kind there is, the errors of the domain first.
ALL_PROBLEM_TYPES: Final = tuple(
    dict.fromkeys(
        (
            *PROBLEM_TYPES.values(),
            *HTTP_PROBLEM_TYPES.values(),
            *(
                INTERNAL_ERROR,
                HOST_NOT_ALLOWED,
                ORIGIN_NOT_ALLOWED,
                OVERLOADED,
                MALFORMED_REQUEST,
                REQUEST_TIMEOUT,
                HEADERS_TOO_LARGE,
            ),
        )
    )
)
_RETRYABLE: Final = (
    *(errors.StoreUnavailable, errors.ResultNotReady, errors.RateLimited),
    *(errors.TooManyWatchers, errors.Overloaded, errors.Draining),
)
#: Those that may have gone away when the request comes again.
RETRYABLE: Final = frozenset(kind for error, kind in PROBLEM_TYPES.items() if issubclass(error, _RETRYABLE))
_EXTENSION_MEMBERS: Final = ("current_status", "revision", "error_message", "scope")
_REALM: Final = 'Bearer realm="jobstate"'


class FieldError(Struct, frozen=True):
    """A part of the request that is not as it should be."""

    field: Annotated[str, description("The field of the body, the parameter, or the header")]
    detail: Annotated[str, description("What is wrong with it")]
    allowed: Annotated[str, description("What may stand there")]

    def __str__(self) -> str:
        return f"`{self.field}`: {self.detail}; allowed: {self.allowed}"


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details after RFC 9457. `type` is stable; `title` and `detail` are for people."""

    type: Annotated[
        str, extensible_enum("Which problem it is", [TYPE_PREFIX + kind.name for kind in ALL_PROBLEM_TYPES])
    ]
    title: Annotated[str, description("The problem in words")]
    status: Annotated[int, description("The HTTP status")]
    detail: Annotated[str, description("This occurrence of it in words")]
    correlation_id: Annotated[str, description("What the log lines of the request carry")]
    errors: Annotated[list[FieldError], description("With `invalid-request`: what is not as it should be")] | None = (
        None
    )
    current_status: Annotated[Status, description("Where the job stands")] | None = None
    revision: Annotated[int, count_meta("The revision of the job", 1)] | None = None
    error_message: Annotated[Raw, description("What was said of the job's end: any JSON")] | None = None
    scope: Annotated[Scope, description("With `insufficient-scope`: what the API key lacks")] | None = None


def handle_domain_error(request: Request[Any, Any, Any], error: errors.JobStateError) -> Response[Problem]:
    """Answer an error of the domain."""
    kind = PROBLEM_TYPES[type(error)]
    if isinstance(error, errors.StoreUnavailable):  # without its stack: while Redis is away there are many of them
        _log.warning("store unavailable", problem=kind.name, detail=str(error))
    elif isinstance(error, errors.StoreCorrupt):
        _log.error("store corrupt", problem=kind.name, exc_info=error.__cause__ or error)
    return _response(request, kind, str(error), _headers(kind, error), extension_members(error))


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Answer an error that Litestar found in the request."""
    kind = HTTP_PROBLEM_TYPES.get(error.status_code)
    if kind is None and request.scope["state"].get(
        DISCONNECTED
    ):  # nobody is there to answer, and nothing is wrong here
        return _response(request, INTERNAL_ERROR, error.detail, {}, {})
    if kind is None:
        return handle_unexpected_error(request, error)
    field_errors = _field_errors(request, error)
    detail = "; ".join(str(one) for one in field_errors) or _detail(request, error)
    headers = dict(error.headers or {})
    if kind.status == 405:
        headers["allow"] = _allow(error)
    return _response(request, kind, detail, headers, {"errors": field_errors} if field_errors else {})


def handle_unexpected_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer what nobody foresaw, without a word of its inside; the log has it, under the correlation id."""
    _log.error("unexpected error", exc_info=error, correlation_id=correlation_id(request.scope))
    return _response(
        request, INTERNAL_ERROR, "The log of the service has the details under this correlation_id.", {}, {}
    )


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]]] = {
    errors.JobStateError: handle_domain_error,
    HTTPException: handle_http_exception,
    Exception: handle_unexpected_error,
}


def extension_members(error: errors.JobStateError) -> dict[str, Any]:
    """Return what a problem says beyond its kind and its words."""
    found: dict[str, Any] = {name: getattr(error, name) for name in _EXTENSION_MEMBERS if hasattr(error, name)}
    if isinstance(error, errors.InvalidValue):
        found["errors"] = [FieldError(error.field, error.detail, error.allowed)]
    return found


def build_problem(kind: ProblemType, detail: str, request_id: str, further: Mapping[str, Any]) -> Problem:
    """Return an occurrence of a kind."""
    return Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status,
        detail=detail,
        correlation_id=request_id,
        **further,
    )


def encode_problem(kind: ProblemType, detail: str, request_id: str) -> bytes:
    """Return the body of a problem that is answered from outside the application."""
    return msgspec.json.encode(build_problem(kind, detail, request_id, {}))


async def send_error(scope: HTTPScope, send: Send, error: errors.JobStateError) -> None:
    """Answer an error of the domain from outside the application."""
    kind = PROBLEM_TYPES[type(error)]
    scope["state"][PROBLEM] = kind.name
    body = msgspec.json.encode(build_problem(kind, str(error), correlation_id(scope), extension_members(error)))
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "cache-control": "no-store"}
    raw = [(name.encode(), value.encode()) for name, value in {**headers, **_headers(kind, error)}.items()]
    await send({"type": "http.response.start", "status": kind.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _headers(kind: ProblemType, error: errors.JobStateError) -> dict[str, str]:
    """Return when to come again, or what to come with (RFC 6750, section 3)."""
    if kind in RETRYABLE:
        return {"Retry-After": str(getattr(error, "retry_after", RETRY_AFTER))}
    match error:
        case errors.Unauthenticated():
            return {"WWW-Authenticate": f'{_REALM}, error="invalid_token"' if error.is_unknown else _REALM}
        case errors.InsufficientScope():
            return {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{error.scope}"'}
    return {}


def _response(
    request: Request[Any, Any, Any],
    kind: ProblemType,
    detail: str,
    headers: Mapping[str, str],
    further: Mapping[str, Any],
) -> Response[Problem]:
    request.scope["state"][PROBLEM] = kind.name
    body = build_problem(kind, detail, correlation_id(request.scope), further)
    unkept = {**headers, "Cache-Control": "no-store"}
    return Response(body, status_code=kind.status, media_type=MEDIA_TYPE, headers=unkept)


def _field_errors(request: Request[Any, Any, Any], error: HTTPException) -> list[FieldError]:
    if not isinstance(error, ValidationException):
        return []
    found = error.extra if isinstance(error.extra, list) else []
    return [_field_error(request, one.get("key", "body"), one["message"]) for one in found]


def _field_error(request: Request[Any, Any, Any], key: str, message: str) -> FieldError:
    if key == "data":
        return FieldError("body", "it is missing", "a JSON object")
    parameter = request.route_handler.parsed_fn_signature.parameters.get(key)
    definition = parameter.kwarg_definition if parameter else None
    return FieldError(key, message, getattr(definition, "description", None) or "what the API document says")


def _allow(error: HTTPException) -> str:
    return allow((error.headers or {}).get("allow", "").split(", "))


def _detail(request: Request[Any, Any, Any], error: HTTPException) -> str:
    match error.status_code:
        case 404:
            path, document = (address(request.scope, one) for one in (request.scope["path"], "/schema/openapi.json"))
            return f"There is nothing at {path!r}; {document} lists what there is."
        case 405:
            return f"{request.method} is not allowed here; allowed: {_allow(error)}."
        case 413:
            most = request.route_handler.resolve_request_max_body_size()
            return f"The body is larger than {most} bytes, the limit of this service (MAX_BODY_BYTES)."
        case _:
            return error.detail
