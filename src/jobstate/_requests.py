"""Builds the requests of the API as data, each with the function that reads its response. No I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, Unpack
from urllib.parse import quote, urlencode
from uuid import uuid4

from msgspec import Raw, Struct
from msgspec.structs import replace

from jobstate import models
from jobstate._json import encode
from jobstate._options import JobFilter, JobOptions, RetryOptions
from jobstate._responses import (
    Response,
    Tagged,
    read_empty,
    read_has_stream,
    read_json,
    read_nothing_or,
    read_result,
    read_tagged,
    read_unless_unchanged,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Seconds for a response: more than the 3.5 s after which the service itself responds 503.
TIMEOUT: Final = 10.0
#: The maximum seconds of a long poll, and the maximum number of jobs in one batch.
MAX_WAIT: Final = 30
MAX_BATCH: Final = 1_000
#: Seconds without data after which a stream counts as disconnected: three of its keep-alives.
STREAM_TIMEOUT: Final = 45.0

_JSON: Final = {"Content-Type": "application/json"}


class Request(Struct, Generic[T_co], frozen=True, kw_only=True):
    """One request. Sending it again is safe: a change carries its `Idempotency-Key`."""

    method: str
    #: The path below the URL of the service, percent-encoded, with the query.
    path: str
    #: Returns what the response means, or raises its error.
    read: Callable[[Response], T_co]
    headers: Mapping[str, str] = {}
    body: bytes = b""
    #: Seconds for the response.
    timeout: float = TIMEOUT
    #: Called when the request is being sent, and may have an effect from then on.
    on_sent: Callable[[], None] | None = None

    def with_headers(self, headers: Mapping[str, str]) -> "Request[T_co]":
        """Return the request with additional headers."""
        return replace(self, headers={**self.headers, **headers})

    def reading(self, read: Callable[[Response], Any]) -> "Request[Any]":
        """Return the request with another reader, such as `read_bytes`."""
        return replace(self, read=read)


def job_path(job_id: str) -> str:
    """Return the path of a job. Raises `TypeError` or `ValueError` for what is not an id."""
    return f"/v1/jobs/{id_segment(job_id, 'a job id')}"


def id_segment(text: str, kind: str) -> str:
    """Return an id as a segment of a path. Raises `TypeError` or `ValueError` for what is not an id of this `kind`."""
    if not isinstance(text, str):
        raise TypeError(f"`id` must be a string, not {type(text).__name__}")
    if text in {"", ".", ".."}:
        raise ValueError(f"`id` {text!r} is not {kind}")
    return quote(text, safe="")


def trace_headers(job: models.Job | None) -> dict[str, str]:
    """Return the correlation id and the trace context of a job, if known, as headers for the requests about it."""
    if job is None:
        return {}
    return _ascii_headers({"X-Correlation-ID": job.correlation_id, "traceparent": job.traceparent})


def create_job(
    input_params: object, job_id: str | None, queue: str | None, key: str | None, options: JobOptions
) -> Request[Tagged]:
    """Create a job, once per `job_id`, or per `key` if the service makes the id.

    Raises `TypeError` or `ValueError` if `input_params` is not JSON, `TypeError` for an unknown option.
    """
    check_names(options, JobOptions)
    fields: dict[str, Any] = {**options}
    headers = {
        "X-Correlation-ID": fields.get("correlation_id") or "",
        "traceparent": fields.pop("traceparent", "") or "",
    }
    body = _body(job_id=job_id, queue=queue, **fields, input_params=Raw(encode(input_params)))
    headers = {name: text for name, text in headers.items() if text.isascii() and text.strip()}
    return change("POST", "/v1/jobs", read_tagged, body, key).with_headers(headers)


def get_job(job_id: str) -> Request[Tagged]:
    """Get a record."""
    return Request(method="GET", path=job_path(job_id), read=read_tagged)


def poll_job(job_id: str, etag: str, wait: int) -> Request[Tagged | None]:
    """Get a record as soon as its ETag is not `etag`, at the latest after `wait` seconds; `None` if it is unchanged."""
    query = f"?wait={wait}" if wait else ""
    headers = {"If-None-Match": etag} if etag else {}
    path = job_path(job_id) + query
    return Request(method="GET", path=path, read=read_unless_unchanged, headers=headers, timeout=TIMEOUT + wait)


def get_result(job_id: str) -> Request[bytes | None]:
    """Get the bare result as JSON; `None` if the job completed without one."""
    return Request(method="GET", path=f"{job_path(job_id)}/result", read=lambda response: read_result(response, job_id))


def get_history(job_id: str) -> Request[models.History]:
    """Get the changes of a job."""
    return Request(method="GET", path=f"{job_path(job_id)}/history", read=read_json(models.History))


def list_jobs(
    *, limit: int | None = None, cursor: str | None = None, include: Iterable[str] = (), **filters: Unpack[JobFilter]
) -> Request[models.JobPage]:
    """Get a page of jobs, newest first."""
    check_names(filters, JobFilter)
    query = _query(**with_labels(filters), limit=limit, cursor=cursor, include=",".join(include) or None)
    return Request(method="GET", path=f"/v1/jobs{query}", read=read_json(models.JobPage))


def batch_get(job_ids: Sequence[str]) -> Request[models.JobBatch]:
    """Get up to `MAX_BATCH` records at once. It changes nothing."""
    body = _body(job_ids=list(job_ids))
    return Request(method="POST", path="/v1/batch-get", read=read_json(models.JobBatch), headers=_JSON, body=body)


def update_job(
    job_id: str, body: bytes, *, token: str = "", if_match: str = "", key: str | None = None
) -> Request[Tagged]:
    """Change the status or the progress of a job; `body` is the JSON of the change."""
    return change("PATCH", job_path(job_id), read_tagged, body, key, token=token, if_match=if_match)


def cancel_job(job_id: str, *, key: str | None = None) -> Request[Tagged]:
    """Cancel a job, or ask its worker to stop."""
    return change("POST", f"{job_path(job_id)}/cancel", read_tagged, key=key)


def retry_job(job_id: str, options: RetryOptions, *, key: str | None = None) -> Request[Tagged]:
    """Make a failed or cancelled job pending again."""
    return change("POST", f"{job_path(job_id)}/retry", read_tagged, _body(**options), key)


def delete_job(job_id: str, *, key: str | None = None) -> Request[None]:
    """Delete a job that has ended."""
    return change("DELETE", job_path(job_id), read_empty, key=key)


def claim_jobs(
    queues: Sequence[str], worker: str, lease_seconds: int, max_jobs: int, wait_seconds: int = 0, key: str | None = None
) -> Request[models.ClaimList | None]:
    """Claim up to `max_jobs`, each under a lease; `None` if none is due within `wait_seconds`.

    Its repetition returns the same jobs.
    """
    body = _body(
        queues=list(queues), worker=worker, lease_seconds=lease_seconds, max_jobs=max_jobs, wait_seconds=wait_seconds
    )
    request = change("POST", "/v1/batch-claim", read_nothing_or(models.ClaimList), body, key)
    return replace(request, timeout=TIMEOUT + wait_seconds)


def heartbeat(
    job_id: str, token: str, progress: models.Progress | None = None, lease_seconds: int | None = None
) -> Request[models.Heartbeat]:
    """Extend a lease, and report progress."""
    body = _body(progress=progress, lease_seconds=lease_seconds)
    path = f"{job_path(job_id)}/heartbeat"
    return change("POST", path, read_json(models.Heartbeat), body, token=token)


def release(job_id: str, token: str, body: bytes = b"{}", *, key: str | None = None) -> Request[Tagged]:
    """Give a job back; with an `error_message` in `body` the attempt has failed."""
    return change("POST", f"{job_path(job_id)}/release", read_tagged, body, key, token=token)


def get_stats() -> Request[models.Stats]:
    """Get exact counts of all jobs."""
    return Request(method="GET", path="/v1/stats", read=read_json(models.Stats))


def list_queues() -> Request[models.QueueList]:
    """Get the settings and counts of all queues."""
    return Request(method="GET", path="/v1/queues", read=read_json(models.QueueList))


def configure_queue(queue: str, **settings: object) -> Request[models.Queue]:
    """Change the settings of a queue that are given; `None` clears one."""
    path = f"/v1/queues/{quote(queue, safe='')}"
    return Request(method="PUT", path=path, read=read_json(models.Queue), headers=_JSON, body=encode(settings))


def get_drain() -> Request[models.DrainStatus]:
    """Get the status of the drain."""
    return Request(method="GET", path="/v1/drain", read=read_json(models.DrainStatus))


def start_drain(seconds: int | None = None) -> Request[models.DrainStatus]:
    """Create and claim no jobs for some time."""
    body = _body(seconds=seconds)
    return Request(method="POST", path="/v1/drain", read=read_json(models.DrainStatus), headers=_JSON, body=body)


def stop_drain() -> Request[models.DrainStatus]:
    """Create and claim jobs again."""
    return Request(method="DELETE", path="/v1/drain", read=read_json(models.DrainStatus))


def job_events(job_id: str, last_event_id: str = "") -> Request[bool]:
    """Open the stream of a job's changes; reads whether there is a stream, or the client has it all."""
    return _stream(f"{job_path(job_id)}/events", last_event_id)


def all_events(last_event_id: str = "", **filters: object) -> Request[bool]:
    """Open the stream of the events of all jobs that match the filters `status`, `queue`, `slate_id`, `labels`."""
    return _stream(f"/v1/events{_query(**with_labels(filters))}", last_event_id)


def change(
    method: str,
    path: str,
    read: Callable[[Response], T],
    body: bytes = b"",
    key: str | None = None,
    *,
    token: str = "",
    if_match: str = "",
) -> Request[T]:
    """Return a request that changes something, under `key` or a new one, so that it can be sent again."""
    headers = {"Idempotency-Key": key or str(uuid4())} | (_JSON if body else {})
    headers |= {name: text for name, text in (("Lease-Token", token), ("If-Match", if_match)) if text}
    return Request(method=method, path=path, read=read, headers=headers, body=body)


def _stream(path: str, last_event_id: str) -> Request[bool]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    return Request(method="GET", path=path, read=read_has_stream, headers=headers)


def check_names(given: Mapping[str, Any], kind: Any) -> None:
    """Raise `TypeError` for names that are not keys of a `TypedDict`."""
    if unknown := given.keys() - kind.__annotations__.keys():
        names = ", ".join(f"`{name}`" for name in kind.__annotations__)
        raise TypeError(f"unknown argument `{min(unknown)}`: use one of {names}")


def _body(**fields: object) -> bytes:
    return encode({name: value for name, value in fields.items() if value is not None})


def _query(**parameters: object) -> str:
    given = {
        name: value if isinstance(value, list) else value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
    return f"?{urlencode(given, doseq=True)}" if given else ""


def with_labels(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters as the API has them: labels as a list of `key:value`.

    Raises `TypeError` for labels that are no mapping of texts, and `ValueError` for a key with a colon.
    """
    given = filters.get("labels") or {}
    if not (isinstance(given, Mapping) and all(isinstance(text, str) for pair in given.items() for text in pair)):
        raise TypeError(f"`labels` is {given!r}: use a mapping of texts, such as {{'tenant': 'acme'}}")
    if wrong := [key for key in given if ":" in key]:
        raise ValueError(f"`labels`: the key {wrong[0]!r} has a colon")
    labels = [f"{key}:{value}" for key, value in given.items()]
    return {name: value for name, value in filters.items() if name != "labels"} | {"label": labels or None}


def _ascii_headers(headers: Mapping[str, str | None]) -> dict[str, str]:
    """Return those that are valid in a header."""
    return {name: text for name, text in headers.items() if text and text.isascii() and text == text.strip()}
