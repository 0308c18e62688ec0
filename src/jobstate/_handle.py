"""What the handles of a job have in common, and the flows behind the methods of both clients."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from jobstate._flow import Emit, Flow, call
from jobstate._json import decode
from jobstate._options import JobFilter
from jobstate._problems import error_for_outcome
from jobstate._requests import Request, list_jobs, trace_headers
from jobstate._responses import Tagged
from jobstate._retry import Deadline, Retry, RetryPolicy
from jobstate._waits import Outcome, Waits, timed_out
from jobstate.errors import InvalidResult, JobExpired, JobstateError, WaitTimeout
from jobstate.models import Job, JobPage, Progress

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class BaseHandle(Generic[R_co]):
    """A job, as the client last saw it. `wait`, `refresh`, `cancel` and `changes` bring news."""

    #: The job's id.
    id: str

    def __init__(self, job: Job | str, result_type: Any = None) -> None:
        """Create the handle of the job with this record, or with this id."""
        self._record = None if isinstance(job, str) else job
        self.id = job if isinstance(job, str) else job.job_id
        self._result_type = result_type

    @property
    def record(self) -> Job:
        """The job's record as the client last saw it. It is replaced, and never changes itself.

        Raises `JobstateError` if the client has not seen the job yet: a handle of `handle` starts without a record.
        """
        if self._record is None:
            raise JobstateError(f"the client has not seen job {self.id} yet: call `refresh`, `wait` or `changes` first")
        return self._record

    @property
    def status(self) -> str:
        """The status when the client last saw the job: `pending`, `running`, `completed`, `failed`, `cancelled`."""
        return self.record.status

    @property
    def progress(self) -> Progress | None:
        """The progress when the client last saw the job; `None` before the first report."""
        return self.record.progress

    @property
    def is_final(self) -> bool:
        """Whether the job had ended when the client last saw it."""
        return self.record.is_final

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self._record.status if self._record else 'not seen yet'}>"

    def _about(self, request: Request[T]) -> Request[T]:
        """Return a request with the correlation id and the trace context of the job."""
        return request.with_headers(trace_headers(self._record))

    def _see(self, tagged: Tagged) -> Job:
        """Keep the record of a response, and return it."""
        self._record = tagged.job
        return tagged.job

    def _settle(self, outcome: Outcome) -> R_co:
        """Return the result of a job that has ended. Raises `JobUnsuccessful`, `JobExpired` or `InvalidResult`."""
        if isinstance(outcome, JobExpired):
            raise outcome
        self._record = outcome
        if outcome.status != "completed":
            raise error_for_outcome(outcome)
        if self._result_type is None:
            result: R_co = decode(outcome.raw_result)
            return result
        try:
            typed: R_co = msgspec.json.decode(outcome.raw_result or b"null", type=self._result_type)
        except msgspec.MsgspecError as error:
            if not outcome.raw_result:
                raise InvalidResult(
                    f"job {self.id} completed without a result, and its `result_type` is not optional"
                ) from error
            raise InvalidResult(f"the result of job {self.id} is not of its `result_type`: {error}") from error
        return typed

    def _settled(self, outcome: Outcome, return_exceptions: bool) -> R_co | JobstateError:
        """Return the result of a job that has ended, or the error instead."""
        try:
            return self._settle(outcome)
        except JobstateError as error:
            if not return_exceptions:
                raise
            return error


def call_once(request: Request[T], policy: RetryPolicy, timeout: float | None) -> Flow[T]:
    """Return what the response means, within `timeout` seconds. Raises the last `ServiceUnavailable` after it."""
    return (yield from call(request, Retry(policy, Deadline(timeout))))


def wait_flow(handle: BaseHandle[R_co], waits: Waits, timeout: float | None) -> Flow[R_co]:
    """Return the result of one job."""
    return handle._settle((yield from waits.wait(handle.id, handle._record, timeout)))


def wait_all_flow(
    handles: Iterable[BaseHandle[Any]], waits: Waits, timeout: float | None, return_exceptions: bool
) -> Flow[list[Any]]:
    """Return the results of jobs in their order; with `return_exceptions` errors in the place of results."""
    handles = list(handles)
    results: dict[str, Any] = {}
    by_id: dict[str, list[BaseHandle[Any]]] = {}
    for handle in handles:
        by_id.setdefault(handle.id, []).append(handle)

    def settle(job_id: str, outcome: Outcome) -> None:
        results[job_id] = [handle._settled(outcome, return_exceptions) for handle in by_id[job_id]]

    try:
        yield from waits.wait_all(by_id, settle, timeout)
    except WaitTimeout as error:
        if not return_exceptions:
            raise
        results |= {job_id: [timed_out([job_id])] * len(by_id[job_id]) for job_id in error.job_ids}
    return [results[handle.id].pop(0) for handle in handles]


def list_flow(
    filters: JobFilter, include: Sequence[str], limit: int | None, policy: RetryPolicy, timeout: float | None
) -> Flow[None]:
    """Emit the records of the jobs that match, newest first, at most `limit`."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = 200 if left is None else min(left, 200)
        request = list_jobs(limit=size, cursor=cursor, include=include, **filters)
        page: JobPage = yield from call_once(request, policy, timeout)
        for job in page.items:
            yield Emit(job)
        left = None if left is None else left - len(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return
