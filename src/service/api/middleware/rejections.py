"""Problems that middleware sends before the application runs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from litestar.types import HTTPScope, Send

from service.api.problems import MEDIA_TYPE, PROBLEM_TYPES, ProblemType, build_problem, error_headers, extension_members
from service.api.request_context import context_of, correlation_id
from service.domain.errors import JobStateError


class Rejection(NamedTuple):
    """Why a request is rejected, and the headers of the response."""

    problem_type: ProblemType
    detail: str
    headers: Mapping[str, str] = MappingProxyType({})
    #: Further members of the problem.
    extensions: Mapping[str, Any] = MappingProxyType({})


async def send_rejection(scope: HTTPScope, send: Send, rejection: Rejection) -> None:
    """Send the problem of a rejection."""
    problem_type, detail, headers, extensions = rejection
    context_of(scope).problem = problem_type.name
    body = msgspec.json.encode(build_problem(problem_type, detail, correlation_id(scope), extensions))
    own = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "cache-control": "no-store"}
    raw = [(name.encode(), value.encode()) for name, value in {**own, **headers}.items()]
    await send({"type": "http.response.start", "status": problem_type.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(scope: HTTPScope, send: Send, error: JobStateError) -> None:
    """Send the problem of a domain error."""
    problem_type = PROBLEM_TYPES[type(error)]
    headers = error_headers(problem_type, error)
    await send_rejection(scope, send, Rejection(problem_type, str(error), headers, extension_members(error)))
