"""Every operation of the library on one job, the state that it needs, and a look at all keys."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis

from service.domain.errors import JobStateError, StoreCorrupt
from service.domain.jobs import JobFilter, NewJob, Progress
from service.domain.rate_limits import RateLimit
from service.domain.states import FINAL_STATUSES
from service.domain.timestamps import format_timestamp
from service.store.client import StoreClient
from service.store.creation import Creation
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import Partition
from service.store.queues import QueueManager
from service.store.rate_limiter import RateLimiter
from tests.helpers.partitions import connect

WEEK: Final = timedelta(days=7)
#: The quota of the operation `rate limit`. Its key expires after 86 s, which is longer than a test takes.
LIMIT: Final = RateLimit(1000, 86_400)
#: Both time-outs of a job.
TIMEOUTS: Final = {"run_timeout_seconds": 60, "start_timeout_seconds": 60}
#: The fields with which a job is created in a state.
_OPTIONS_OF_STATES: Final[Mapping[str, Mapping[str, Any]]] = {
    "delayed": {"delay_seconds": 60},
    "prioritized": {"priority": 10},
}


class Store:
    """The library on one database, and the lease tokens of the jobs that were claimed. A job's queue has its name."""

    def __init__(self, pool: ConnectionPool, redis: Redis, client: StoreClient | None = None) -> None:
        self.redis = redis
        self.client = client or connect(pool)
        self.jobs = JobStateManager(self.client, ttl=WEEK)
        self.leases = LeaseManager(self.client, ttl=WEEK)
        self.longer_leases = LeaseManager(self.client, ttl=10 * WEEK)
        self.queues = QueueManager(self.client)
        self.limiter = RateLimiter(self.client, LIMIT)
        self.tokens: dict[str, str] = {}

    def home(self, job_id: str) -> Partition:
        """Return the partition of a job."""
        return self.client.partitions.of(job_id)

    async def now(self) -> int:
        """Return the time of Redis (ms)."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def create(self, job_id: str, **options: Any) -> None:
        """Create a job with both tags, in a queue of its own."""
        await self.jobs.create_job(job_id, 1, "c", slate_id="s", **{"queue": job_id, **options})

    async def lease(self, job_id: str, **options: Any) -> None:
        """Create a job and claim it."""
        await self.create(job_id, **options)
        claim = await self.leases.claim_job([options.get("queue", job_id)], "w")
        assert claim is not None
        assert claim.job.job_id == job_id
        self.tokens[job_id] = claim.lease.token

    async def end_delay(self, job_id: str) -> None:
        """Make the delay of a job be over."""
        queue = await self.redis.hget(self.home(job_id).job(job_id), "queue") or b""
        available = await self.now() - 1000
        await self.redis.hset(self.home(job_id).job(job_id), "available_at", format_timestamp(available * 1000))
        await self.redis.zadd(self.home(job_id).delays, {f"{queue.decode()}:{job_id}": available * 1000})

    async def end_lease(self, job_id: str) -> None:
        """Make the lease of a job be over."""
        ends = await self.now() - 1000
        await self.redis.hset(self.home(job_id).job(job_id), "lease_expires_at", format_timestamp(ends * 1000))
        await self.redis.zadd(self.home(job_id).leases, {job_id: ends})

    async def end_timeout(self, kind: str, job_id: str) -> None:
        """Make a time-out of a job (`run` or `start`) be over."""
        queue = await self.redis.hget(self.home(job_id).job(job_id), "queue") or b""
        ends = await self.now() - 1000
        await self.redis.hset(self.home(job_id).job(job_id), f"{kind}_deadline_at", format_timestamp(ends * 1000))
        await self.redis.zadd(self.home(job_id).timers, {f"{kind}:{queue.decode()}:{job_id}": ends})

    async def expire(self, *job_ids: str) -> None:
        """Make the retention of jobs be over: Redis has deleted their records, and no sweep has run since.

        A record outlives its lease, its delay and its time-outs, so these are over, too.
        """
        for start in range(0, len(job_ids), 20):  # the pool has no more connections than a service needs
            await asyncio.gather(*(self._end_all(job_id) for job_id in job_ids[start : start + 20]))
        ends, ids = await self.now() - 1000, set(job_ids)
        for partition in {self.home(job_id) for job_id in job_ids}:
            members = await self.redis.zrange(partition.by_expiry, 0, -1)
            ended = {bytes(member): ends for member in members if bytes(member).split(b"|")[0].decode() in ids}
            await self.redis.zadd(partition.by_expiry, ended)
        await self.redis.unlink(*(self.home(job_id).job(job_id) for job_id in job_ids))

    async def _end_all(self, job_id: str) -> None:
        held = await self.redis.hkeys(self.home(job_id).job(job_id))
        if b"lease_expires_at" in held:
            await self.end_lease(job_id)
        if b"available_at" in held:
            await self.end_delay(job_id)
        for kind in ("run", "start"):
            if f"{kind}_deadline_at".encode() in held:
                await self.end_timeout(kind, job_id)

    async def bring_to(self, state: str, job_id: str, **options: Any) -> None:
        """Create a job and bring it to a state of an index."""
        if state == "running":
            return await self.lease(job_id, **options)
        await self.create(job_id, **{**options, **_OPTIONS_OF_STATES.get(state, {})})
        if state in {"unleased", "completed", "failed"}:
            await self.jobs.update_job_status(job_id, "running")
        if state in FINAL_STATUSES:
            await self.jobs.update_job_status(job_id, state)
        return None


@dataclass(frozen=True)
class Operation:
    """What a client can do, with the state that it needs before."""

    run: Callable[[Store, str], Awaitable[Any]]
    prepare: Callable[[Store, str], Awaitable[None]] | None = None
    #: Of a script that skips jobs: whether this job was moved.
    is_moved: Callable[[Store, str], Awaitable[bool]] | None = None
    #: Whether one run is for all jobs.
    is_for_all: bool = False


def _state(state: str, **options: Any) -> Callable[[Store, str], Awaitable[None]]:
    return lambda store, job_id: store.bring_to(state, job_id, **options)


async def _delay_over(store: Store, job_id: str, **options: Any) -> None:
    await store.bring_to("delayed", job_id, **options)
    await store.end_delay(job_id)


def _prioritized_delay_over(store: Store, job_id: str) -> Awaitable[None]:
    return _delay_over(store, job_id, priority=9)


async def _pending_in_limited_queue(store: Store, job_id: str) -> None:
    await store.bring_to("pending", job_id)
    await store.queues.configure_queue(job_id, max_running=5)


async def _lease_over(store: Store, job_id: str) -> None:
    await store.lease(job_id)
    await store.end_lease(job_id)


async def _retriable(store: Store, job_id: str) -> None:
    await store.lease(job_id, max_attempts=2, retry_delay_seconds=5)


def _expired(state: str, **options: Any) -> Callable[[Store, str], Awaitable[None]]:
    async def prepare(store: Store, job_id: str) -> None:
        await store.bring_to(state, job_id, **options)
        await store.expire(job_id)

    return prepare


async def _create_many(store: Store, job_id: str) -> None:
    for result in await store.jobs.create_jobs([Creation(job_id, NewJob(input_params=1, queue=job_id))]):
        if isinstance(result, JobStateError):
            raise result


async def _claim(store: Store, job_id: str) -> None:
    await store.leases.claim_job([job_id], "w", claim_key=f"claim-{job_id}")


def _update(status: str, **values: Any) -> Callable[[Store, str], Awaitable[Any]]:
    return lambda store, job_id: store.jobs.update_job_status(
        job_id, status, change_id=f"change-{job_id}", lease_token=store.tokens.get(job_id), **values
    )


def _cancel(store: Store, job_id: str) -> Awaitable[Any]:
    return store.jobs.cancel_job(job_id, change_id=f"change-{job_id}")


def _retry(**values: Any) -> Callable[[Store, str], Awaitable[Any]]:
    return lambda store, job_id: store.jobs.retry_job(job_id, change_id=f"change-{job_id}", **values)


def _release(**values: Any) -> Callable[[Store, str], Awaitable[Any]]:
    return lambda store, job_id: store.leases.release_job(
        job_id, store.tokens[job_id], change_id=f"change-{job_id}", **values
    )


def _is_pending(store: Store, job_id: str) -> Awaitable[bool]:
    return _is_in(store, store.home(job_id).by_created(job_id, "pending"), job_id)


def _is_prioritized(store: Store, job_id: str) -> Awaitable[bool]:
    return _is_in(store, store.home(job_id).by_priority(job_id), job_id)


async def _is_in(store: Store, index: str, job_id: str) -> bool:
    is_ours = await store.redis.type(index) == b"zset"
    return is_ours and await store.redis.zscore(index, job_id) is not None


async def _status(store: Store, job_id: str) -> Any:
    is_ours = await store.redis.type(store.home(job_id).job(job_id)) == b"hash"
    return await store.redis.hget(store.home(job_id).job(job_id), "status") if is_ours else None


async def _is_claimed(store: Store, job_id: str) -> bool:
    return bool(await _status(store, job_id) == b"running")


async def _is_reaped(store: Store, job_id: str) -> bool:
    return bool(await _status(store, job_id) == b"failed")


async def _is_swept(store: Store, job_id: str) -> bool:
    members = await store.redis.zrange(store.home(job_id).by_expiry, 0, -1)
    return not any(member.startswith(f"{job_id}|".encode()) for member in members)


def _sweep_of(state: str, **options: Any) -> Operation:
    return Operation(lambda store, _: store.jobs.sweep(), _expired(state, **options), _is_swept, is_for_all=True)


def _time_out_of(kind: str, state: str) -> Operation:
    async def prepare(store: Store, job_id: str) -> None:
        await store.bring_to(state, job_id, **TIMEOUTS)
        await store.end_timeout(kind, job_id)

    return Operation(lambda store, _: store.leases.time_out(), prepare, _is_reaped, is_for_all=True)


def _list(**filters: Any) -> Callable[[Store, str], Awaitable[Any]]:
    return lambda store, _: store.jobs.list_jobs(JobFilter(**filters))


#: Every operation, by a name for people.
OPERATIONS: Final = {
    "create": Operation(lambda store, job_id: store.jobs.create_job(job_id, 1, queue=job_id)),
    "create by a batch": Operation(_create_many),
    "create delayed": Operation(lambda store, job_id: store.jobs.create_job(job_id, 1, queue=job_id, delay_seconds=60)),
    "create with a priority": Operation(
        lambda store, job_id: store.jobs.create_job(job_id, 1, queue=job_id, priority=9)
    ),
    "create tagged": Operation(lambda store, job_id: store.create(job_id)),
    "create with time-outs": Operation(
        lambda store, job_id: store.jobs.create_job(job_id, 1, queue=job_id, **TIMEOUTS)
    ),
    "claim": Operation(_claim, _state("pending"), _is_claimed),
    "claim with time-outs": Operation(_claim, _state("pending", **TIMEOUTS), _is_claimed),
    "claim of a prioritized job": Operation(_claim, _state("prioritized"), _is_claimed),
    "claim after a delay": Operation(_claim, _delay_over, _is_claimed),
    "claim from a limited queue": Operation(_claim, _pending_in_limited_queue, _is_claimed),
    "heartbeat": Operation(
        lambda store, job_id: store.leases.heartbeat(job_id, store.tokens[job_id]), _state("running")
    ),
    "heartbeat with progress": Operation(
        lambda store, job_id: store.leases.heartbeat(job_id, store.tokens[job_id], progress=Progress(1)),
        _state("running"),
    ),
    "heartbeat that extends the retention": Operation(
        lambda store, job_id: store.longer_leases.heartbeat(job_id, store.tokens[job_id]), _state("running")
    ),
    "complete with a run time-out": Operation(_update("completed", result=1), _state("running", **TIMEOUTS)),
    "cancel with a start time-out": Operation(_cancel, _state("pending", **TIMEOUTS)),
    "release with a run time-out": Operation(_release(), _state("running", **TIMEOUTS)),
    "retry with time-outs": Operation(_retry(), _state("failed", **TIMEOUTS)),
    "progress": Operation(_update("running", progress=Progress(1)), _state("running")),
    "complete": Operation(_update("completed"), _state("running")),
    "fail": Operation(_update("failed"), _state("running")),
    "start without a lease": Operation(_update("running"), _state("pending")),
    "complete without a lease": Operation(_update("completed"), _state("unleased")),
    "retry": Operation(_retry(), _state("failed")),
    "retry with a priority": Operation(_retry(priority=9), _state("failed")),
    "retry later": Operation(_retry(delay_seconds=60, max_attempts=3), _state("cancelled")),
    "cancel": Operation(_cancel, _state("pending")),
    "cancel prioritized": Operation(_cancel, _state("prioritized")),
    "cancel delayed": Operation(_cancel, _state("delayed")),
    "cancel requested": Operation(_cancel, _state("running")),
    "release": Operation(_release(), _state("running")),
    "release after a failure": Operation(_release(error="why"), _retriable),
    "delete": Operation(
        lambda store, job_id: store.jobs.delete_job(job_id, change_id=f"change-{job_id}"), _state("completed")
    ),
    "reap": Operation(lambda store, _: store.leases.reap(), _lease_over, _is_reaped, is_for_all=True),
    "run time-out": _time_out_of("run", "running"),
    "run time-out without a lease": _time_out_of("run", "unleased"),
    "start time-out": _time_out_of("start", "pending"),
    "end delays": Operation(lambda store, _: store.leases.end_delays(), _delay_over, _is_pending, is_for_all=True),
    "end delays of prioritized jobs": Operation(
        lambda store, _: store.leases.end_delays(), _prioritized_delay_over, _is_prioritized, is_for_all=True
    ),
    "sweep of prioritized": _sweep_of("prioritized"),
    "sweep of pending": _sweep_of("pending"),
    "sweep of delayed": _sweep_of("delayed"),
    "sweep of running": _sweep_of("running"),
    "sweep of pending with time-outs": _sweep_of("pending", **TIMEOUTS),
    "sweep of running with time-outs": _sweep_of("running", **TIMEOUTS),
    "sweep of completed": _sweep_of("completed"),
    "count of running": Operation(lambda store, _: store.jobs.get_running_job_count(), _state("unleased")),
    "read of a queue": Operation(lambda store, job_id: store.queues.get_queue(job_id), _state("pending")),
    "stats": Operation(lambda store, _: store.jobs.get_stats(), _state("pending")),
    "list": Operation(_list(), _state("pending")),
    "list of a slate": Operation(_list(slate_id="s"), _state("pending")),
    "list of a queue": Operation(
        lambda store, job_id: store.jobs.list_jobs(JobFilter(queue=job_id)), _state("pending")
    ),
    "read": Operation(lambda store, job_id: store.jobs.get_job(job_id), _state("pending")),
    "read of a history": Operation(lambda store, job_id: store.jobs.get_history(job_id), _state("pending")),
    "batch read": Operation(lambda store, job_id: store.jobs.get_jobs([job_id]), _state("pending")),
    "configure queue": Operation(
        lambda store, job_id: store.queues.configure_queue(job_id, paused=True), _state("pending")
    ),
    "list of queues": Operation(lambda store, _: store.queues.get_queues(), _state("pending")),
    "drain": Operation(lambda store, _: store.queues.start_drain(60), _state("pending")),
    "rate limit": Operation(lambda store, job_id: store.limiter.acquire(job_id)),
}


async def dump(redis: Redis) -> dict[str, Any]:
    """Return what every key holds. It reads all keys at once."""
    held = {}
    for name in sorted([name async for name in redis.scan_iter(count=1000)]):
        read = {
            b"string": redis.get,
            b"hash": redis.hgetall,
            b"set": redis.smembers,
            b"list": lambda name: redis.lrange(name, 0, -1),
            b"zset": lambda name: redis.zrange(name, 0, -1, withscores=True),
            b"stream": redis.xrange,
        }[await redis.type(name)]
        held[name.decode()] = (await read(name), await redis.pexpiretime(name))
    return held


async def make_foreign(redis: Redis, name: str, kind: str) -> None:
    """Put a key of another program, of a type that is not ours, in the place of a key."""
    await redis.delete(name)
    if kind == "string":
        await redis.rpush(name, "foreign")
    else:
        await redis.set(name, "foreign")


async def is_refused(call: Awaitable[Any]) -> bool:
    """Return whether a call is refused because a key is not ours."""
    try:
        await call
    except StoreCorrupt:
        return True
    return False
