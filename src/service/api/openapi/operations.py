"""The documentation of an operation: its responses with headers and examples, and its problems."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypedDict

from litestar.openapi import spec
from litestar.openapi.datastructures import ResponseSpec

from service.api import problems as kinds
from service.api import rate_limit
from service.api.openapi.examples import Examples, example
from service.api.problems import MEDIA_TYPE, Problem, ProblemType
from service.api.request_context import CORRELATION_HEADER
from service.domain import errors

#: A domain error, one of Litestar's errors by its HTTP status, or the type itself.
Cause = type[errors.JobStateError] | int | ProblemType


def problems(*causes: Cause) -> tuple[ProblemType, ...]:
    """Return the problem types of causes."""
    tables: Mapping[Any, ProblemType] = {**kinds.PROBLEM_TYPES, **kinds.HTTP_PROBLEM_TYPES}
    return tuple(cause if isinstance(cause, ProblemType) else tables[cause] for cause in causes)


#: The problems of every operation.
COMMON_ERRORS: Final = problems(
    errors.InvalidValue,
    406,
    kinds.MALFORMED_REQUEST,
    kinds.REQUEST_TIMEOUT,
    kinds.HEADERS_TOO_LARGE,
    kinds.INTERNAL_ERROR,
)
#: The problems of an operation that requires a scope.
AUTH_ERRORS: Final = problems(errors.Unauthenticated, errors.InsufficientScope)
#: The problems of an operation under the rate limit and the admission checks.
LIMIT_ERRORS: Final = problems(errors.RateLimited, errors.Overloaded, kinds.HOST_NOT_ALLOWED)
#: The problems of an operation that calls Redis, and of those that read, delete or write keys, or have a body.
STORE_ERRORS: Final = tuple(
    kind
    for error, kind in kinds.PROBLEM_TYPES.items()
    if issubclass(error, errors.StoreUnavailable) and error is not errors.StoreOutOfMemory
)
READ_ERRORS: Final = problems(*AUTH_ERRORS, *LIMIT_ERRORS, *STORE_ERRORS, errors.StoreCorrupt)
DELETE_ERRORS: Final = (*READ_ERRORS, kinds.ORIGIN_NOT_ALLOWED)
WRITE_ERRORS: Final = problems(*DELETE_ERRORS, errors.StoreOutOfMemory)
#: The problems of an operation with a `Lease-Token`, and of a change of one job.
LEASE_ERRORS: Final = problems(errors.JobNotFound, errors.LeaseLost)
RETRY_ERRORS: Final = problems(
    *WRITE_ERRORS,
    *problems(errors.JobNotFound, errors.IllegalTransition, errors.PreconditionFailed, errors.IdempotencyKeyReused),
)
CHANGE_ERRORS: Final = problems(*RETRY_ERRORS, *LEASE_ERRORS)
BODY_ERRORS: Final = problems(413, 415, kinds.ORIGIN_NOT_ALLOWED)


class Success(NamedTuple):
    """A successful response.

    `links` names operations that take the `job_id` of its body. `extra_media_types` are additional to the handler's.
    """

    description: str
    examples: Examples = MappingProxyType({})
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    extra_media_types: tuple[str, ...] = ()


class OperationKwargs(TypedDict):
    """Arguments of a route handler."""

    operation_class: type[spec.Operation]
    responses: dict[int, ResponseSpec]
    status_code: int


def operation_docs(
    successes: Mapping[int, Success],
    causes: Iterable[Cause] = (),
    *,
    requests: Examples = MappingProxyType({}),
    body_required: bool = True,
) -> OperationKwargs:
    """Return the arguments of a route handler that document it: successes, problems by cause, examples of `requests`.

    The lowest status of the successes is the handler's own. `body_required` is false if the body may be left out, which
    Litestar does not document by itself.
    """
    problem_types = problems(*COMMON_ERRORS, *causes)
    by_status = _by_status(problem_types)
    limit_headers = rate_limit.HEADERS if kinds.PROBLEM_TYPES[errors.RateLimited] in problem_types else ()

    @dataclass
    class DocumentedOperation(spec.Operation):
        def __post_init__(self) -> None:
            responses: dict[str, Any] = dict(self.responses or {})
            content = next(responses[str(status)].content for status in successes if str(status) in responses)
            for status, success in successes.items():
                if success.examples and str(status) not in responses:  # Litestar documents one success only
                    copied = {name: spec.OpenAPIMediaType(schema=one.schema) for name, one in (content or {}).items()}
                    responses[str(status)] = spec.OpenAPIResponse("", content=copied)
                responses[str(status)] = _complete_success(responses.get(str(status)), success, limit_headers)
            for status, types in by_status.items():
                _complete_problem(responses[str(status)], types, limit_headers)
            self.responses = dict(sorted(responses.items()))
            self.security = self.security or []  # of a public operation; Litestar leaves out an empty list
            self.parameters = [_parameter(one) for one in self.parameters or ()]
            if isinstance(self.request_body, spec.RequestBody):
                self.request_body.required = body_required
                self.request_body.content["application/json"].examples = _examples(requests)

    specs = {
        status: ResponseSpec(Problem, generate_examples=False, description=_description(types), media_type=MEDIA_TYPE)
        for status, types in by_status.items()
    }
    return OperationKwargs(operation_class=DocumentedOperation, responses=specs, status_code=min(successes))


def _by_status(problem_types: Iterable[ProblemType]) -> dict[int, list[ProblemType]]:
    ordered = sorted(set(problem_types), key=lambda one: (one.status, one.name))
    return {status: list(group) for status, group in groupby(ordered, key=lambda one: one.status)}


def _complete_success(
    response: spec.OpenAPIResponse | None, success: Success, limit_headers: tuple[str, ...]
) -> spec.OpenAPIResponse:
    response = response or spec.OpenAPIResponse("")
    response.description = success.description
    response.headers = _headers(*success.headers, *limit_headers)
    for content in (response.content or {}).values():
        content.examples = _examples(success.examples) or None
    if response.content:
        [own] = response.content.values()
        response.content |= dict.fromkeys(success.extra_media_types, own)
    job = {"job_id": "$response.body#/job_id"}
    response.links = {name: spec.Link(operation_id=name, parameters=job) for name in success.links} or None
    return response


def _complete_problem(
    response: spec.OpenAPIResponse, problem_types: list[ProblemType], limit_headers: tuple[str, ...]
) -> None:
    if any(one in kinds.RETRYABLE for one in problem_types):
        response.headers = _headers("Retry-After", *limit_headers)
    else:
        supported = ("Accept", "Accept-Encoding") if kinds.HTTP_PROBLEM_TYPES[415] in problem_types else ()
        challenge = ("WWW-Authenticate",) if any(one in AUTH_ERRORS for one in problem_types) else ()
        response.headers = _headers(*supported, *challenge, *limit_headers)
    content: spec.OpenAPIMediaType = (response.content or {})[MEDIA_TYPE]
    content.examples = {one.name: _component_ref("examples", one.name) for one in problem_types}


def _description(problem_types: Iterable[ProblemType]) -> str:
    return "; ".join(f"{one.title} (`{one.name}`)" for one in problem_types)


def _headers(*names: str) -> dict[str, Any]:
    return {name: _component_ref("headers", name) for name in (*names, CORRELATION_HEADER)}


def _component_ref(section: str, name: str) -> spec.Reference:
    return spec.Reference(f"#/components/{section}/{name}")


def _examples(values: Examples) -> dict[str, spec.Example | spec.Reference]:
    return {name: example(value) for name, value in values.items()}


def _parameter(parameter: Any) -> spec.Parameter:
    """Return a parameter without `null` in its schema: a path, query or header has no null."""
    schema = parameter.schema
    if isinstance(schema, spec.Schema) and schema.one_of:
        [present] = [arm for arm in schema.one_of if isinstance(arm, spec.Schema) and arm.type != spec.OpenAPIType.NULL]
        schema.one_of, schema.type = None, schema.type or present.type
    if isinstance(schema, spec.Schema) and schema.type == spec.OpenAPIType.ARRAY:
        parameter.style, parameter.explode = "form", True  # sent once for each value
    schema.description = parameter.examples = None  # duplicates of the parameter's own
    result: spec.Parameter = parameter
    return result
