"""Which refusals of a request that fits its schema are right: by rules that JSON Schema cannot express."""

import re
from typing import Any

import requests
import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

from service.domain.constraints import LABEL

#: Rules that only the words of a refusal tell.
BY_WORDS = re.compile(
    r"got `float`"  # 5.0 is an integer to JSON Schema, to this service it is not
    r"|it is not from a list with these filters"  # a cursor is known to its maker only
    r"|'0' is not a list of entity tags"  # schemathesis fills these headers by words of its own, not by their pattern
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Let nothing wait for more than a second, and read of a stream what comes first: it need not have an end."""
    if case.path == "/v1/claims" and isinstance(case.body, dict) and case.body.get("wait_seconds") in range(2, 31):
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
    """Lift a drain at once: under it the other operations would answer 503, as they should."""
    if case.path == "/v1/drain" and case.method == "POST" and response.status_code == 200:
        requests.delete(response.request.url, timeout=10).raise_for_status()


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Keep a failure, but for a right refusal."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    [error] = response.json()["errors"]
    return not (BY_WORDS.search(error["detail"]) or _is_long(error, case))


def _is_long(error: dict[str, str], case: Any) -> bool:
    """Say whether a text is refused that has more bytes than characters allowed."""
    values = {**(case.query or {}), **(case.body if isinstance(case.body, dict) else {})}
    for name in error["field"].split("."):
        values = values.get(name, {})
    return isinstance(values, str) and len(values.encode()) > LABEL.max_bytes and "bytes of UTF-8" in error["allowed"]
