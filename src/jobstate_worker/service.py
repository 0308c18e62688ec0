"""The service as a worker sees it: calls are repeated until the service has answered them.

ServiceError
├── ServiceAway     no usable answer: repeated here, but for the last question of a worker that ends
├── JobLost         the job is gone, or no longer this worker's
└── RequestRefused  the request itself is wrong: repeating it does not help
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

#: Seconds before the first repetition, doubled for each further one, up to the longest.
FIRST_PAUSE: Final = 0.25
MAX_PAUSE: Final = 30.0
#: Seconds for an answer: more than the 3.5 s within which the service itself gives up.
TIMEOUT: Final = 10.0
#: Statuses that say "not now": slow, too often, or any trouble of the service or of what stands before it.
RETRYABLE_STATUSES: Final = {408, 429, *range(500, 600)}
#: What httpx raises where no answer came that can be read.
TRANSPORT_ERRORS: Final = (
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.DecodingError,
)
#: Those of them that the service causes as well when it closes the connection on a body that is too large.
DISCONNECTED: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
#: How many bytes are sent whole before a client notices this, and how often it happens before the size is the reason.
MAX_SMALL_BODY: Final = 64 * 1024
MAX_DISCONNECTS: Final = 3
#: The status that refuses a body for its size, for good also where a proxy says so.
CONTENT_TOO_LARGE: Final = 413
#: The statuses that reject what a body says, or its size.
BODY_REJECTED: Final = {400, CONTENT_TOO_LARGE}
#: How a refusal of the service is told from one of whatever else may answer at its address.
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
PROBLEM_TYPE_PREFIX: Final = "urn:jobstate:problem:"
#: Problems that say "not your job".
LEASE_LOST_TYPES: Final = {
    PROBLEM_TYPE_PREFIX + name for name in ("job-not-found", "lease-lost", "illegal-transition", "not-leased")
}
#: The members of a job that tie a request to what caused the job, and the headers that they go in.
PROPAGATED_HEADERS: Final = {"correlation_id": "X-Correlation-ID", "traceparent": "traceparent"}

T = TypeVar("T")

log = logging.getLogger("jobstate_worker")


class ServiceError(Exception):
    """Anything but a success."""


class ServiceUnavailable(ServiceError):
    """No usable answer; `retry_after` are the seconds for which the service asks to be left alone (0: it does not).

    `cut`: the connection was closed before an answer came.
    """

    def __init__(self, reason: str, retry_after: float = 0.0, *, disconnected: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.disconnected = disconnected


class LeaseLost(ServiceError):
    """The job is gone, ended by somebody else, or another worker's."""


class RequestRefused(ServiceError):
    """The service understood the request and will never accept it; `status` is the status of its answer."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class WorkerClient:
    """The calls of a worker. Each raises `RequestRefused`; those on a job also `JobLost`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Use a client whose `base_url` is the service."""
        self._http = http
        self._unavailable_since: float | None = None

    async def claim(self, claim_request: ClaimRequest, wait_seconds: int) -> Claim | None:
        """Take the job that is asked for, which may wait so long; `None` if there is none."""
        claim = await self._send_with_retry(
            self._claim_request(claim_request, wait_seconds), MAX_PAUSE, claim_request.read
        )
        claim_request.is_unanswered = False
        return claim

    async def recover_claim(self, claim_request: ClaimRequest) -> Claim | None:
        """Take the job that a claim may have got that was cut off; tries once, and so raises `ServiceAway` too."""
        return (
            await self._send_once(self._claim_request(claim_request, 0), claim_request.read)
            if claim_request.is_unanswered
            else None
        )

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
        """Extend the lease and report `progress`; say whether the job is to be cancelled."""
        body = encoded({"progress": progress} if progress else {})
        request = self._job_request(claim, "POST", "/heartbeat", body, timeout=min(TIMEOUT, claim.lease_seconds / 3))
        return await self._send_with_retry(request, claim.max_pause, lambda answer: bool(answer["cancel_requested"]))

    async def update_job(self, claim: Claim, update: JobUpdate) -> str:
        """Apply a change and return the status that the job has then."""
        request = self._job_request(claim, update.method, update.path, update.body)
        request.headers["Idempotency-Key"] = update.key
        disconnects = 0

        async def check_size(unavailable: ServiceUnavailable) -> None:
            nonlocal disconnects
            if unavailable.disconnected and len(update.body) > MAX_SMALL_BODY:
                disconnects = disconnects + 1 if await self._is_available(claim) else 0
            if disconnects == MAX_DISCONNECTS:
                raise RequestRefused(
                    f"the service closed the connection {MAX_DISCONNECTS} times while {len(update.body)} bytes were sent, "
                    "but answers small requests: the body is probably larger than its `MAX_BODY_BYTES`",
                    CONTENT_TOO_LARGE,
                )

        return await self._send_with_retry(request, claim.max_pause, lambda answer: str(answer["status"]), check_size)

    async def _is_available(self, claim: Claim) -> bool:
        """Return whether the service answers a small request, which extends the lease; raise `JobLost` as others do."""
        try:
            await self._send_once(
                self._job_request(claim, "POST", "/heartbeat", b"{}"), lambda answer: answer["cancel_requested"]
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
        """Send a request until it is answered: at growing intervals, or when the service says, within the longest.

        Returns what `read` makes of the JSON (`None` for an answer without content); where it raises `LookupError` or
        `TypeError`, the answer is not the service's. `check` may end the repetition by an error.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                answer = await self._send_once(request, read)
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
                return answer

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
            raise ServiceUnavailable("the answer is not the service's") from error

    def _mark_unavailable(self, error: ServiceUnavailable) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = time.monotonic()
            log.warning("service away (%s); trying again until it is back", error)

    def _mark_recovered(self) -> None:
        if self._unavailable_since is not None:
            log.info("service back after %.1f s", time.monotonic() - self._unavailable_since)
            self._unavailable_since = None


def _propagated_headers(job: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers that tie a request to what caused the job, where its members can stand in a header."""
    headers = {header: job.get(member) or "" for member, header in PROPAGATED_HEADERS.items()}
    return {header: text for header, text in headers.items() if text and text.isascii() and text == text.strip()}


def _object(response: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer; whatever else answers with a success is not the service."""
    try:
        body = json.loads(response.content, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ServiceUnavailable("the answer is not JSON") from error
    if not isinstance(body, dict):
        raise ServiceUnavailable("the answer is not a JSON object")
    return body


def _integer(digits: str) -> int | Decimal:
    """Return an integer of JSON; one that has more digits than Python reads as an `int` is exact as a `Decimal`."""
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
        reason = f"{reason}, and not by the service"
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
    """Read the header's seconds; its other form, a date, is not used by the service."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
