"""The repository of job records."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import structlog
from redis.asyncio import ConnectionPool

from service.domain import constraints, errors, validation
from service.domain.jobs import CreateResult, History, Job, JobBatch, JobFilter, JobPage, Progress, Stats
from service.domain.states import Status, sources_of
from service.domain.store_health import StoreHealth
from service.domain.validation import FieldValue
from service.settings import retention_from_environment
from service.store import data_version, keys, queries, scripts
from service.store.client import StoreClient, with_timeout
from service.store.fingerprints import change_id_for, digest, new_change_id
from service.store.history import history_from
from service.store.observer import NullObserver, Observer
from service.store.records import (
    ceil_seconds,
    decode_hash,
    decode_job,
    encode_fields,
    flatten,
    parse_status,
    time_reply_to_micros,
    validate_ttl_ms,
)

_log = structlog.get_logger(__name__)

#: How long a deletion is remembered, so that its repetition is not told that there was no such job, and the last change
#: before it, so that the repetition of that one is not done to another job of this id.
DELETION_RECORD_TTL: Final = timedelta(minutes=1)
#: How many expired jobs one run of the sweep's script takes out of the indexes.
SWEEP_BATCH: Final = 500

#: The fields of a record that a list leaves out unless asked for.
OPTIONAL_FIELDS: Final = ("input_params", "result")


class JobStateManager:
    """Creates, reads, changes and deletes job records; every change is one atomic script in Redis.

    Methods raise `InvalidValue` for what the contract does not allow, `StoreUnavailable` when Redis cannot serve them
    within 3 s, and what their own descriptions name. `None` is an absent value, `msgspec.Raw(b"null")` a JSON null;
    other values are encoded as JSON, `Raw` passes through as it is.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        ttl: timedelta | None = None,
        observer: Observer | None = None,
        waitaof: bool = False,
    ) -> None:
        """Work through `pool`; keep jobs for `ttl` after their last change; tell `observer` what is done.

        With `waitaof` a change is returned from once Redis has synced it, which needs Redis 7.2.

        Without `ttl` the retention is `JOB_TTL_SECONDS` or `JOB_TTL_DAYS` of the environment, else 7 days. Raises
        `SettingsError` for a variable, `ValueError` for a `ttl`, that is not between 1 ms and 365 days.
        """
        self._observer = observer or NullObserver()
        self._client = StoreClient(pool, self._observer, waitaof=waitaof)
        self._ttl = validate_ttl_ms(retention_from_environment() if ttl is None else ttl)

    async def create_job(
        self,
        job_id: str,
        input_params: Any,
        correlation_id: str | None = None,
        *,
        queue: str = constraints.DEFAULT_QUEUE,
        slate_id: str | None = None,
        scenario_count: int | None = None,
        max_attempts: int = 1,
        retry_delay_seconds: int = 0,
        delay_seconds: int = 0,
        traceparent: str | None = None,
        request_correlation_id: str | None = None,
    ) -> CreateResult:
        """Create a pending job, or find that an equal request has created it.

        `request_correlation_id` stands in where no `correlation_id` is given; it and `traceparent` are no part of what
        makes two requests equal. Raises `Draining`, or `JobExists` if the job was created with another content.
        """
        fields = validation.creation_fields(
            input_params, queue, slate_id, scenario_count, correlation_id, max_attempts, retry_delay_seconds
        )
        delay = constraints.DELAY_SECONDS.validate("delay_seconds", delay_seconds) * 1_000_000
        request = digest(*fields.values(), delay)
        if correlation_id is None:
            fields["correlation_id"] = validation.validate_label("correlation_id", request_correlation_id)
        if traceparent is not None:
            fields["traceparent"] = constraints.TRACEPARENT.validate("traceparent", traceparent)
        record = encode_fields(fields)
        word, *reply = await self._run(
            scripts.CREATE, job_id, [request, new_change_id(), self._ttl, delay, *flatten(record)]
        )
        if word == "DRAINING":
            raise errors.Draining(ceil_seconds(reply[0]))
        if word == "EXISTS":
            raise errors.JobExists(job_id, *parse_status(reply))
        replayed = word == "REPLAYED"
        if not replayed:
            self._observer.on_job_change("created")
        held = decode_hash(reply[1]) if replayed else {**record, **decode_hash(reply[1])}
        return CreateResult(decode_job(job_id, held, int(reply[0])), replayed)

    async def get_job(self, job_id: str) -> Job | None:
        """Return the record, or `None` if there is none."""
        constraints.JOB_ID.validate("job_id", job_id)
        held, time = await self._client.read_raw(("HGETALL", keys.job(job_id)), ("TIME",))
        return decode_job(job_id, decode_hash(held), time_reply_to_micros(time)) if held else None

    async def get_result(self, job_id: str) -> Job:
        """Return a completed job. Raises `JobNotFound`, `ResultNotReady`, `JobFailed` or `JobCancelled`."""
        job = await self.get_job(job_id)
        if job is None:
            raise errors.JobNotFound(job_id)
        if job.status is Status.FAILED:
            raise errors.JobFailed(job.error_message)
        if job.status is Status.CANCELLED:
            raise errors.JobCancelled(job.error_message)
        if not job.is_final:
            raise errors.ResultNotReady(job.status)
        return job

    async def get_history(self, job_id: str) -> History | None:
        """Return what has become of a job so far, or `None` if there is none."""
        constraints.JOB_ID.validate("job_id", job_id)
        [[created_at, text]] = await self._client.read(["HMGET", keys.job(job_id), "created_at", "_history"])
        if created_at is None:
            return None
        return history_from(job_id, created_at.decode(), (text or b"").decode())

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
        """Move a job to `status` with what goes with it, and return the record as it is then.

        `result` goes with completed, `error` with failed or cancelled; running on a running job needs new `progress`.
        A `change_id` makes a repetition harmless; `if_match` names the versions (`Job.version`) that the record may
        have; a leased job needs the `lease_token` of its holder, whose progress extends the lease. Raises
        `JobNotFound`, `LeaseLost`, `IdempotencyKeyReused`, `PreconditionFailed` or `IllegalTransition`.
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
        """Cancel a job that has not ended; ask the holder of a leased one to stop, unless it is the holder who cancels.

        A job that is cancelled, or whose holder has been asked, is returned as it is. Raises `JobNotFound`,
        `LeaseLost`, `IdempotencyKeyReused`, `PreconditionFailed` or `IllegalTransition`.
        """
        return await self._change(job_id, Status.CANCELLED, {}, change_id, if_match, lease_token, "cancel")

    async def delete_job(self, job_id: str, *, change_id: str | None = None, if_match: Collection[str] = ()) -> None:
        """Delete a job that has ended. Raises `JobNotFound`, `PreconditionFailed` or `JobNotFinal`."""
        args = [change_id_for(change_id), _join_versions(if_match), validate_ttl_ms(DELETION_RECORD_TTL)]
        word, *reply = await self._run(scripts.DELETE, job_id, args)
        match word:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "PRECONDITION_FAILED":
                raise errors.PreconditionFailed(*parse_status(reply))
            case "NOT_FINAL":
                raise errors.JobNotFinal(*parse_status(reply))
        self._observer.on_job_change("deleted")

    async def get_running_job_count(self, *, leased: bool | None = None) -> int:
        """Return how many jobs are running: all, or only those with (`True`) or without (`False`) a live lease."""
        return await queries.running_count(self._client, leased)

    async def list_jobs(
        self, wanted: JobFilter, *, limit: int = 50, before: int | None = None, include: Collection[str] = ()
    ) -> JobPage:
        """Return up to `limit` (1 to 200) jobs that match, newest first, created before `before` (µs since 1970).

        `input_params` and `result` are left out unless `include` names them. A page may be short while there is more:
        it ends at 8 MiB of those two and `error_message`, and after 1,000 index entries.
        """
        validation.validate_filter(wanted)
        constraints.PAGE_LIMIT.validate("limit", limit)
        for name in include:
            if name not in OPTIONAL_FIELDS:
                raise errors.InvalidValue(
                    "include", f"{constraints.truncated_repr(name)} cannot be included", ", ".join(OPTIONAL_FIELDS)
                )
        return await queries.page(self._client, wanted, limit, before, include)

    async def get_jobs(self, job_ids: Sequence[str]) -> JobBatch:
        """Return the jobs with these ids (1 to 1,000), without `input_params` and `result`."""
        if len(job_ids) not in range(constraints.BATCH_SIZE.minimum, constraints.BATCH_SIZE.maximum + 1):
            allowed = f"{constraints.BATCH_SIZE.minimum} to {constraints.BATCH_SIZE.maximum} ids"
            raise errors.InvalidValue("job_ids", f"{len(job_ids)} ids are not allowed", allowed)
        for index, job_id in enumerate(job_ids):
            constraints.JOB_ID.validate(f"job_ids[{index}]", job_id)
        return await queries.batch(self._client, job_ids)

    async def get_stats(self) -> Stats:
        """Return exact counts per status and queue, and the oldest pending job."""
        return await queries.stats(self._client)

    async def sweep(self) -> int:
        """Take every expired job out of the indexes and return how many there were."""
        swept, more = 0, True
        while more:
            _, count, more, passed_over = await self._client.run_script(scripts.SWEEP, [keys.ROOT], [SWEEP_BATCH])
            swept += int(count)
        if swept:
            self._observer.on_job_change("expired", swept)
        if passed_over:
            _log.error("a key in the way of the sweep is not ours", shelves=[name.decode() for name in passed_over])
        return swept

    async def ping(self) -> None:
        """Return when Redis takes changes. Raises `StoreUnavailable` within 3 s, whatever state it is in."""
        await self._client.probe()

    async def write_version(self) -> None:
        """Say of data without a version that it is of the one that this service writes."""
        await self._client.call("version", with_timeout(lambda: data_version.initialize(self._client.redis)))

    async def get_store_health(self) -> StoreHealth:
        """Return how Redis stands: its memory, and whether it keeps what it acknowledges."""
        return await queries.store_health(self._client)

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
        args = [
            change_id_for(change_id),
            digest(target, kind, *fields.values()),
            self._ttl,
            validation.validate_lease_token(lease_token),
            target,
            " ".join(sources_of(target)),
            _join_versions(if_match),
            kind,
            *flatten(encode_fields(fields)),
        ]
        word, *reply = await self._run(scripts.CHANGE, job_id, args)
        match word:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "LEASE_LOST":
                raise errors.LeaseLost(*parse_status(reply))
            case "KEY_REUSED":
                raise errors.IdempotencyKeyReused
            case "PRECONDITION_FAILED":
                raise errors.PreconditionFailed(*parse_status(reply))
            case "ILLEGAL":
                raise errors.IllegalTransition(target, *parse_status(reply))
        job = decode_job(job_id, decode_hash(reply[1]), int(reply[0]))
        if word == "CHANGED":
            self._observer.on_job_change(_change_type(job, target))
        return job

    async def _run(self, source: scripts.Script, job_id: str, args: Sequence[Any]) -> list[Any]:
        constraints.JOB_ID.validate("job_id", job_id)
        return await self._client.run_script(source, [keys.job(job_id), keys.ROOT], [job_id, *args])


def _change_type(job: Job, target: Status) -> str:
    """Return what has happened to a job, in one word."""
    if job.status is not target:
        return "cancel-requested"
    return "progress" if job.status is Status.RUNNING and job.started_at != job.updated_at else job.status


def _join_versions(versions: Collection[str]) -> str:
    """Return versions as a script reads them; what cannot be one must not turn into no condition at all."""
    if isinstance(versions, str):
        versions = [versions]
    return " ".join(version or "none" for version in versions)
