"""Every way in which the service says no.

JobStateError
├── Unauthenticated             the request carries no API key that is known here
├── InsufficientScope           its key is for other things
├── InvalidValue            what was sent breaks a rule of the contract
├── JobNotFound             no such job, or no longer
├── IdempotencyKeyReused               an idempotency key came with another content
├── PreconditionFailed      the record is not at the version that was asked for
├── Conflict                the job stands where this cannot be done
│   ├── JobExists
│   ├── IllegalTransition
│   ├── LeaseLost
│   ├── NotLeased
│   └── JobNotFinal
├── RateLimited             the client has asked too often
├── TooManyWatchers         the client watches too much at one time
├── Overloaded              the process has too much to do
├── Draining                no job is created or claimed for now
├── ResultUnavailable                the job has no result to hand out
│   ├── ResultNotReady
│   ├── JobFailed
│   └── JobCancelled
├── StoreUnavailable        Redis cannot serve this now; trying again may help
│   ├── StoreUnreachable
│   ├── StoreTimeout
│   ├── StoreLoading
│   ├── StoreReadOnly
│   ├── StoreOutOfMemory
│   ├── StoreBusy
│   ├── StoreAccessDenied
│   └── DataVersionUnsupported
└── StoreCorrupt            a key of ours is not what we wrote
"""

from msgspec import Raw

from service.domain.api_keys import Scope
from service.domain.rate_limits import Quota
from service.domain.states import Status


class JobStateError(Exception):
    """The root of every error that the service raises on purpose."""


class Unauthenticated(JobStateError):
    """The request carries no API key that is known here."""

    def __init__(self, *, is_unknown: bool) -> None:
        how = "send one as `Authorization: Bearer KEY`, once"
        super().__init__(
            f"This is no API key that is known here; {how}." if is_unknown else f"An API key is asked for; {how}."
        )
        self.is_unknown = is_unknown


class InsufficientScope(JobStateError):
    """The request's API key does not have the scope that the operation takes; `scope` says which."""

    def __init__(self, name: str, scope: Scope, with_lease: Scope | None) -> None:
        """Refuse the key of that name; `with_lease` is the scope that is enough for the holder of the job's lease."""
        besides = f", or the scope {with_lease} and a Lease-Token" if with_lease else ""
        super().__init__(f"The API key {name!r} may not do this: it takes the scope {scope}{besides}.")
        self.scope = scope


class InvalidValue(JobStateError):
    """A value that the contract does not allow; nothing was done.

    `field` names it (`progress.current`, `job_ids[3]`, a header's name), `allowed` says what may stand there.
    """

    def __init__(self, field: str, detail: str, allowed: str) -> None:
        super().__init__(f"{field}: {detail}; allowed: {allowed}")
        self.field = field
        self.detail = detail
        self.allowed = allowed


class JobNotFound(JobStateError):
    """No job has this id: it never was, was deleted, or its retention ran out."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}: it never was, was deleted, or its retention ran out.")
        self.job_id = job_id


class IdempotencyKeyReused(JobStateError):
    """The idempotency key stands for another request already."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key came with another content before; use a new key for a new request.")


class PreconditionFailed(JobStateError):
    """The record has moved on from the version in If-Match."""

    def __init__(self, current_status: Status, revision: int) -> None:
        super().__init__(f"The job is {current_status} at revision {revision}, not at a version named in If-Match.")
        self.current_status = current_status
        self.revision = revision


class Conflict(JobStateError):
    """The job stands where this request cannot be done; nothing was written."""

    def __init__(self, detail: str, current_status: Status, revision: int) -> None:
        super().__init__(detail)
        self.current_status = current_status
        self.revision = revision


class JobExists(Conflict):
    """Another job was created under this id."""

    def __init__(self, job_id: str, current_status: Status, revision: int) -> None:
        super().__init__(f"Job {job_id!r} exists and was created with another content.", current_status, revision)


class IllegalTransition(Conflict):
    """The table of moves has no way from where the job stands to what was asked for."""

    def __init__(self, requested: Status, current_status: Status, revision: int) -> None:
        detail = f"A job that is {current_status} cannot become {requested}."
        if requested is current_status is Status.RUNNING:
            detail = "The job is running already: only progress that differs from what is stored changes it."
        super().__init__(detail, current_status, revision)
        self.requested = requested


class LeaseLost(Conflict):
    """The lease token is not the job's, or a leased job was changed without one: another worker may have it."""

    def __init__(self, current_status: Status, revision: int) -> None:
        detail = f"The job is {current_status} and not under the lease of this Lease-Token: another worker may have it."
        super().__init__(detail, current_status, revision)


class NotLeased(Conflict):
    """Only a job under a lease can be given back."""

    def __init__(self, current_status: Status, revision: int) -> None:
        super().__init__(
            f"The job is {current_status} without a lease: there is nothing to give back.", current_status, revision
        )


class JobNotFinal(Conflict):
    """Only a job that has ended can be deleted."""

    def __init__(self, current_status: Status, revision: int) -> None:
        super().__init__(f"The job is {current_status}: only an ended job can be deleted.", current_status, revision)


class RateLimited(JobStateError):
    """The client has asked more often than it may; the next request is let in after `retry_after` seconds."""

    def __init__(self, quota: Quota, retry_after: int) -> None:
        limit = quota.limit
        super().__init__(
            f"At most {limit.requests} requests in {limit.window_seconds} s; try again in {retry_after} s."
        )
        self.quota = quota
        self.retry_after = retry_after


class TooManyWatchers(JobStateError):
    """The client waits for as many things as it may at one time."""

    def __init__(self, most: int) -> None:
        super().__init__(f"This client has {most} requests that wait, the most (MAX_WATCHERS_PER_CLIENT).")


class Overloaded(JobStateError):
    """The process has too much to do; another may not."""


class Draining(JobStateError):
    """No job is created or claimed, and nothing waited for: the service is made ready to be stopped; jobs go on."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("No job is created or claimed, and nothing waited for, for now: the service is to be stopped.")
        self.retry_after = retry_after


class ResultUnavailable(JobStateError):
    """The job has no result to hand out."""


class ResultNotReady(ResultUnavailable):
    """The job has not ended yet."""

    def __init__(self, current_status: Status) -> None:
        super().__init__(f"The job is {current_status}: its result is not ready.")
        self.current_status = current_status


class JobFailed(ResultUnavailable):
    """The job failed; `error_message` is what its worker said of it."""

    def __init__(self, error_message: Raw | None) -> None:
        super().__init__("The job failed: there is no result.")
        self.error_message = error_message


class JobCancelled(ResultUnavailable):
    """The job was cancelled; `error_message` is the reason, if one was given."""

    def __init__(self, error_message: Raw | None) -> None:
        super().__init__("The job was cancelled: there is no result.")
        self.error_message = error_message


class StoreUnavailable(JobStateError):
    """Redis cannot serve this now; whether a change was applied is unknown, so send it again with the same key."""


class StoreUnreachable(StoreUnavailable):
    """No connection to Redis could be made or kept."""


class StoreTimeout(StoreUnavailable):
    """Redis did not answer within the deadline."""


class StoreLoading(StoreUnavailable):
    """Redis is reading its data from disk after a start."""


class StoreReadOnly(StoreUnavailable):
    """Redis takes no writes: a replica after a failover, or a disk that it cannot write to."""


class StoreOutOfMemory(StoreUnavailable):
    """Redis is at its memory limit and evicts nothing."""


class StoreBusy(StoreUnavailable):
    """Redis is held up by another client's script."""


class StoreAccessDenied(StoreUnavailable):
    """Redis refuses our credentials or a command."""


class DataVersionUnsupported(StoreUnavailable):
    """The data in Redis is of a newer version than this service knows; it changes nothing."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"The data in Redis is of version {found}, and this service knows versions up to {known}: "
            "start a newer service."
        )


class StoreCorrupt(JobStateError):
    """A key of ours holds something that we did not write; nothing was written."""
