"""What the API document says of an operation: each answer with its headers and examples, each problem by its name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypedDict

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    Link,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)

from service.api import auth, correlation, rate_limit
from service.api.openapi.examples import Examples, example
from service.api.problems import (
    HEADERS_TOO_LARGE,
    HOST_NOT_ALLOWED,
    HTTP_PROBLEM_TYPES,
    INTERNAL_ERROR,
    MALFORMED_REQUEST,
    MEDIA_TYPE,
    ORIGIN_NOT_ALLOWED,
    PROBLEM_TYPES,
    REQUEST_TIMEOUT,
    RETRYABLE,
    Problem,
    ProblemType,
)
from service.domain import errors

ETAG: Final = "ETag"
LOCATION: Final = "Location"
IDEMPOTENCY_REPLAYED: Final = "Idempotency-Replayed"
RETRY_AFTER: Final = "Retry-After"
ACCEPT: Final = "Accept"
ACCEPT_ENCODING: Final = "Accept-Encoding"
PREFERENCE_APPLIED: Final = "Preference-Applied"
WWW_AUTHENTICATE: Final = "WWW-Authenticate"


def problems(*found: type[errors.JobStateError] | int) -> tuple[ProblemType, ...]:
    """Return the problems that errors of the domain, and of the framework by their HTTP status, are."""
    return tuple(HTTP_PROBLEM_TYPES[one] if isinstance(one, int) else PROBLEM_TYPES[one] for one in found)


#: The problems of every operation.
COMMON_ERRORS: Final = (
    *problems(errors.InvalidValue, 406),
    MALFORMED_REQUEST,
    REQUEST_TIMEOUT,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
)
#: Those of an operation that takes a scope.
AUTH_ERRORS: Final = problems(errors.Unauthenticated, errors.InsufficientScope)
#: Those of an operation that not everybody may ask for at any time.
LIMIT_ERRORS: Final = (*problems(errors.RateLimited, errors.Overloaded), HOST_NOT_ALLOWED)
#: Those of one that asks Redis whether it lives, reads keys of ours, takes some away, writes them, has a body.
STORE_ERRORS: Final = problems(
    errors.StoreUnreachable,
    errors.StoreTimeout,
    errors.StoreLoading,
    errors.StoreReadOnly,
    errors.StoreBusy,
    errors.StoreAccessDenied,
    errors.DataVersionUnsupported,
)
READ_ERRORS: Final = (*AUTH_ERRORS, *LIMIT_ERRORS, *STORE_ERRORS, *problems(errors.StoreCorrupt))
DELETE_ERRORS: Final = (*READ_ERRORS, ORIGIN_NOT_ALLOWED)
WRITE_ERRORS: Final = (*DELETE_ERRORS, *problems(errors.StoreOutOfMemory))
BODY_ERRORS: Final = (*problems(413, 415), ORIGIN_NOT_ALLOWED)


class SuccessResponse(NamedTuple):
    """One way in which an operation succeeds.

    `links` names operations that take the job's id from it, `others` its media types besides the handler's own.
    """

    description: str
    headers: tuple[str, ...] = ()
    examples: Examples = MappingProxyType({})
    links: tuple[str, ...] = ()
    extra_media_types: tuple[str, ...] = ()


class OperationKwargs(TypedDict):
    """The arguments of a route handler that carry what the document says of it."""

    operation_class: type[Operation]
    responses: dict[int, ResponseSpec]


def operation_docs(
    successes: Mapping[int, SuccessResponse],
    *refusals: ProblemType,
    requests: Examples | None = None,
    body_required: bool = True,
) -> OperationKwargs:
    """Return what the document says of an operation: its successes, its problems, examples of what is sent.

    `body_required` is false where the body may be left out, which Litestar's document does not say.
    """
    kinds = _by_status((*COMMON_ERRORS, *refusals))
    limits = rate_limit.HEADERS if PROBLEM_TYPES[errors.RateLimited] in refusals else ()

    @dataclass
    class Declared(Operation):
        def __post_init__(self) -> None:
            given: dict[str, Any] = dict(self.responses or {})
            record = next(given[str(status)].content for status in successes if str(status) in given)
            for status, answer in successes.items():
                if answer.examples and str(status) not in given:  # Litestar knows of one success only
                    same = {name: OpenAPIMediaType(schema=one.schema) for name, one in (record or {}).items()}
                    given[str(status)] = OpenAPIResponse("", content=same)
                given[str(status)] = _success(given.get(str(status)), answer, limits)
            for status, those in kinds.items():
                _refuse(given[str(status)], those, limits)
            self.responses = dict(sorted(given.items()))
            self.security = auth.openapi_security(self.operation_id)
            self.parameters = [
                *map(_parameter, self.parameters or ()),
                _component_ref("parameters", correlation.HEADER),
            ]
            if isinstance(self.request_body, RequestBody):
                self.request_body.required = body_required
                self.request_body.content["application/json"].examples = _named(requests or {})

    specs = {
        status: ResponseSpec(Problem, generate_examples=False, description=_meaning(those), media_type=MEDIA_TYPE)
        for status, those in kinds.items()
    }
    return OperationKwargs(operation_class=Declared, responses=specs)


def _by_status(kinds: Iterable[ProblemType]) -> dict[int, list[ProblemType]]:
    ordered = sorted(set(kinds), key=lambda kind: (kind.status, kind.name))
    return {status: list(those) for status, those in groupby(ordered, key=lambda kind: kind.status)}


def _success(found: OpenAPIResponse | None, answer: SuccessResponse, limits: tuple[str, ...]) -> OpenAPIResponse:
    response = found or OpenAPIResponse("")
    response.description = answer.description
    response.headers = _headers(*answer.headers, *limits)
    for content in (response.content or {}).values():
        content.examples = _named(answer.examples) or None
    if response.content:
        [own] = response.content.values()
        response.content |= dict.fromkeys(answer.extra_media_types, own)
    job = {"job_id": "$response.body#/job_id"}
    response.links = {name: Link(operation_id=name, parameters=job) for name in answer.links} or None
    return response


def _refuse(response: OpenAPIResponse, kinds: list[ProblemType], limits: tuple[str, ...]) -> None:
    if any(kind in RETRYABLE for kind in kinds):
        response.headers = _headers(RETRY_AFTER, *limits)
    else:
        unread = (ACCEPT, ACCEPT_ENCODING) if HTTP_PROBLEM_TYPES[415] in kinds else ()
        challenge = (WWW_AUTHENTICATE,) if any(kind in AUTH_ERRORS for kind in kinds) else ()
        response.headers = _headers(*unread, *challenge, *limits)
    content: OpenAPIMediaType = (response.content or {})[MEDIA_TYPE]
    content.examples = {kind.name: _component_ref("examples", kind.name) for kind in kinds}


def _meaning(kinds: Iterable[ProblemType]) -> str:
    return "; ".join(f"{kind.title} (`{kind.name}`)" for kind in kinds)


def _headers(*names: str) -> dict[str, Any]:
    return {name: _component_ref("headers", name) for name in (*names, correlation.HEADER)}


def _component_ref(room: str, name: str) -> Reference:
    return Reference(f"#/components/{room}/{name}")


def _named(values: Examples) -> dict[str, Example | Reference]:
    return {name: example(value) for name, value in values.items()}


def _parameter(parameter: Any) -> Parameter:
    """Show a parameter that may be left out as optional: nothing in an address or a header is ever null."""
    schema = parameter.schema
    if isinstance(schema, Schema) and schema.one_of:
        [there] = [arm for arm in schema.one_of if isinstance(arm, Schema) and arm.type != OpenAPIType.NULL]
        schema.one_of, schema.type = None, schema.type or there.type
    schema.description = parameter.examples = None  # said once is enough
    found: Parameter = parameter
    return found
