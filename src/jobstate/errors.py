"""All errors of the client. Catch a class near the root to catch all below it.

JobstateError
├── ConfigurationError      an unusable URL, API key or proxy; also a ValueError
├── WaitTimeout             the job, or the bulk action, has not ended in time, and lives on; also a TimeoutError
├── InvalidResult           the job completed, but its result is not of the `result_type`
├── JobUnsuccessful: JobFailed, JobCancelled
├── ServiceUnavailable      no usable response. Retried; raised when the time is over. A retry later may help
│   ├── ConnectionFailed    no response: the service was not reached, or did not respond in time
│   │   └── ConnectionLost  the connection was closed before the response
│   ├── UnexpectedResponse  something else than the service responded, such as a proxy
│   │   └── Redirected      a redirect, which is not followed
│   └── RateLimited, TooManyWatchers, RequestTimeout, InternalError, StoreCorrupt, Draining, Overloaded,
│       DataVersionUnsupported, PartitionsMismatch, StoreAccessDenied, StoreBusy, StoreLoading, StoreMoving,
│       StoreOutOfMemory, StorePartitionUnavailable, StoreReadOnly, StoreTimeout, StoreUnreachable
└── RequestRejected         the service rejects the request for good: do not send it again
    ├── AccessDenied: Unauthenticated, InsufficientScope, OriginNotAllowed, HostNotAllowed
    ├── NotFound: UnknownRoute, ResultNotReady, BulkActionNotFound, JobNotFound ── JobExpired ── JobDeleted
    ├── Conflict: IllegalTransition, JobExists, JobNotFinal, LeaseLost, NotLeased, PreconditionFailed,
    │   IdempotencyKeyReused, UnexpectedCount
    └── InvalidRequest, MalformedRequest, MethodNotAllowed, NotAcceptable, ContentTooLarge, UnsupportedMediaType,
        HeadersTooLarge

Each problem type of the service has its class. One that this version does not know is raised by its status, as
`ServiceUnavailable`, `AccessDenied`, `NotFound`, `Conflict` or `RequestRejected`; `error.problem.name` tells it.
"""

from collections.abc import Sequence
from typing import Any

from jobstate._bulk_models import BulkAction
from jobstate.models import Problem


class JobstateError(Exception):
    """The base class of all errors of the client."""

    def __init__(self, message: str, *, problem: Problem | None = None) -> None:
        super().__init__(message)
        #: The error response of the service; `None` if the service sent none.
        self.problem = problem


class ConfigurationError(JobstateError, ValueError):
    """The URL, the API key or the proxy cannot be used. The message names the parameter or the variable."""


class WaitTimeout(JobstateError, TimeoutError):
    """The jobs in `job_ids`, or the bulk action, have not ended within the time-out. They continue: wait again.

    If the service was unavailable at the end, `__cause__` is the last `ServiceUnavailable`.
    """

    def __init__(self, message: str, *, job_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.job_ids = tuple(job_ids)


class InvalidResult(JobstateError):
    """The job completed, but its result is not of the `result_type`. `result_bytes()` returns it as it is."""


class JobUnsuccessful(JobstateError):
    """The job ended without a result. `error_message` is any JSON as Python objects; `None` if there is none."""

    def __init__(
        self, message: str, *, job_id: str = "", error_message: Any = None, problem: Problem | None = None
    ) -> None:
        super().__init__(message, problem=problem)
        self.job_id = job_id
        self.error_message = error_message


class JobFailed(JobUnsuccessful):
    """The job failed. `error_message` is what its worker, or the service, reported."""


class JobCancelled(JobUnsuccessful):
    """The job was cancelled. `error_message` is the reason, if one was given."""


class ServiceUnavailable(JobstateError):
    """There was no usable response in time; a retry later may help.

    `retry_after` is what the service asked to wait, in seconds. If `outcome_unknown`, the request may have taken
    effect: send it again with the same `id` or `idempotency_key`, and it takes effect once.
    """

    def __init__(
        self, message: str, *, problem: Problem | None = None, retry_after: float = 0.0, outcome_unknown: bool = False
    ) -> None:
        super().__init__(message, problem=problem)
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown


class ConnectionFailed(ServiceUnavailable):
    """The service was not reached, or did not respond in time."""


class ConnectionLost(ConnectionFailed):
    """The connection was closed before the response."""


class UnexpectedResponse(ServiceUnavailable):
    """The response is none of a jobstate service. Something in between sent it, or the URL is wrong."""


class Redirected(UnexpectedResponse):
    """The response is a redirect, which the client does not follow. The message says which URL to use."""


class RateLimited(ServiceUnavailable):
    """The client has exceeded its rate limit."""


class TooManyWatchers(ServiceUnavailable):
    """The client has too many long polls and event streams."""


class RequestTimeout(ServiceUnavailable):
    """The service did not receive the whole request in time."""


class InternalError(ServiceUnavailable):
    """The service has an internal error; `problem.correlation_id` finds it in its log."""


class StoreCorrupt(ServiceUnavailable):
    """A key in Redis holds unexpected data. `jobstate doctor` repairs it."""


class Draining(ServiceUnavailable):
    """The service creates and claims no jobs during a drain, or it is shutting down."""


class Overloaded(ServiceUnavailable):
    """The service has too many requests."""


class DataVersionUnsupported(ServiceUnavailable):
    """Redis has data of a newer version than the service."""


class PartitionsMismatch(ServiceUnavailable):
    """Redis has data of another number of partitions than the service."""


class StoreAccessDenied(ServiceUnavailable):
    """Redis rejects the credentials of the service."""


class StoreBusy(ServiceUnavailable):
    """Redis is blocked by a script."""


class StoreLoading(ServiceUnavailable):
    """Redis is loading its data."""


class StoreOutOfMemory(ServiceUnavailable):
    """Redis is at its memory limit."""


class StoreReadOnly(ServiceUnavailable):
    """Redis accepts no writes."""


class StoreTimeout(ServiceUnavailable):
    """Redis did not reply in time."""


class StoreUnreachable(ServiceUnavailable):
    """The service cannot connect to Redis."""


class StorePartitionUnavailable(ServiceUnavailable):
    """The Redis node with this job, or with a part of the answer, is away; the others answer."""


class StoreMoving(ServiceUnavailable):
    """The partition with this job, or with a part of the answer, is being moved to another Redis node."""


class RequestRejected(JobstateError):
    """The service rejects the request for good; `problem` says why. Do not send it again as it is."""


class AccessDenied(RequestRejected):
    """The client may not do this."""


class Unauthenticated(AccessDenied):
    """The API key is missing or invalid. Set `JOBSTATE_API_KEY`, or pass `api_key`."""


class InsufficientScope(AccessDenied):
    """The API key lacks the scope that the operation requires."""


class OriginNotAllowed(AccessDenied):
    """The service does not accept requests from this origin."""


class HostNotAllowed(AccessDenied):
    """The service does not accept this host name in its URL."""


class NotFound(RequestRejected):
    """The service does not have what the request names."""


class UnknownRoute(NotFound):
    """The service does not have this path. It may be older than the client."""


class ResultNotReady(NotFound):
    """The job has not ended yet. `wait` waits for its result."""


class JobNotFound(NotFound):
    """No job has this id: it was never created, was deleted, or has expired."""


class JobExpired(JobNotFound):
    """The job existed, and does not any more: its retention has ended, or it was deleted. Its outcome is unknown."""


class JobDeleted(JobExpired):
    """The job was deleted while the client followed it."""


class BulkActionNotFound(NotFound):
    """No bulk action has this id. Bulk actions are kept for a day after their last change."""


class Conflict(RequestRejected):
    """The state of the job does not allow the request; see `problem.current_status`."""


class IllegalTransition(Conflict):
    """A job with this status cannot get the requested one, such as a completed job that is cancelled."""


class JobExists(Conflict):
    """Another job with this id exists, with different content."""


class JobNotFinal(Conflict):
    """Only a job that has ended can be deleted."""


class LeaseLost(Conflict):
    """The worker no longer has the job. It must stop working on it."""


class NotLeased(Conflict):
    """Only a leased job can be released."""


class PreconditionFailed(Conflict):
    """The job has changed since the given ETag."""


class IdempotencyKeyReused(Conflict):
    """The `idempotency_key` was used for a request with different content."""


class UnexpectedCount(Conflict):
    """Another number of jobs matched the bulk action than `expect`: see `action`. It changed none of them."""

    action: BulkAction | None = None


class InvalidRequest(RequestRejected):
    """A value is not allowed; `problem.errors` says which, and what is allowed. Nothing was changed."""


class MalformedRequest(RequestRejected):
    """The request is not valid HTTP or JSON."""


class MethodNotAllowed(RequestRejected):
    """The path does not have this method."""


class NotAcceptable(RequestRejected):
    """The service cannot respond in an acceptable media type."""


class ContentTooLarge(RequestRejected):
    """The request is larger than the service, or a proxy, allows."""


class UnsupportedMediaType(RequestRejected):
    """The service does not accept the media type of the request."""


class HeadersTooLarge(RequestRejected):
    """The headers of the request are too large."""
