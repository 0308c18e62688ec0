"""Every error that the service raises on purpose.

JobStateError
├── Unauthenticated             the request has no valid API key
├── InsufficientScope           the API key lacks the scope of the operation
├── InvalidValue                a value breaks a rule of the contract
├── JobNotFound                 the job does not exist, or no longer
├── IdempotencyKeyReused        the key was used with different content
├── PreconditionFailed          none of the ETags in `If-Match` is current
├── Conflict                    the job's status does not allow the operation
│   ├── JobExists
│   ├── IllegalTransition
│   ├── LeaseLost
│   ├── NotLeased
│   └── JobNotFinal
├── RateLimited                 the client has exceeded its rate limit
├── TooManyWatchers             the client has too many long polls and event streams
├── Overloaded                  the process has too many requests
├── Draining                    a drain is on, or the process shuts down
├── ResultUnavailable           the job has no result
│   ├── ResultNotReady
│   ├── JobFailed
│   └── JobCancelled
├── StoreUnavailable            Redis cannot serve the request; a retry may succeed
│   ├── StoreUnreachable
│   ├── StorePartitionUnavailable
│   ├── StoreMoving
│   ├── StoreTimeout
│   ├── StoreLoading
│   ├── StoreReadOnly
│   ├── StoreOutOfMemory
│   ├── StoreBusy
│   ├── StoreAccessDenied
│   ├── DataVersionUnsupported
│   └── PartitionsMismatch
├── StoreCorrupt                a key of jobstate holds unexpected data
├── BulkActionNotFound          the bulk action does not exist, or no longer (this and the next in `bulk.py`)
└── UnexpectedCount             a bulk action matched another number of jobs than expected
"""

from typing import ClassVar

from msgspec import Raw

from service.domain.api_keys import Scope
from service.domain.rate_limits import Quota
from service.domain.states import TRANSITIONS, Status


class JobStateError(Exception):
    """The root of every error that the service raises on purpose; its text is shown to clients."""

    #: What the error means, as docs/problems.md shows it; also the text of an error that is raised without one.
    default_detail: ClassVar[str] = ""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.default_detail)


class Unauthenticated(JobStateError):
    """The request has no valid API key; `is_unknown` if it has one that the service does not know."""

    default_detail = "The API key is missing or invalid. Send exactly one `Authorization: Bearer <key>` header."

    def __init__(self, *, is_unknown: bool) -> None:
        problem = "Invalid API key" if is_unknown else "An API key is required"
        super().__init__(f"{problem}. Send exactly one `Authorization: Bearer <key>` header.")
        self.is_unknown = is_unknown


class InsufficientScope(JobStateError):
    """The API key lacks `scope`, which the operation requires. `None`: no scope allows the operation."""

    default_detail = "The API key lacks the scope that the operation requires."

    def __init__(self, name: str, scope: Scope | None, with_lease: Scope | None) -> None:
        """Name the rejected key; `with_lease` is the scope that suffices together with the job's lease token."""
        alternative = f", or a key with the scope `{with_lease}` and a `Lease-Token` header" if with_lease else ""
        advice = f" Use a key with the scope `{scope}`{alternative}." if scope else ""
        super().__init__(f"The API key {name!r} may not do this.{advice}")
        self.scope = scope


class InvalidValue(JobStateError):
    """A value that the contract does not allow; `field` names it, such as `progress.current` or `job_ids[3]`."""

    default_detail = "A value breaks a rule of the contract; nothing was written. `errors` says which."

    def __init__(self, field: str, detail: str, allowed: str) -> None:
        super().__init__(f"`{field}`: {detail}; allowed: {allowed}")
        self.field = field
        self.detail = detail
        self.allowed = allowed


class JobNotFound(JobStateError):
    default_detail = "No job has this id. It was never created, was deleted, or has expired."

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. It was never created, was deleted, or has expired.")
        self.job_id = job_id


class IdempotencyKeyReused(JobStateError):
    default_detail = "This `Idempotency-Key` was used with different content. Use a new key for a new request."


class PreconditionFailed(JobStateError):
    default_detail = "The job has changed: none of the ETags in `If-Match` is current. Read the job again."

    def __init__(self, current_status: Status, revision: int) -> None:
        found = f"revision {revision}, {current_status}"
        super().__init__(
            f"The job has changed: none of the ETags in `If-Match` is current ({found}). Read the job again."
        )
        self.current_status = current_status
        self.revision = revision


class Conflict(JobStateError):
    """The job's current status does not allow the operation; nothing was written."""

    def __init__(self, current_status: Status, revision: int, detail: str = "") -> None:
        super().__init__(detail or f"The job is {current_status} at revision {revision}. {self.default_detail}")
        self.current_status = current_status
        self.revision = revision


class JobExists(Conflict):
    default_detail = "A job with this id exists with different content. Use another `job_id`."

    def __init__(self, job_id: str, current_status: Status, revision: int) -> None:
        detail = f"Job {job_id!r} exists with different content. Use another `job_id`."
        super().__init__(current_status, revision, detail)


class IllegalTransition(Conflict):
    default_detail = "The state machine has no transition from the job's status to the requested one."

    def __init__(self, requested: Status, current_status: Status, revision: int, detail: str = "") -> None:
        if not detail and requested is current_status is Status.RUNNING:
            detail = "The job is already running. To change it, send a new `progress`."
        elif not detail:
            allowed = ", ".join(TRANSITIONS[current_status]) or "none, the status is final"
            detail = f"A {current_status} job cannot become {requested}; allowed: {allowed}."
        super().__init__(current_status, revision, detail)
        self.requested = requested


class LeaseLost(Conflict):
    default_detail = (
        "The `Lease-Token` is missing or not valid: the job has no lease, or another worker holds it. Stop working on "
        "the job."
    )


class NotLeased(Conflict):
    default_detail = "Only a leased job can be released."


class JobNotFinal(Conflict):
    default_detail = "Only a finished job can be deleted. Cancel it, or wait until it finishes."


class RateLimited(JobStateError):
    """The client has exceeded its rate limit; its next request is allowed after `retry_after` seconds."""

    default_detail = "The client has exceeded its rate limit. Retry after the seconds in `Retry-After`."

    def __init__(self, quota: Quota, retry_after: int) -> None:
        limit = f"{quota.limit.requests} requests in {quota.limit.window_seconds} s"
        super().__init__(f"The rate limit is {limit}. Retry in {retry_after} s.")
        self.quota = quota
        self.retry_after = retry_after


class TooManyWatchers(JobStateError):
    default_detail = "The client has too many long polls and event streams. End one and retry."

    def __init__(self, maximum: int) -> None:
        limit = f"{maximum} long polls and event streams (`MAX_WATCHERS_PER_CLIENT`)"
        super().__init__(f"The client has {limit}. End one and retry.")


class Overloaded(JobStateError):
    default_detail = "The process has too many requests. Retry later."


class Draining(JobStateError):
    """No job is created or claimed during a drain; if `is_shutdown`, the process starts no claims, waits or streams."""

    default_detail = "Jobs cannot be created or claimed during a drain, or this process is shutting down. Retry later."

    def __init__(self, retry_after: int, *, is_shutdown: bool = False) -> None:
        super().__init__(
            "This process is shutting down. Send the request again; another process or replica answers."
            if is_shutdown
            else "Jobs cannot be created or claimed during a drain. Running jobs continue. Retry later."
        )
        self.retry_after = retry_after


class ResultUnavailable(JobStateError):
    """The job has no result."""


class ResultNotReady(ResultUnavailable):
    default_detail = "The job has no result yet. Retry when it is completed."

    def __init__(self, current_status: Status) -> None:
        super().__init__(f"The job is {current_status} and has no result yet. Retry when it is completed.")
        self.current_status = current_status


class JobFailed(ResultUnavailable):
    default_detail = "The job failed and has no result. `error_message` is what its worker reported."

    def __init__(self, error_message: Raw | None) -> None:
        super().__init__()
        self.error_message = error_message


class JobCancelled(ResultUnavailable):
    default_detail = "The job was cancelled and has no result. `error_message` is the reason, if one was given."

    def __init__(self, error_message: Raw | None) -> None:
        super().__init__()
        self.error_message = error_message


class StoreUnavailable(JobStateError):
    """Redis cannot serve the request. A change may have been applied: retry it with the same idempotency key."""


class StoreUnreachable(StoreUnavailable):
    default_detail = "No connection to Redis could be made or kept. Retry later."


class StorePartitionUnavailable(StoreUnavailable):
    default_detail = (
        "The Redis node that holds this job, or a part of the answer, is away. The other nodes answer. Retry later: a "
        "change may have been applied."
    )


class StoreMoving(StoreUnavailable):
    default_detail = (
        "The partition that holds this job, or a part of the answer, is being moved to another Redis node. Retry later."
    )


class StoreTimeout(StoreUnavailable):
    default_detail = "Redis did not reply before the deadline. Retry later: a change may have been applied."


class StoreLoading(StoreUnavailable):
    default_detail = "Redis is loading its data after a start. Retry later."


class StoreReadOnly(StoreUnavailable):
    default_detail = "Redis accepts no writes: it is a replica, or its disk fails. Check its role and its disk."


class StoreOutOfMemory(StoreUnavailable):
    default_detail = "Redis is at its memory limit. Raise `maxmemory`, or delete jobs."


class StoreBusy(StoreUnavailable):
    default_detail = "Redis is blocked by another client's script. Retry later."


class StoreAccessDenied(StoreUnavailable):
    default_detail = "Redis rejects the service's credentials or a command. Check `REDIS_URL` and the ACL of the user."


class DataVersionUnsupported(StoreUnavailable):
    default_detail = "Redis has data of a version that the service does not support."

    def __init__(self, found: int, supported: int) -> None:
        if found > supported:
            remedy = "Start a newer service."
        else:
            remedy = "Start it on an empty database, or delete the keys `job:*` and `jobs:*` there."
        super().__init__(f"Redis has data of version {found}; this service supports version {supported}. {remedy}")


class PartitionsMismatch(StoreUnavailable):
    default_detail = "Redis has data of another number of partitions than `REDIS_PARTITIONS`."

    def __init__(self, found: int, configured: int) -> None:
        super().__init__(
            f"Redis has data of {found} partition{'s' * (found > 1)}, but `REDIS_PARTITIONS` is {configured}. "
            f"Set it to {found}, or copy the data into another database with `jobstate copy`."
        )


class StoreCorrupt(JobStateError):
    default_detail = (
        "A key of jobstate in Redis holds unexpected data. Run `jobstate doctor`. A change may have been applied."
    )
