"""The requests of a worker. Each is sent until the service responds, so that a lease survives an outage."""

import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

import httpx
from msgspec.structs import replace

from jobstate import _requests
from jobstate._flow import Flow, FlowRun, Send, call, log, pause
from jobstate._requests import TIMEOUT, Request, trace_headers
from jobstate._retry import Deadline, Retry, RetryPolicy
from jobstate._runners import AsyncRunner
from jobstate.errors import (
    ConnectionLost,
    ContentTooLarge,
    IllegalTransition,
    JobNotFound,
    LeaseLost,
    NotLeased,
    RequestRejected,
    ServiceUnavailable,
)
from jobstate.models import Claim, ClaimList, Progress
from jobstate.worker.outcomes import JobUpdate

#: What the service says to a worker that no longer has the job.
LEASE_LOST: Final = (LeaseLost, JobNotFound, IllegalTransition, NotLeased)
#: Maximum seconds between two attempts of a claim, and of a request under a lease. After an outage the service waits
#: 10 s before it reaps expired leases.
MAX_DELAY: Final = 30.0
MAX_DELAY_WITH_LEASE: Final = 5.0
#: Maximum seconds that a claim waits after a failure, so that the end of an outage is noticed early.
MAX_WAIT_AFTER_FAILURE: Final = 1
#: The most jobs that the service gives in one claim.
MAX_CLAIMED: Final = 100
ONCE: Final = RetryPolicy(max_attempts=1)
#: Bytes that a client can send before it notices a closed connection, and the number of lost connections after which
#: the size is taken for the reason.
MAX_SMALL_BODY: Final = 64 * 1024
MAX_LOST: Final = 3

T = TypeVar("T")


class ClaimRequest:
    """A request for the first due jobs of some queues, under one idempotency key."""

    #: Whether it was sent without a response. The service may then have assigned jobs.
    is_unanswered = False

    def __init__(self, queues: Sequence[str], worker: str, lease_seconds: int, max_jobs: int) -> None:
        self.key = str(uuid4())
        self._arguments = (queues, worker, lease_seconds, max_jobs)

    def waiting(self, seconds: int) -> Request[ClaimList | None]:
        """Return the request that waits some seconds for a job."""
        return replace(_requests.claim_jobs(*self._arguments, seconds, key=self.key), on_sent=self._on_sent)

    def _on_sent(self) -> None:
        self.is_unanswered = True


class Outage:
    """The failures since the last response, over all requests of a worker."""

    failures = 0
    _since = 0.0

    def add_failure(self) -> None:
        """Count a request without a response."""
        self._since = self._since if self.failures else time.monotonic()
        self.failures += 1

    def end(self) -> None:
        """Log the end of an outage, if there was one."""
        if self.failures:
            log.info("service recovered after %.1f s", time.monotonic() - self._since)
            self.failures = 0


class EndlessRetry(Retry):
    """Retries for ever, at least every `max_delay` seconds, whatever `Retry-After` says."""

    def __init__(self, max_delay: float, outage: Outage) -> None:
        super().__init__(RetryPolicy(max_delay=max_delay), Deadline(None), persistent=True)
        self._max_delay = max_delay
        self._outage = outage

    @property
    def failures(self) -> int:
        """The failures of all requests, so that an outage is reported once."""
        return self._outage.failures

    def delay_after(self, error: ServiceUnavailable) -> float:
        """Return the seconds before the next attempt."""
        self._outage.add_failure()
        return min(super().delay_after(error) or 0.0, self._max_delay)


class WorkerClient:
    """Sends the requests of a worker. Each method raises `RequestRejected`; those for a job also `LEASE_LOST`."""

    def __init__(self, http: httpx.AsyncClient, queues: Sequence[str], worker: str, lease_seconds: int) -> None:
        self.queues = queues
        self.lease_seconds = lease_seconds
        self._http = http
        self._worker = worker
        self._outage = Outage()

    def new_claim(self, max_jobs: int) -> ClaimRequest:
        """Return a request for the first due jobs of the worker's queues, at most `max_jobs`."""
        return ClaimRequest(self.queues, self._worker, self.lease_seconds, min(max_jobs, MAX_CLAIMED))

    async def claim(self, claim_request: ClaimRequest, wait_seconds: int) -> tuple[Claim, ...]:
        """Claim the jobs that are due, waiting up to `wait_seconds` for the first one."""
        found = await self._run(_claiming(claim_request, wait_seconds, EndlessRetry(MAX_DELAY, self._outage)))
        claim_request.is_unanswered = False
        return found.items if found else ()

    async def recover_claim(self, claim_request: ClaimRequest) -> tuple[Claim, ...]:
        """Return the jobs that an interrupted claim may have claimed. Tries once; also raises `ServiceUnavailable`."""
        if not claim_request.is_unanswered:
            return ()
        found = await self._run(call(claim_request.waiting(0), Retry(ONCE, Deadline(None))))
        return found.items if found else ()

    async def heartbeat(self, claim: Claim, progress: Progress | None) -> bool:
        """Extend the lease and report `progress`; return whether cancellation is requested."""
        request = _about(claim, _requests.heartbeat(claim.job.job_id, claim.lease.token, progress))
        request = replace(request, timeout=min(TIMEOUT, self.lease_seconds / 3))
        return (await self._run(call(request, self._retry()))).cancel_requested

    async def update_job(self, claim: Claim, update: JobUpdate) -> str:
        """Apply an update and return the job's new status. Raises `ContentTooLarge` also without a response."""
        job_id, token = claim.job.job_id, claim.lease.token
        if update.is_release:
            request = _requests.release(job_id, token, update.body, key=update.key)
        else:
            request = _requests.update_job(job_id, update.body, token=token, key=update.key)
        flow = call(_about(claim, request), self._retry())
        if len(update.body) > MAX_SMALL_BODY:
            flow = checking_size(flow, len(update.body), _about(claim, _requests.heartbeat(job_id, token)))
        return (await self._run(flow)).job.status

    def _retry(self) -> Retry:
        return EndlessRetry(min(MAX_DELAY_WITH_LEASE, self.lease_seconds / 3), self._outage)

    async def _run(self, flow: Flow[T]) -> T:
        try:
            result = await AsyncRunner(self._http).run(flow)
        except RequestRejected:
            self._outage.end()
            raise
        self._outage.end()
        return result


def _claiming(claim_request: ClaimRequest, wait_seconds: int, retry: Retry) -> Flow[ClaimList | None]:
    """Claim jobs; after a failure wait only `MAX_WAIT_AFTER_FAILURE` for one."""
    try:
        return (yield from call(claim_request.waiting(wait_seconds), Retry(ONCE, Deadline(None))))
    except ServiceUnavailable as error:
        failure = error
    yield from pause(retry, failure)
    return (yield from call(claim_request.waiting(min(wait_seconds, MAX_WAIT_AFTER_FAILURE)), retry))


def checking_size(flow: Flow[T], size: int, probe: Request[Any]) -> Flow[T]:
    """Execute a flow that sends `size` bytes. Raises `ContentTooLarge` if only small requests get a response.

    A service may close the connection during a body that is too large, before the client reads its 413.
    """
    run, lost = FlowRun(flow), 0
    step = run.proceed()
    while step is not None:
        try:
            outcome = yield step
        except ServiceUnavailable as error:
            if isinstance(error, ConnectionLost):
                lost = lost + 1 if (yield from _is_answered(probe)) else 0
            if lost == MAX_LOST:
                raise ContentTooLarge(
                    f"the service closed the connection {MAX_LOST} times during a body of {size} bytes, but accepts "
                    "small requests: the body probably exceeds its `MAX_BODY_BYTES`"
                ) from error
            step = run.fail(error)
        else:
            step = run.proceed(outcome)
    return run.result


def _is_answered(probe: Request[Any]) -> Flow[bool]:
    try:
        probe.read((yield Send(probe, probe.timeout)))
    except ServiceUnavailable:
        return False
    return True


def _about(claim: Claim, request: Request[T]) -> Request[T]:
    return request.with_headers(trace_headers(claim.job))
