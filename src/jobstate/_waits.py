"""The flows that wait for jobs: one by long polls, many by the shared stream, the changes of one by its stream."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from jobstate._flow import Emit, Flow, Signal, Sleep, Wait, call
from jobstate._hub import REMOVALS, Hub, Start, ended
from jobstate._requests import MAX_WAIT, get_job, job_events, poll_job, trace_headers
from jobstate._responses import Tagged, decode_json
from jobstate._retry import Deadline, Retry, RetryPolicy
from jobstate._sse import Event, EventStream
from jobstate.errors import JobDeleted, JobExpired, JobNotFound, ServiceUnavailable, UnexpectedResponse, WaitTimeout
from jobstate.models import Job

#: The concurrent waits of one client that use a long poll each. Further ones share one event stream.
MAX_LONG_POLLS: Final = 8
#: Seconds after which a wait on the shared stream looks at its jobs itself, as a long poll does.
_RECHECK: Final = float(MAX_WAIT)

#: Seconds before the next long poll after one that brought no news: something in between may respond at once.
_POLL_PAUSE: Final = 0.1

#: The final record of a job, or the error for a job that exists no more.
Outcome: TypeAlias = Job | JobExpired


class Waits:
    """The waits of one client."""

    def __init__(self, start: Start, make_signal: Callable[[], Signal], policy: RetryPolicy) -> None:
        """Follow the shared stream with `start`."""
        self.hub = Hub(start, policy)
        self._make_signal = make_signal
        self._policy = policy
        self._long_polls = threading.BoundedSemaphore(MAX_LONG_POLLS)

    def wait(self, job_id: str, known: Job | None, timeout: float | None) -> Flow[Job]:
        """Return the final record of a job; `known` is its last record. Outages are waited out.

        Raises `WaitTimeout` after `timeout` seconds, `JobExpired` if the job exists no more.
        """
        deadline = Deadline(timeout)
        if self._long_polls.acquire(blocking=False):
            try:
                return (yield from wait_by_long_poll(job_id, known, self._policy, deadline))
            finally:
                self._long_polls.release()
        outcomes: list[Outcome] = []
        yield from self._wait_shared([job_id], lambda _, outcome: outcomes.append(outcome), deadline)
        if isinstance(outcomes[0], JobExpired):
            raise outcomes[0]
        return outcomes[0]

    def wait_all(
        self, job_ids: Iterable[str], on_end: Callable[[str, Outcome], object], timeout: float | None
    ) -> Flow[None]:
        """Call `on_end` with each job and its outcome, in the order in which they end. It may raise, to end the wait.

        Outages are waited out. Raises `WaitTimeout` after `timeout` seconds.
        """
        yield from self._wait_shared(job_ids, on_end, Deadline(timeout))

    def _wait_shared(
        self, job_ids: Iterable[str], on_end: Callable[[str, Outcome], object], deadline: Deadline
    ) -> Flow[None]:
        pending = dict.fromkeys(job_ids)
        if not pending:
            return
        with self.hub.subscribed(pending, self._make_signal()) as subscription:
            woken: dict[str, bool] = {}
            while True:
                try:
                    found = woken or (yield from ended(pending, self._retry(deadline)))
                    for job_id in [job_id for job_id in found if job_id in pending]:
                        outcome = yield from self._outcome(job_id, woken.get(job_id, False), deadline)
                        if isinstance(outcome, JobExpired) or outcome.is_final:
                            del pending[job_id]
                            on_end(job_id, outcome)
                except ServiceUnavailable as error:
                    raise timed_out(list(pending), f"the service was unavailable: {error}") from error
                if not pending:
                    return
                if deadline.remaining <= 0:
                    raise timed_out(list(pending))
                yield Wait(subscription.signal, min(_RECHECK, deadline.remaining))
                woken = subscription.take()

    def _outcome(self, job_id: str, is_deleted: bool, deadline: Deadline) -> Flow[Outcome]:
        try:
            tagged = yield from call(get_job(job_id), self._retry(deadline))
        except JobNotFound:
            return expired(job_id, is_deleted=is_deleted)
        return tagged.job

    def _retry(self, deadline: Deadline) -> Retry:
        return Retry(self._policy, deadline, persistent=True)


def wait_by_long_poll(job_id: str, job: Job | None, policy: RetryPolicy, deadline: Deadline) -> Flow[Job]:
    """Return the final record of a job, by long polls. Raises as `Waits.wait`."""
    etag = ""
    while True:
        remaining = deadline.remaining
        request = poll_job(job_id, etag, int(min(MAX_WAIT, remaining))).with_headers(trace_headers(job))
        try:
            tagged: Tagged | None = yield from call(request, Retry(policy, deadline, persistent=True))
        except ServiceUnavailable as error:
            raise timed_out([job_id], f"the service was unavailable: {error}") from error
        except JobNotFound as error:
            raise expired(job_id) from error
        is_news = tagged is not None and tagged.etag != etag
        if tagged is not None:
            job, etag = tagged.job, tagged.etag
        if job is not None and job.is_final:
            return job
        if remaining <= 0:
            raise timed_out([job_id], f"its status is `{job.status}`" if job else "")
        if (rest := deadline.remaining) < 1 or not is_news:  # a long poll waits for whole seconds
            yield Sleep(rest if rest < 1 else _POLL_PAUSE)


def changes_of(job_id: str, job: Job | None, policy: RetryPolicy) -> Flow[None]:
    """Emit the record of a job now, and after each change, until it has ended. Outages are waited out.

    Raises `JobDeleted` or `JobExpired` if the job exists no more, and its end was not seen.
    """
    headers = trace_headers(job)
    retry = Retry(policy, Deadline(None), persistent=True)
    stream = EventStream(lambda last_id: job_events(job_id, last_id).with_headers(headers), retry)
    last_version: Any = None
    while True:
        try:
            event = yield from stream.next()
        except JobNotFound as error:
            raise expired(job_id) from error
        if event is None:
            return
        if event.name in REMOVALS:
            raise expired(job_id, is_deleted=event.name == "deleted")
        if event.name == "changed":
            job = _changed(event, job)
            version = (job.revision, job.stale)
            if version != last_version:
                yield Emit(job)
            last_version = version
            if job.is_final:
                return


class _Partial(msgspec.Struct):
    job_id: str
    status: str
    revision: int


def _changed(event: Event, last: Job | None) -> Job:
    """Return the record in an event. Fields that the event of a deleted job lacks are those of the last record.

    Raises `JobExpired` if there is no last record.
    """
    try:
        return decode_json(event.data, Job)
    except UnexpectedResponse:
        partial = decode_json(event.data, _Partial)
        if last is None:
            raise expired(partial.job_id) from None
        return replace(last, status=partial.status, revision=partial.revision)


def expired(job_id: str, *, is_deleted: bool = False) -> JobExpired:
    """Return the error for a job that exists no more."""
    if is_deleted:
        return JobDeleted(f"job {job_id} was deleted")
    return JobExpired(f"job {job_id} exists no more: it was deleted, or its retention has ended")


def timed_out(job_ids: Sequence[str], reason: str = "") -> WaitTimeout:
    """Return the error for jobs that have not ended in time."""
    what = f"job {job_ids[0]} has" if len(job_ids) == 1 else f"{len(job_ids)} jobs have"
    text = f"{what} not ended within the time-out"
    return WaitTimeout(f"{text}; {reason}" if reason else text, job_ids=job_ids)
