"""Reads responses: returns what they mean, or raises their error. No I/O."""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, TypeVar

import msgspec

from jobstate._problems import RETRYABLE_STATUSES, error_for
from jobstate.errors import ContentTooLarge, JobstateError, JobUnsuccessful, Redirected, UnexpectedResponse
from jobstate.models import Job, Problem

T = TypeVar("T")

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
PROBLEM_TYPE_PREFIX: Final = "urn:jobstate:problem:"
_MAX_EXCERPT: Final = 200


class Response(NamedTuple):
    """A response without its transport. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    #: Where a redirect points, and what to do; empty if it is none.
    redirect: str = ""

    @property
    def media_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Tagged(NamedTuple):
    """A record, its ETag, and its JSON byte for byte."""

    job: Job
    etag: str
    json: bytes


def read_bytes(response: Response) -> bytes:
    """Return the body of a successful response."""
    _check(response)
    return response.body


def read_empty(response: Response) -> None:
    """Return `None` for a successful response."""
    _check(response)


def read_has_stream(response: Response) -> bool:
    """Return whether an event stream follows; false if no more events will come (204)."""
    _check(response)
    if response.status != 204 and response.media_type != "text/event-stream":
        raise UnexpectedResponse(f"no event stream, but {response.media_type or 'no media type'}")
    return response.status != 204


def read_json(kind: type[T]) -> Callable[[Response], T]:
    """Return a reader of responses that are `kind` as JSON."""

    def read(response: Response) -> T:
        _check(response)
        return decode_json(response.body, kind)

    return read


def read_nothing_or(kind: type[T]) -> Callable[[Response], T | None]:
    """Return a reader of responses that are `kind` as JSON, or 204."""
    read = read_json(kind)
    return lambda response: None if response.status == 204 else read(response)


def read_tagged(response: Response) -> Tagged:
    """Return the record in a response."""
    _check(response)
    return Tagged(decode_json(response.body, Job), response.headers.get("etag", ""), response.body)


def read_unless_unchanged(response: Response) -> Tagged | None:
    """Return the record in a response, or `None` for 304."""
    return None if response.status == 304 else read_tagged(response)


def read_result(response: Response, job_id: str) -> bytes | None:
    """Return the bare result as JSON; `None` if there is none."""
    try:
        _check(response)
    except JobUnsuccessful as error:
        error.job_id = job_id
        raise
    return None if response.status == 204 else response.body


def _check(response: Response) -> None:
    """Raise the error that an unsuccessful response means."""
    if not 200 <= response.status < 300:
        raise error_from(response)


def error_from(response: Response) -> JobstateError:
    """Return the error that an unsuccessful response means.

    Only a problem of this service is believed. Anything else comes from something in between, such as a proxy without a
    backend, and counts as an outage; except 413, which is final from any server.
    """
    retry_after = parse_retry_after(response.headers.get("retry-after", ""))
    problem = _problem(response)
    if problem is not None:
        return error_for(problem, response.status, retry_after)
    if response.redirect:
        return Redirected(f"{response.status}: {response.redirect}", retry_after=retry_after)
    text = f"the response {response.status} is not from a jobstate service{_excerpt(response)}"
    if response.status == 413:
        return ContentTooLarge(text)
    unknown = response.status in RETRYABLE_STATUSES and response.status >= 500
    return UnexpectedResponse(text, retry_after=retry_after, outcome_unknown=unknown)


def parse_retry_after(text: str, now: Callable[[], float] = time.time) -> float:
    """Return the seconds that a `Retry-After` says; 0 if it says nothing valid. Proxies also send dates."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except ValueError:
        return 0.0


def _problem(response: Response) -> Problem | None:
    if response.media_type != PROBLEM_MEDIA_TYPE:
        return None
    try:
        problem = msgspec.json.decode(response.body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return problem if problem.type.startswith(PROBLEM_TYPE_PREFIX) else None


def decode_json(body: bytes, kind: type[T]) -> T:
    """Return JSON of the service as `kind`. Raises `UnexpectedResponse`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedResponse(f"the response is not from a jobstate service ({error})") from error


def _excerpt(response: Response) -> str:
    text = " ".join(response.body[:_MAX_EXCERPT].decode(errors="replace").split())
    return f": {text!a}" if text else ""
