"""Creation, updates, cancellation and deletion of jobs, and the sweep of expired jobs."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from msgspec import UNSET
from redis.asyncio import ConnectionPool

from service.domain import constraints, errors, validation
from service.domain.jobs import CreateResult, Job, NewJob, Progress
from service.domain.states import RETRYABLE_STATUSES, Status, sources_of
from service.domain.store_health import StoreAvailability
from service.domain.validation import FieldValue
from service.settings import retention_from_environment
from service.store import scripts
from service.store.batch_creation import create_jobs
from service.store.client import StoreClient
from service.store.creation import Creation
from service.store.fingerprints import change_id_for, digest
from service.store.observer import Observer
from service.store.queries import JobReader
from service.store.records import (
    DELETION_RECORD_TTL_MS,
    decode_packed,
    field_args,
    parse_status,
    validate_ttl_ms,
)
from service.store.sweep import Swept, sweep_partition, sweep_reachable

#: How many ids are tried for one whose partition is not away.
MAX_IDS: Final = 100
#: The statuses from which an update to a status is legal, separated by spaces.
_SOURCES: Final = {target: " ".join(sources_of(target)) for target in Status}
#: The details of a transition that is illegal.
_BEFORE_RETRY: Final = "This request was made before the job was retried. It does not change the new attempt."
_NO_RETRY: Final = f"Only a job that is {' or '.join(RETRYABLE_STATUSES)} can be retried."


class JobStateManager(JobReader):
    """Creates, reads, updates and deletes jobs; every change is one atomic script in Redis.

    JSON arguments (`input_params`, `result`, `error`) take any value that can be encoded as JSON. A `msgspec.Raw`
    passes through unchanged, `msgspec.Raw(b"null")` is a JSON null, and `None` means absent.

    Methods raise the same errors as those of `JobReader`, and the errors that they name.
    """

    def __init__(
        self,
        pool: ConnectionPool | StoreClient,
        *,
        ttl: timedelta | None = None,
        observer: Observer | None = None,
        waitaof: bool = False,
    ) -> None:
        """Use `pool`, keep jobs by default for `ttl` after their last change, and report to `observer`.

        Without `ttl` the retention is `JOB_TTL_SECONDS` or `JOB_TTL_DAYS` of the environment, or 7 days. With `waitaof`
        (Redis 7.2) a change returns only once it is on the disk of Redis. Instead of a pool it takes a `StoreClient`,
        which has its own `observer` and `waitaof`. Raises `SettingsError` for a variable, and `ValueError` for a `ttl`,
        outside 1 ms to 365 days; `ValueError` also if `pool` decodes replies.
        """
        if not isinstance(pool, StoreClient):
            pool = StoreClient(pool, observer, waitaof=waitaof)
        elif observer is not None or waitaof:
            raise ValueError("a `StoreClient` has its own `observer` and `waitaof`; pass them to it instead")
        super().__init__(pool)
        self._ttl = validate_ttl_ms(retention_from_environment() if ttl is None else ttl)

    async def create_job(
        self,
        job_id: str,
        input_params: Any,
        correlation_id: str | None = None,
        *,
        traceparent: str | None = None,
        request_correlation_id: str | None = None,
        **options: Any,
    ) -> CreateResult:
        """Create a pending job and return it. If an equal request has created it already, return the existing job.

        `options` are the other fields of `NewJob`, such as `queue`. Requests are equal if all arguments are, except
        `traceparent` and `request_correlation_id`, which is the correlation id of a job without `correlation_id`.
        Raises `JobExists` if the id is in use by a different request, and `Draining` during a drain.
        """
        given_id = UNSET if correlation_id is None else correlation_id
        new_job = NewJob(input_params=input_params, correlation_id=given_id, **options)
        creation = Creation(job_id, new_job, traceparent, request_correlation_id)
        partition = self._client.partitions.of(job_id)
        args = [self._ttl, self._client.partitions.size, partition.number, *creation.arguments()]
        word, *reply = await self._client.run_script(scripts.CREATE, partition, args, [partition.job(job_id)])
        created = creation.result(word, reply)
        if not created.replayed:
            self._client.observer.on_job_change("created")
        return created

    async def create_jobs(self, creations: Sequence[Creation]) -> list[CreateResult | errors.JobStateError]:
        """Create jobs, each by itself, and return for each the result, or the error that `create_job` would raise."""
        results = await create_jobs(self._client, self._ttl, creations)
        created = sum(isinstance(one, CreateResult) and not one.replayed for one in results)
        if created:
            self._client.observer.on_job_change("created", created)
        return results

    async def update_job_status(
        self,
        job_id: str,
        status: Status | str,
        result: Any = None,
        error: Any = None,
        *,
        progress: Progress | None = None,
        scenario_count: int | None = None,
        change_id: str | None = None,
        if_match: Collection[str] = (),
        lease_token: str | None = None,
    ) -> Job:
        """Move a job to `status`, store the values that belong to it, and return the job.

        `result` requires the status completed, `error` failed or cancelled. A running job stays running only with a
        `progress` that differs from the stored one. A `change_id` makes a retry safe. With `if_match` the job must have
        one of these versions (`Job.version`). A leased job requires its `lease_token`; progress extends its lease.
        Raises `JobNotFound`, `LeaseLost`, `IdempotencyKeyReused`, `PreconditionFailed` or `IllegalTransition`.
        """
        target = validation.parse_status(status)
        fields = validation.change_fields(target, result, error, progress, scenario_count)
        return await self._change(job_id, target, fields, change_id, if_match, lease_token, "change")

    async def cancel_job(
        self,
        job_id: str,
        *,
        change_id: str | None = None,
        if_match: Collection[str] = (),
        lease_token: str | None = None,
    ) -> Job:
        """Cancel a job that is not finished, and return it. A leased job is only marked `cancel_requested_at`.

        Its worker learns of the request at the next heartbeat; with its `lease_token` the job is cancelled at once.
        A job that is cancelled or marked already is returned unchanged. `change_id` and `if_match` work as in
        `update_job_status`. Raises `JobNotFound`, `LeaseLost`, `IdempotencyKeyReused`, `PreconditionFailed` or
        `IllegalTransition`.
        """
        return await self._change(job_id, Status.CANCELLED, {}, change_id, if_match, lease_token, "cancel")

    async def retry_job(
        self,
        job_id: str,
        *,
        max_attempts: int | None = None,
        delay_seconds: int = 0,
        priority: int | None = None,
        run_timeout_seconds: int | None = None,
        change_id: str | None = None,
        if_match: Collection[str] = (),
    ) -> Job:
        """Make a failed or cancelled job pending again, with all its attempts left, and return it.

        It gets a new `max_attempts`, `priority` and `run_timeout_seconds` where they are given, and may be claimed
        after `delay_seconds`. A start time-out counts anew. Its `attempt` counts on; `result`, error, progress and
        lease are removed. `change_id` and `if_match` work as in `update_job_status`; a `change_id` is known until the
        next retry. Raises `InvalidValue`, `JobNotFound`, `IdempotencyKeyReused`,
        `PreconditionFailed` or `IllegalTransition`.
        """
        constraints.DELAY_SECONDS.validate("delay_seconds", delay_seconds)
        fields = validation.retry_fields(max_attempts, priority, run_timeout_seconds)
        request = digest("retry", {**fields, "delay_seconds": delay_seconds}, {"delay_seconds": 0})
        args = [change_id_for(change_id), request, self._ttl, delay_seconds * 1_000_000]
        args += [_join_versions(if_match), DELETION_RECORD_TTL_MS]
        args += [part for name, value in fields.items() if value is not None for part in (name, value)]
        word, *reply = await self._client.run_job_script(scripts.RETRY, job_id, args)
        if word == "ILLEGAL_TRANSITION":
            raise errors.IllegalTransition(Status.PENDING, *parse_status(reply), _NO_RETRY)
        return self._changed(job_id, Status.PENDING, word, reply)

    async def delete_job(self, job_id: str, *, change_id: str | None = None, if_match: Collection[str] = ()) -> None:
        """Delete a finished job. `change_id` and `if_match` work as in `update_job_status`.

        Raises `JobNotFound`, `PreconditionFailed` or `JobNotFinal`.
        """
        args = [change_id_for(change_id), _join_versions(if_match), DELETION_RECORD_TTL_MS]
        word, *reply = await self._client.run_job_script(scripts.DELETE, job_id, args)
        match word:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "PRECONDITION_FAILED":
                raise errors.PreconditionFailed(*parse_status(reply))
            case "NOT_FINAL":
                raise errors.JobNotFinal(*parse_status(reply))
        self._client.observer.on_job_change("deleted")

    async def sweep(self) -> int:
        """Remove all expired jobs from the indexes, and return how many there were."""
        return sum(await self._client.in_all_partitions(partial(sweep_partition, self._client)))

    async def sweep_reachable(self) -> Swept:
        """Sweep like `sweep`, but on a cluster leave out partitions that fail. Raises if all do."""
        return await sweep_reachable(self._client)

    async def ping(self) -> StoreAvailability:
        """Return if Redis accepts writes, and how much of it. Raises `StoreUnavailable` within 3 s otherwise.

        A part of a cluster is enough.
        """
        return await self._client.probe()

    def new_job_id(self) -> str:
        """Return a new id. On a cluster it is one of a partition whose node is not known to be away."""
        for _ in range(MAX_IDS):
            job_id = constraints.new_job_id()
            if not self._client.is_away(self._client.partitions.of(job_id)):
                break
        return job_id

    async def write_version(self) -> None:
        """Write the data version of this service to Redis. Raises like `StoreClient.write_version`."""
        await self._client.write_version()

    async def _change(
        self,
        job_id: str,
        target: Status,
        fields: Mapping[str, FieldValue],
        change_id: str | None,
        if_match: Collection[str],
        lease_token: str | None,
        kind: str,
    ) -> Job:
        request = digest(kind, {**fields, "status": target})
        args = [change_id_for(change_id), request, self._ttl, validation.validate_lease_token(lease_token)]
        args += [target, _SOURCES[target], _join_versions(if_match), kind, DELETION_RECORD_TTL_MS]
        word, *reply = await self._client.run_job_script(scripts.UPDATE, job_id, [*args, *field_args(fields)])
        if word == "LEASE_LOST":
            raise errors.LeaseLost(*parse_status(reply))
        return self._changed(job_id, target, word, reply)

    def _changed(self, job_id: str, target: Status, word: str, reply: Sequence[Any]) -> Job:
        """Return the job in the reply of a change to `target`. Raises what the reply refuses the change for."""
        match word:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "KEY_REUSED":
                raise errors.IdempotencyKeyReused
            case "PRECONDITION_FAILED":
                raise errors.PreconditionFailed(*parse_status(reply))
            case "BEFORE_RETRY":
                raise errors.IllegalTransition(target, *parse_status(reply), _BEFORE_RETRY)
            case "ILLEGAL_TRANSITION":
                raise errors.IllegalTransition(target, *parse_status(reply))
        job, _ = decode_packed(job_id, reply[1], int(reply[0]))
        if word == "CHANGED":
            self._client.observer.on_job_change(reply[2].decode() if len(reply) > 2 else job.status)
        return job


def _join_versions(versions: Collection[str]) -> str:
    """Return versions as the scripts read them: an empty version matches no job, while no versions match every job."""
    if isinstance(versions, str):
        versions = [versions]
    return " ".join(version or "none" for version in versions)
