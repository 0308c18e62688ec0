"""The job service as a worker sees it, over HTTP alone.

ServiceError
├── ServiceAway     no usable answer: ask again later
├── JobMoved        the job is not, or no longer, where the worker thinks it is
└── RequestRefused  the request itself is wrong: asking again does not help
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

#: Statuses that say "not now": too many requests, or any trouble of the service or of what stands before it.
AWAY = {429, *range(500, 600)}
#: Statuses that say "not this job": gone, moved on, or changed since it was read.
MOVED = {404, 409, 412}


class ServiceError(Exception):
    """Anything but a success."""


class ServiceAway(ServiceError):
    """No usable answer; whether the service applied the request is unknown."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        """Keep the seconds after which the service asks to be tried again, if it says so."""
        super().__init__(reason)
        self.retry_after = retry_after


class JobMoved(ServiceError):
    """The job is gone, or in another state than the request needs."""

    def __init__(self, detail: str, current_status: str | None) -> None:
        """Keep the status that the service says the job has; `None` if it does not say."""
        super().__init__(detail)
        self.current_status = current_status


class RequestRefused(ServiceError):
    """The service understood the request and will never accept it."""


class Job(NamedTuple):
    """A record, and the ETag of exactly this state of it."""

    record: dict[str, Any]
    etag: str


class JobService:
    """The few calls that a worker makes; each one is tried once."""

    def __init__(self, http: httpx.Client) -> None:
        """Use a client whose `base_url` is the service."""
        self._http = http

    def pending_job_ids(self, queue: str) -> list[str]:
        """List the pending jobs of a queue, oldest first."""
        query = {"queue": queue, "status": "pending", "limit": "200"}
        page = self._send("GET", "/v1/jobs", params=query)[0]
        items = list(page["items"])
        while "next_cursor" in page:
            page = self._send("GET", "/v1/jobs", params={**query, "cursor": page["next_cursor"]})[0]
            items += page["items"]
        return [item["job_id"] for item in reversed(items)]

    def get(self, job_id: str) -> Job:
        """Read one job with its inputs."""
        record, headers = self._send("GET", _path(job_id))
        return Job(record, headers.get("ETag", ""))

    def change(self, job_id: str, body: Mapping[str, object], key: str, if_match: str | None = None) -> None:
        """Change a job; the same key with the same body may be sent again, and takes effect once."""
        headers = {"Idempotency-Key": key} | ({"If-Match": if_match} if if_match else {})
        self._send("PATCH", _path(job_id), json=body, headers=headers)

    def _send(self, method: str, path: str, **content: Any) -> tuple[dict[str, Any], httpx.Headers]:
        try:
            response = self._http.request(method, path, **content)
        except httpx.RequestError as error:
            raise ServiceAway(str(error) or type(error).__name__) from error
        if not response.is_success:
            raise _refusal(response)
        return _read_object(response), response.headers


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _refusal(response: httpx.Response) -> ServiceError:
    detail = f"{response.status_code} {response.reason_phrase}"
    if response.status_code in AWAY:
        return ServiceAway(detail, _retry_after(response))
    problem = _problem(response)
    detail = f"{detail}: {problem.get('detail') or problem.get('title') or 'no detail'}"
    if response.status_code in MOVED:
        return JobMoved(detail, problem.get("current_status"))
    return RequestRefused(detail)


def _retry_after(response: httpx.Response) -> float | None:
    """Read the seconds; the header's other form, a date, is not used by this service."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        return _read_object(response)
    except ServiceAway:
        return {}


def _read_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError as error:
        raise ServiceAway("the answer is not JSON") from error
    if not isinstance(body, dict):
        raise ServiceAway("the answer is not a JSON object")
    return body
