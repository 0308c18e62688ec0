"""The HTTP client of a worker. It retries each request until the service responds.

ServiceError
├── ServiceUnavailable  no usable response: retried here, except in `recover_claim`
├── LeaseLost           the worker no longer has the job
└── RequestRefused      the service rejects the request for good
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

import httpx

from jobstate.redirects import is_redirect, redirect_advice
from jobstate_worker.encoding import encoded
from jobstate_worker.requests import Claim, ClaimRequest, JobUpdate

#: Seconds before the first retry, doubled for each further one up to `MAX_PAUSE`.
FIRST_PAUSE: Final = 0.25
MAX_PAUSE: Final = 30.0
#: Seconds for a response: more than the 3.5 s after which the service itself answers 503.
TIMEOUT: Final = 10.0
#: Statuses after which a request is retried.
RETRYABLE_STATUSES: Final = {408, 429, *range(500, 600)}
#: What httpx raises if there is no readable response.
TRANSPORT_ERRORS: Final = (
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.DecodingError,
)
#: The subset that also occurs when the service closes the connection because a body is too large.
DISCONNECTED: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
#: Bytes that a client can send before it notices a closed connection, and the number of disconnects after which the
#: size is taken for the reason.
MAX_SMALL_BODY: Final = 64 * 1024
MAX_DISCONNECTS: Final = 3
#: The status for a body that is too large. It is final even if a proxy sends it.
CONTENT_TOO_LARGE: Final = 413
#: The statuses that reject the content or the size of a body.
BODY_REJECTED: Final = {400, CONTENT_TOO_LARGE}
#: Media type and type prefix of the service's problems. An error response without them comes from another server.
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
PROBLEM_TYPE_PREFIX: Final = "urn:jobstate:problem:"
#: Problem types that mean that the worker no longer has the job.
LEASE_LOST_TYPES: Final = {
    PROBLEM_TYPE_PREFIX + name for name in ("job-not-found", "lease-lost", "illegal-transition", "not-leased")
}
#: Fields of a job that the worker sends as headers in the requests about this job.
PROPAGATED_HEADERS: Final = {"correlation_id": "X-Correlation-ID", "traceparent": "traceparent"}

T = TypeVar("T")

log = logging.getLogger("jobstate_worker")


class ServiceError(Exception):
    """The base class of a worker's request errors."""


class ServiceUnavailable(ServiceError):
    """There is no usable response; retry later.

    `retry_after` is the `Retry-After` of the response in seconds, 0 without one. `disconnected` says whether the
    connection closed before the response.
    """

    def __init__(self, reason: str, retry_after: float = 0.0, *, disconnected: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.disconnected = disconnected


class LeaseLost(ServiceError):
    """The lease is no longer valid: the job is deleted, finished, pending or leased by another worker."""


class RequestRefused(ServiceError):
    """The service rejected the request for good; `status` is the HTTP status of its response."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class WorkerClient:
    """Sends the requests of a worker. Each method raises `RequestRefused`; those for a job also `LeaseLost`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Send requests with `http`, whose `base_url` is the service."""
        self._http = http
        self._unavailable_since: float | None = None

    async def claim(self, claim_request: ClaimRequest, wait_seconds: int) -> Claim | None:
        """Claim a job, waiting up to `wait_seconds` for one; return `None` if there is none."""
        claim = await self._send_with_retry(
            self._claim_request(claim_request, wait_seconds), MAX_PAUSE, claim_request.read
        )
        claim_request.is_unanswered = False
        return claim

    async def recover_claim(self, claim_request: ClaimRequest) -> Claim | None:
        """Return the job that an interrupted claim may have claimed. Tries once; also raises `ServiceUnavailable`."""
        if not claim_request.is_unanswered:
            return None
        return await self._send_once(self._claim_request(claim_request, 0), claim_request.read)

    def _claim_request(self, claim_request: ClaimRequest, wait_seconds: int) -> httpx.Request:
        return self._http.build_request(
            "POST",
            "/v1/claims",
            content=claim_request.body(wait_seconds),
            headers={"Content-Type": "application/json", "Idempotency-Key": claim_request.key},
            timeout=TIMEOUT + wait_seconds,
            extensions={"trace": claim_request.trace},
        )

    async def heartbeat(self, claim: Claim, progress: Mapping[str, object] | None) -> bool:
        """Extend the lease and report `progress`; return whether cancellation is requested."""
        body = encoded({"progress": progress} if progress else {})
        request = self._job_request(claim, "POST", "/heartbeat", body, timeout=min(TIMEOUT, claim.lease_seconds / 3))
        return await self._send_with_retry(request, claim.max_pause, lambda body: bool(body["cancel_requested"]))

    async def update_job(self, claim: Claim, update: JobUpdate) -> str:
        """Apply an update and return the job's new status."""
        request = self._job_request(claim, update.method, update.path, update.body)
        request.headers["Idempotency-Key"] = update.key
        disconnects = 0

        async def check_size(unavailable: ServiceUnavailable) -> None:
            nonlocal disconnects
            if unavailable.disconnected and len(update.body) > MAX_SMALL_BODY:
                disconnects = disconnects + 1 if await self._is_available(claim) else 0
            if disconnects == MAX_DISCONNECTS:
                raise RequestRefused(
                    f"the service closed the connection {MAX_DISCONNECTS} times during a body of {len(update.body)} "
                    "bytes, but accepts small requests: the body probably exceeds its `MAX_BODY_BYTES`",
                    CONTENT_TOO_LARGE,
                )

        return await self._send_with_retry(request, claim.max_pause, lambda body: str(body["status"]), check_size)

    async def _is_available(self, claim: Claim) -> bool:
        """Return whether the service accepts a small request, a heartbeat. Raises `LeaseLost`."""
        try:
            await self._send_once(
                self._job_request(claim, "POST", "/heartbeat", b"{}"), lambda body: body["cancel_requested"]
            )
        except ServiceUnavailable:
            return False
        return True

    def _job_request(
        self, claim: Claim, method: str, path: str, body: bytes, timeout: float = TIMEOUT
    ) -> httpx.Request:
        headers = {"Content-Type": "application/json", "Lease-Token": claim.token, **_propagated_headers(claim.job)}
        address = f"/v1/jobs/{claim.job['job_id']}{path}"
        return self._http.build_request(method, address, content=body, headers=headers, timeout=timeout)

    async def _send_with_retry(
        self,
        request: httpx.Request,
        max_pause: float,
        read: Callable[[Any], T],
        check: Callable[[ServiceUnavailable], Awaitable[None]] | None = None,
    ) -> T:
        """Send a request until there is a response, with exponential backoff of at most `max_pause` seconds.

        Returns `read(body)`, with the JSON object of the response or `None` for 204. If `read` raises `LookupError` or
        `TypeError`, the response counts as an outage. `check` may end the retries by raising an error.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                result = await self._send_once(request, read)
            except ServiceUnavailable as error:
                self._mark_unavailable(error)
                if check:
                    await check(error)
                wait = max(pause, error.retry_after) * random.uniform(1, 1.5)
                await asyncio.sleep(min(wait, max_pause))
                pause = min(2 * pause, max_pause)
            except ServiceError:
                self._mark_recovered()
                raise
            else:
                self._mark_recovered()
                return result

    async def _send_once(self, request: httpx.Request, read: Callable[[Any], T]) -> T:
        try:
            response = await self._http.send(request)
        except TRANSPORT_ERRORS as error:
            raise ServiceUnavailable(
                str(error) or type(error).__name__, disconnected=isinstance(error, DISCONNECTED)
            ) from error
        if not response.is_success:
            raise _error_from_response(response)
        try:
            return read(None if response.status_code == 204 else _object(response))
        except (LookupError, TypeError) as error:
            raise ServiceUnavailable("the response lacks an expected field") from error

    def _mark_unavailable(self, error: ServiceUnavailable) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = time.monotonic()
            log.warning("service unavailable, retrying: %s", error)

    def _mark_recovered(self) -> None:
        if self._unavailable_since is not None:
            log.info("service recovered after %.1f s", time.monotonic() - self._unavailable_since)
            self._unavailable_since = None


def _propagated_headers(job: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the job's correlation id and trace context as headers; omit values that are not valid in a header."""
    headers = {header: job.get(member) or "" for member, header in PROPAGATED_HEADERS.items()}
    return {header: text for header, text in headers.items() if text and text.isascii() and text == text.strip()}


def _object(response: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object of a response. Raises `ServiceUnavailable` if there is none."""
    try:
        body = json.loads(response.content, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ServiceUnavailable("the response is not JSON") from error
    if not isinstance(body, dict):
        raise ServiceUnavailable("the response is not a JSON object")
    return body


def _integer(digits: str) -> int | Decimal:
    """Return an integer, or a `Decimal` if it exceeds Python's limit of digits for `int`."""
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)


def _error_from_response(response: httpx.Response) -> ServiceError:
    reason = f"{response.status_code} {response.reason_phrase}"
    if response.status_code in RETRYABLE_STATUSES:
        return ServiceUnavailable(reason, _seconds(response.headers.get("Retry-After", "")))
    problem = _object(response) if _media_type(response) == PROBLEM_MEDIA_TYPE else {}
    name = str(problem.get("type"))
    if is_redirect(response):
        return ServiceUnavailable(f"{reason}: {redirect_advice(response)}")
    if not name.startswith(PROBLEM_TYPE_PREFIX):
        reason = f"{reason}, not from the service"
        return (
            RequestRefused(reason, CONTENT_TOO_LARGE)
            if response.status_code == CONTENT_TOO_LARGE
            else ServiceUnavailable(reason)
        )
    reason = f"{reason}: {problem.get('detail') or problem.get('title') or 'no detail'}"
    return LeaseLost(reason) if name in LEASE_LOST_TYPES else RequestRefused(reason, response.status_code)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _seconds(retry_after: str) -> float:
    """Return the seconds of `Retry-After`; 0 for a date, which the service does not send."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
