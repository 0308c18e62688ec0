"""The work on jobs: claims, heartbeats, releases, the queues, and taking jobs from workers that have gone silent."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from msgspec import UNSET, Raw, UnsetType
from redis.asyncio import ConnectionPool

from service.domain import constraints, errors, validation
from service.domain.jobs import Claim, DrainStatus, HeartbeatResult, Job, Lease, Progress, Queue
from service.domain.json_text import to_json
from service.domain.states import Status
from service.domain.timestamps import format_timestamp
from service.settings import retention_from_environment
from service.store import keys, queries, scripts
from service.store.client import StoreClient
from service.store.fingerprints import change_id_for, digest, new_token_secret
from service.store.observer import NullObserver, Observer
from service.store.records import (
    ceil_seconds,
    decode_hash,
    decode_job,
    parse_status,
    time_reply_to_micros,
    validate_ttl_ms,
)

#: How much longer than its lease a claim is remembered: whoever did not hear of the lease cannot have extended it.
CLAIM_RECORD_TTL: Final = timedelta(minutes=1)
#: How many jobs whose delay is over one claim puts into their queues; how many expired heads of a queue it passes over.
MAX_CLAIM_SCAN: Final = 1000
#: How many leases one run of the reaper's script looks at.
REAP_BATCH: Final = 200

_log = structlog.get_logger(__name__)


def _lease_expired(detail: str) -> Raw:
    """Return what a job says whose worker fell silent."""
    problem = {"type": "urn:jobstate:problem:lease-expired", "title": "The lease ran out", "detail": detail}
    return Raw(msgspec.json.encode(problem))


#: For a job that is pending again, and for one that has failed.
LEASE_EXPIRED_WILL_RETRY: Final = _lease_expired(
    "The worker was not heard of within its lease; the job has attempts left."
)
LEASE_EXPIRED: Final = _lease_expired("The worker was not heard of within its lease, and the job has no attempts left.")


class ReapedJob(NamedTuple):
    """What the reaper has done to one job."""

    job_id: str
    status: Status


class LeaseManager:
    """Hands jobs to workers and takes them back; every change is one atomic script in Redis.

    Methods raise `InvalidValue` for what the contract does not allow, `StoreUnavailable` when Redis cannot serve them
    within 3 s, and what their own descriptions name.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        ttl: timedelta | None = None,
        observer: Observer | None = None,
        waitaof: bool = False,
    ) -> None:
        """Work as a `JobStateManager` that is made with the same does."""
        self._observer = observer or NullObserver()
        self._gateway = StoreClient(pool, self._observer, waitaof=waitaof)
        self._ttl = validate_ttl_ms(retention_from_environment() if ttl is None else ttl)

    async def claim_job(
        self,
        queues: Sequence[str],
        worker: str,
        *,
        lease_seconds: int = constraints.DEFAULT_LEASE_SECONDS,
        claim_key: str | None = None,
    ) -> Claim | None:
        """Give the oldest job that is due in `queues` (1 to 100) to `worker`; `None` if there is none.

        A queue that is paused or has as many running jobs as it may gives none. The same `claim_key` with the same
        content gives the same job again while the lease has not been taken back. The content is `worker`,
        `lease_seconds` and the set of `queues`. A claim is remembered for a minute longer than the lease it asked for.
        Raises `IdempotencyKeyReused` for another content within that time, and `Draining`.
        """
        claim, _ = await self.try_claim(queues, worker, lease_seconds=lease_seconds, claim_key=claim_key)
        return claim

    async def try_claim(
        self, queues: Sequence[str], worker: str, *, lease_seconds: int, claim_key: str | None
    ) -> tuple[Claim | None, float | None]:
        """Claim a job as `claim_job` does; without one, return in how many seconds the next delay is over, if any."""
        if len(queues) not in range(constraints.CLAIMED_QUEUES.minimum, constraints.CLAIMED_QUEUES.maximum + 1):
            allowed = f"{constraints.CLAIMED_QUEUES.minimum} to {constraints.CLAIMED_QUEUES.maximum} queues"
            raise errors.InvalidValue("queues", f"{len(queues)} queues are not allowed", allowed)
        for index, queue in enumerate(queues):
            constraints.QUEUE.validate(f"queues[{index}]", queue)
        constraints.LABEL.validate("worker", worker)
        constraints.LEASE_SECONDS.validate("lease_seconds", lease_seconds)
        request = digest("claim", sorted(set(queues)), worker, lease_seconds)
        kept = validate_ttl_ms(timedelta(seconds=lease_seconds) + CLAIM_RECORD_TTL)
        args = [
            change_id_for(claim_key),
            request,
            new_token_secret(),
            worker,
            lease_seconds,
            self._ttl,
            kept,
            MAX_CLAIM_SCAN,
        ]
        word, *reply = await self._gateway.run_script(scripts.CLAIM, [keys.ROOT], [*args, *queues])
        match word:
            case "DRAINING":
                raise errors.Draining(ceil_seconds(reply[0]))
            case "KEY_REUSED":
                raise errors.IdempotencyKeyReused
        time, passed_over = int(reply[0]), reply[1]
        _log_skipped(passed_over, "a job whose delay is over cannot be given out: a key of its own is not ours")
        if word == "NONE":
            return None, max(0.0, (int(reply[2]) - time) / 1e6) if reply[2] else None
        job_id, record = reply[2].decode(), decode_hash(reply[3])
        self._observer.on_job_change(Status.RUNNING)
        job = decode_job(job_id, record, time)
        return Claim(job, Lease(record["_token"].decode(), job.lease_expires_at or "")), None

    async def heartbeat(
        self,
        job_id: str,
        lease_token: str | None,
        *,
        lease_seconds: int | None = None,
        progress: Progress | None = None,
    ) -> HeartbeatResult:
        """Extend a lease by `lease_seconds` (as many as last time), take `progress`, and say whether to stop.

        Raises `JobNotFound` or `LeaseLost`.
        """
        if lease_seconds is not None:
            constraints.LEASE_SECONDS.validate("lease_seconds", lease_seconds)
        text = validation.encode_progress(progress)
        args = [validation.validate_lease_token(lease_token), _or_empty(lease_seconds), self._ttl, _or_empty(text)]
        word, *reply = await self._run(scripts.HEARTBEAT, job_id, args)
        match word:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "LEASE_LOST":
                raise errors.LeaseLost(*parse_status(reply))
        ends, cancel_requested, is_new = int(reply[0]), bool(reply[1]), bool(reply[2])
        if is_new:
            self._observer.on_job_change("progress")
        return HeartbeatResult(format_timestamp(ends * 1000), cancel_requested)

    async def release_job(
        self,
        job_id: str,
        lease_token: str | None,
        *,
        error: Any = None,
        delay_seconds: int | None = None,
        change_id: str | None = None,
    ) -> Job:
        """Give a leased job back and return the record as it is then.

        With an `error` the attempt has failed: the job is pending again after its retry delay, or failed if it has no
        attempts left. A job that was to be cancelled is cancelled. Raises `JobNotFound`, `LeaseLost`, `NotLeased` or
        `IdempotencyKeyReused`.
        """
        if delay_seconds is not None:
            constraints.DELAY_SECONDS.validate("delay_seconds", delay_seconds)
        message = to_json("error_message", error)
        request = digest("release", message, delay_seconds)
        token = validation.validate_lease_token(lease_token)
        args = [change_id_for(change_id), request, self._ttl, token, _or_empty(delay_seconds)]
        word, *reply = await self._run(scripts.RELEASE, job_id, [*args, *([] if message is None else [message])])
        match word:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "LEASE_LOST":
                raise errors.LeaseLost(*parse_status(reply))
            case "NOT_LEASED":
                raise errors.NotLeased(*parse_status(reply))
            case "KEY_REUSED":
                raise errors.IdempotencyKeyReused
        job = decode_job(job_id, decode_hash(reply[1]), int(reply[0]))
        if word == "CHANGED":
            self._observer.on_job_change(job.status)
        return job

    async def reap(self) -> tuple[list[ReapedJob], float | None]:
        """Take jobs whose lease has run out from their workers, a batch of them.

        Return what became of them, and in how many seconds the next lease runs out: 0 if there are more to take, `None`
        if there is none.
        """
        args = [REAP_BATCH, self._ttl, bytes(LEASE_EXPIRED_WILL_RETRY), bytes(LEASE_EXPIRED)]
        _, time, following, passed_over, *rows = await self._gateway.run_script(scripts.REAP, [keys.ROOT], args)
        _log_skipped(passed_over, "a lease has run out and its job cannot be taken back: a key of its own is not ours")
        reaped = [ReapedJob(job_id.decode(), Status(status.decode())) for job_id, status in _pairs(rows)]
        for one in reaped:
            self._observer.on_job_change("lease-expired")
            self._observer.on_job_change(one.status)
        return reaped, max(0.0, int(following) / 1e3 - int(time) / 1e6) if following else None

    async def get_time(self) -> float:
        """Return what Redis says the time is, in seconds since 1970, once it takes changes."""
        await self._gateway.probe()
        [time] = await self._gateway.read(["TIME"])
        return time_reply_to_micros(time) / 1e6

    async def get_queues(self) -> list[Queue]:
        """Return the queues that have jobs or settings of their own, by name."""
        return await queries.queues(self._gateway)

    async def configure_queue(
        self, queue: str, *, paused: bool | UnsetType | None = UNSET, max_running: int | UnsetType | None = UNSET
    ) -> Queue:
        """Change settings of a queue and return it: whether it is paused, and how many of its jobs may run at one time.

        A setting that is left out stays as it is; `None` clears it: the queue is not paused, any number may run.
        """
        constraints.QUEUE.validate("queue", queue)
        if isinstance(max_running, int):
            constraints.MAX_RUNNING.validate("max_running", max_running)
        args = [queue, _setting(paused), _setting(max_running)]
        _, settings = await self._gateway.run_script(scripts.QUEUE, [keys.ROOT], args)
        found = (await queries.stats(self._gateway)).queues.get(queue)
        return queries.queue_from(queue, settings.decode(), found or dict.fromkeys(Status, 0))

    async def start_drain(self, seconds: int) -> DrainStatus:
        """Create and claim no jobs for `seconds`, in all replicas; jobs that run go on."""
        constraints.DRAIN_SECONDS.validate("seconds", seconds)
        return await self._drain("start", seconds * 1000)

    async def end_drain(self) -> DrainStatus:
        """Create and claim jobs again."""
        return await self._drain("end")

    async def get_drain(self) -> DrainStatus:
        """Return whether a drain is on, and what is still at work."""
        return await self._drain("look")

    async def _drain(self, *args: str | int) -> DrainStatus:
        _, time, left = await self._gateway.run_script(scripts.DRAIN, [keys.ROOT], args)
        return await queries.drain(self._gateway, format_timestamp(int(time) + left * 1000) if left else None)

    async def _run(self, source: scripts.Script, job_id: str, args: Sequence[Any]) -> list[Any]:
        constraints.JOB_ID.validate("job_id", job_id)
        return await self._gateway.run_script(source, [keys.job(job_id), keys.ROOT], [job_id, *args])


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


def _setting(value: int | UnsetType | None) -> int | str:
    """Return a setting as the script takes it: empty to keep it, 0 to clear it."""
    return "" if isinstance(value, UnsetType) else int(value or 0)


def _log_skipped(passed_over: Sequence[bytes], event: str) -> None:
    """Log jobs that a script has passed over; it comes back to them in a minute."""
    if passed_over:
        _log.error(event, job_ids=[job_id.decode(errors="replace") for job_id in passed_over])


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
