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
from jobstate_worker.requests import Asking, Change, Claim

#: Seconds before the first repetition, doubled for each further one, up to the longest.
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
#: Seconds for an answer: more than the 3.5 s within which the service itself gives up.
TIMEOUT: Final = 10.0
#: Statuses that say "not now": slow, too often, or any trouble of the service or of what stands before it.
AWAY: Final = {408, 429, *range(500, 600)}
#: What httpx raises where no answer came that can be read.
UNHEARD: Final = (
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.DecodingError,
)
#: Those of them that the service causes as well when it closes the connection on a body that is too large.
CUT: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
#: How many bytes are sent whole before a client notices this, and how often it happens before the size is the reason.
SMALL_BODY: Final = 64 * 1024
CUTS: Final = 3
#: The status that refuses a body for its size, for good also where a proxy says so.
TOO_LARGE: Final = 413
#: The statuses that reject what a body says, or its size.
BODY_REJECTED: Final = {400, TOO_LARGE}
#: How a refusal of the service is told from one of whatever else may answer at its address.
PROBLEM: Final = "application/problem+json"
TYPE: Final = "urn:jobstate:problem:"
#: Problems that say "not your job".
LOST: Final = {TYPE + name for name in ("job-not-found", "lease-lost", "illegal-transition", "not-leased")}
#: The members of a job that tie a request to what caused the job, and the headers that they go in.
TIES: Final = {"correlation_id": "X-Correlation-ID", "traceparent": "traceparent"}

T = TypeVar("T")

log = logging.getLogger("jobstate_worker")


class ServiceError(Exception):
    """Anything but a success."""


class ServiceAway(ServiceError):
    """No usable answer; `retry_after` are the seconds for which the service asks to be left alone (0: it does not).

    `cut`: the connection was closed before an answer came.
    """

    def __init__(self, reason: str, retry_after: float = 0.0, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.cut = cut


class JobLost(ServiceError):
    """The job is gone, ended by somebody else, or another worker's."""


class RequestRefused(ServiceError):
    """The service understood the request and will never accept it; `status` is the status of its answer."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class Service:
    """The calls of a worker. Each raises `RequestRefused`; those on a job also `JobLost`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Use a client whose `base_url` is the service."""
        self._http = http
        self._away_since: float | None = None

    async def claim(self, asking: Asking, wait_seconds: int) -> Claim | None:
        """Take the job that is asked for, which may wait so long; `None` if there is none."""
        claim = await self._repeated(self._claiming(asking, wait_seconds), LONGEST_PAUSE, asking.read)
        asking.is_open = False
        return claim

    async def claim_unheard(self, asking: Asking) -> Claim | None:
        """Take the job that a claim may have got that was cut off; tries once, and so raises `ServiceAway` too."""
        return await self._sent(self._claiming(asking, 0), asking.read) if asking.is_open else None

    def _claiming(self, asking: Asking, wait_seconds: int) -> httpx.Request:
        return self._http.build_request(
            "POST",
            "/v1/claims",
            content=asking.body(wait_seconds),
            headers={"Content-Type": "application/json", "Idempotency-Key": asking.key},
            timeout=TIMEOUT + wait_seconds,
            extensions={"trace": asking.note},
        )

    async def heartbeat(self, claim: Claim, progress: Mapping[str, object] | None) -> bool:
        """Extend the lease and report `progress`; say whether the job is to be cancelled."""
        body = encoded({"progress": progress} if progress else {})
        request = self._about(claim, "POST", "/heartbeat", body, timeout=min(TIMEOUT, claim.lease_seconds / 3))
        return await self._repeated(request, claim.longest_pause, lambda answer: bool(answer["cancel_requested"]))

    async def change(self, claim: Claim, change: Change) -> str:
        """Apply a change and return the status that the job has then."""
        request = self._about(claim, change.method, change.call, change.body)
        request.headers["Idempotency-Key"] = change.key
        cuts = 0

        async def check_size(away: ServiceAway) -> None:
            nonlocal cuts
            if away.cut and len(change.body) > SMALL_BODY:
                cuts = cuts + 1 if await self._is_available(claim) else 0
            if cuts == CUTS:
                raise RequestRefused(
                    f"the service closed the connection {CUTS} times while {len(change.body)} bytes were sent, "
                    "but answers small requests: the body is probably larger than its `MAX_BODY_BYTES`",
                    TOO_LARGE,
                )

        return await self._repeated(request, claim.longest_pause, lambda answer: str(answer["status"]), check_size)

    async def _is_available(self, claim: Claim) -> bool:
        """Return whether the service answers a small request, which extends the lease; raise `JobLost` as others do."""
        try:
            await self._sent(self._about(claim, "POST", "/heartbeat", b"{}"), lambda answer: answer["cancel_requested"])
        except ServiceAway:
            return False
        return True

    def _about(self, claim: Claim, method: str, call: str, body: bytes, timeout: float = TIMEOUT) -> httpx.Request:
        headers = {"Content-Type": "application/json", "Lease-Token": claim.token, **_ties(claim.job)}
        address = f"/v1/jobs/{claim.job['job_id']}{call}"
        return self._http.build_request(method, address, content=body, headers=headers, timeout=timeout)

    async def _repeated(
        self,
        request: httpx.Request,
        longest_pause: float,
        read: Callable[[Any], T],
        check: Callable[[ServiceAway], Awaitable[None]] | None = None,
    ) -> T:
        """Send a request until it is answered: at growing intervals, or when the service says, within the longest.

        Returns what `read` makes of the JSON (`None` for an answer without content); where it raises `LookupError` or
        `TypeError`, the answer is not the service's. `check` may end the repetition by an error.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                answer = await self._sent(request, read)
            except ServiceAway as away:
                self._note_away(away)
                if check:
                    await check(away)
                wait = max(pause, away.retry_after) * random.uniform(1, 1.5)
                await asyncio.sleep(min(wait, longest_pause))
                pause = min(2 * pause, longest_pause)
            except ServiceError:
                self._note_back()
                raise
            else:
                self._note_back()
                return answer

    async def _sent(self, request: httpx.Request, read: Callable[[Any], T]) -> T:
        try:
            response = await self._http.send(request)
        except UNHEARD as error:
            raise ServiceAway(str(error) or type(error).__name__, cut=isinstance(error, CUT)) from error
        if not response.is_success:
            raise _refusal(response)
        try:
            return read(None if response.status_code == 204 else _object(response))
        except (LookupError, TypeError) as error:
            raise ServiceAway("the answer is not the service's") from error

    def _note_away(self, away: ServiceAway) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("service away (%s); trying again until it is back", away)

    def _note_back(self) -> None:
        if self._away_since is not None:
            log.info("service back after %.1f s", time.monotonic() - self._away_since)
            self._away_since = None


def _ties(job: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers that tie a request to what caused the job, where its members can stand in a header."""
    found = {header: job.get(member) or "" for member, header in TIES.items()}
    return {header: text for header, text in found.items() if text and text.isascii() and text == text.strip()}


def _object(response: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer; whatever else answers with a success is not the service."""
    try:
        body = json.loads(response.content, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ServiceAway("the answer is not JSON") from error
    if not isinstance(body, dict):
        raise ServiceAway("the answer is not a JSON object")
    return body


def _integer(digits: str) -> int | Decimal:
    """Return an integer of JSON; one that has more digits than Python reads as an `int` is exact as a `Decimal`."""
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)


def _refusal(response: httpx.Response) -> ServiceError:
    said = f"{response.status_code} {response.reason_phrase}"
    if response.status_code in AWAY:
        return ServiceAway(said, _seconds(response.headers.get("Retry-After", "")))
    problem = _object(response) if _media_type(response) == PROBLEM else {}
    name = str(problem.get("type"))
    if is_redirect(response):
        return ServiceAway(f"{said}: {redirect_advice(response)}")
    if not name.startswith(TYPE):
        said = f"{said}, and not by the service"
        return RequestRefused(said, TOO_LARGE) if response.status_code == TOO_LARGE else ServiceAway(said)
    said = f"{said}: {problem.get('detail') or problem.get('title') or 'no detail'}"
    return JobLost(said) if name in LOST else RequestRefused(said, response.status_code)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _seconds(retry_after: str) -> float:
    """Read the header's seconds; its other form, a date, is not used by the service."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
