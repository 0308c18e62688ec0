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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, TypeVar
from uuid import uuid4

import httpx

#: Seconds before the first repetition, doubled for each further one, up to the longest.
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
#: Sooner where a lease is held: a service that is back takes leases that have run out from those not heard of in 10 s.
LONGEST_PAUSE_WITH_LEASE: Final = 5.0
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
#: The status that refuses a body for its size, for good also where a proxy says so.
TOO_LARGE: Final = 413
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
    """No usable answer; `retry_after` are the seconds for which the service asks to be left alone (0: it does not)."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class JobLost(ServiceError):
    """The job is gone, ended by somebody else, or another worker's."""


class RequestRefused(ServiceError):
    """The service understood the request and will never accept it."""


class Claim(NamedTuple):
    """A job, and the lease on it."""

    #: The record as the service gave it.
    job: Mapping[str, Any]
    token: str
    lease_seconds: int

    @property
    def longest_pause(self) -> float:
        """Seconds that may pass between two attempts to reach the service."""
        return min(LONGEST_PAUSE_WITH_LEASE, self.lease_seconds / 3)


class Asking:
    """A wish for a job, under a key that makes it harmless to say it again."""

    #: Whether it was sent and not answered: it may have got a job then.
    is_open = False

    def __init__(self, queues: Sequence[str], worker: str, lease_seconds: int) -> None:
        """Ask for the oldest job of `queues` that is due."""
        self.key = str(uuid4())
        self._lease_seconds = lease_seconds
        self._wish = {"queues": list(queues), "worker": worker, "lease_seconds": lease_seconds}

    def body(self, wait_seconds: int) -> bytes:
        """Return what to send in order to wait so long."""
        return encoded({**self._wish, "wait_seconds": wait_seconds})

    def read(self, answer: Any) -> Claim | None:
        """Return the job of an answer."""
        if answer is None:
            return None
        claim = Claim(answer["job"], answer["lease"]["token"], self._lease_seconds)
        claim.job["job_id"]  # without it nothing can be said of the job
        return claim

    async def note(self, event: str, details: Mapping[str, Any]) -> None:
        """Take down what httpx tells of the request."""
        self.is_open = self.is_open or event.endswith("send_request_body.started")


class Change(NamedTuple):
    """What is to become of a job, under a key that makes it harmless to say it again."""

    method: str
    #: What follows the job's address.
    call: str
    #: JSON.
    body: bytes
    key: str

    @classmethod
    def to(cls, status: str, **fields: object) -> Self:
        """Return the move to a final status; raise `TypeError` or `ValueError` for fields that are not JSON."""
        return cls("PATCH", "", encoded({"status": status, **fields}), str(uuid4()))

    @classmethod
    def release(cls, **fields: object) -> Self:
        """Return what gives the job back; an `error_message` counts as a failed attempt."""
        return cls("POST", "/release", encoded(fields), str(uuid4()))


def authorization(api_key: str, url: str) -> dict[str, str]:
    """Return the header that shows an API key; empty for none. Raises `ValueError`, which does not show it either."""
    key = api_key.strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("an API key has visible ASCII characters only")
    if httpx.URL(url).userinfo:
        raise ValueError("a password in the URL and an API key would go into one header: give one of them")
    return {"Authorization": f"Bearer {key}"}


def encoded(value: object) -> bytes:
    """Return `value` as JSON; raise `TypeError` or `ValueError` for what JSON does not know."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


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
        return await self._repeated(request, claim.longest_pause, lambda answer: str(answer["status"]))

    def _about(self, claim: Claim, method: str, call: str, body: bytes, timeout: float = TIMEOUT) -> httpx.Request:
        headers = {"Content-Type": "application/json", "Lease-Token": claim.token, **_ties(claim.job)}
        address = f"/v1/jobs/{claim.job['job_id']}{call}"
        return self._http.build_request(method, address, content=body, headers=headers, timeout=timeout)

    async def _repeated(self, request: httpx.Request, longest_pause: float, read: Callable[[Any], T]) -> T:
        """Send a request until it is answered: at growing intervals, or when the service says, within the longest.

        Returns what `read` makes of the JSON (`None` for an answer without content); where it raises `LookupError` or
        `TypeError`, the answer is not the service's.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                answer = await self._sent(request, read)
            except ServiceAway as away:
                self._note_away(away)
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
            raise ServiceAway(str(error) or type(error).__name__) from error
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
        body = response.json()
    except ValueError as error:
        raise ServiceAway("the answer is not JSON") from error
    if not isinstance(body, dict):
        raise ServiceAway("the answer is not a JSON object")
    return body


def _refusal(response: httpx.Response) -> ServiceError:
    said = f"{response.status_code} {response.reason_phrase}"
    if response.status_code in AWAY:
        return ServiceAway(said, _seconds(response.headers.get("Retry-After", "")))
    problem = _object(response) if _media_type(response) == PROBLEM else {}
    name = str(problem.get("type"))
    if not name.startswith(TYPE):
        said = f"{said}, and not by the service"
        return RequestRefused(said) if response.status_code == TOO_LARGE else ServiceAway(said)
    said = f"{said}: {problem.get('detail') or problem.get('title') or 'no detail'}"
    return JobLost(said) if name in LOST else RequestRefused(said)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _seconds(retry_after: str) -> float:
    """Read the header's seconds; its other form, a date, is not used by the service."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
