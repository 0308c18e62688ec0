"""Schemathesis hooks: rules of the service that JSON Schema cannot express."""

import re
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

from service.domain.constraints import TEXT

#: Rules that can be recognized only by the error text.
KNOWN_DETAILS = re.compile(
    r"got `float`"  # JSON Schema takes 5.0 for an integer, the service does not
    r"|the cursor is invalid or belongs to other filters"  # only the service can make a cursor
    r"|'0' is not a list of entity tags"  # schemathesis does not follow the pattern of these headers
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Limit waits to a second, and read only the beginning of a stream."""
    is_claim = case.path in {"/v1/claims", "/v1/batch-claim"}
    if is_claim and isinstance(case.body, dict) and case.body.get("wait_seconds") in range(2, 31):
        case.body["wait_seconds"] = 1
    if case.query and case.query.get("wait") in range(2, 31):
        case.query["wait"] = 1
    if case.path.endswith("/events"):
        kwargs["stream"] = True
        kwargs["hooks"] = {"response": _read_the_beginning}


def _read_the_beginning(response: requests.Response, **_: Any) -> None:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        response._content = next(response.raw.stream(1024), b"")
        response._content_consumed = True
        response.close()


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Stop a drain at once, because other operations answer 503 during it."""
    if case.path == "/v1/drain" and case.method == "POST" and response.status_code == 200:
        requests.delete(response.request.url, timeout=10).raise_for_status()


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Return whether to keep a failure: not if one of these rules rejected or accepted the request."""
    if isinstance(failure, UseAfterFree):
        return not case.path.startswith("/v1/bulk-actions")  # an aborted one stays readable
    if isinstance(failure, AcceptedNegativeData):
        return bool(response.request.body != b"null")  # counts as no body, where a body may be left out
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    [error] = response.json()["errors"]
    return not (KNOWN_DETAILS.search(error["detail"]) or _is_long(error, case))


def _is_long(error: dict[str, str], case: Any) -> bool:
    """Return whether a text was rejected because it exceeds the limit in bytes, which is not one in characters."""
    values = {**(case.query or {}), **(case.body if isinstance(case.body, dict) else {})}
    for name in error["field"].split("."):
        values = values.get(name, {})
    return isinstance(values, str) and len(values.encode()) > TEXT.max_bytes and "bytes of UTF-8" in error["allowed"]
