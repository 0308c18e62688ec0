"""The nemesis: every fault by its name. A fault is injected, lasts a while, and is over when its function returns."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.domain.timestamps import format_timestamp
from service.store.partition import Partition
from tests.chaos import hostile_clients
from tests.chaos.environment import TIMEOUT, Environment, OneRedis
from tests.helpers import tcp_proxy
from tests.helpers.partitions import PARTITIONS, job_key
from tests.helpers.polling import wait_until
from tests.helpers.service_process import paused

#: It takes the environment of its kind.
Injector = Callable[[Any], Awaitable[None]]
#: Seconds by which the time of an event may be late: Valkey 9 asks the system for the time every few milliseconds.
CLOCK_LAG: Final = 0.02


class Fault(NamedTuple):
    """A named fault."""

    name: str
    inject: Injector
    #: The `appendfsync` that the fault needs; empty for any.
    fsync: str = ""
    #: The fault needs several processes.
    multi_process: bool = False
    #: The fault hits the service itself, which need not answer meanwhile.
    hits_service: bool = False
    #: The fault sets the clocks of servers.
    sets_clocks: bool = False
    #: Returns why the fault is impossible on this machine, or `None`.
    why_not: Callable[[], str | None] = lambda: None


async def kill_service(environment: Environment) -> None:
    """Kill all processes of the service and start it again."""
    await asyncio.to_thread(environment.kill_service)
    await environment.start_service()


async def kill_worker(environment: Environment) -> None:
    """Kill one of several processes; the supervisor restarts it."""
    os.kill(environment.rng.choice(environment.pids), signal.SIGKILL)
    await asyncio.sleep(environment.fault_seconds)


async def stop_service(environment: Environment) -> None:
    """Pause all processes of the service."""
    group = environment.service.process.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        await asyncio.sleep(environment.fault_seconds)
    finally:
        os.killpg(group, signal.SIGCONT)


async def stop_worker(environment: Environment) -> None:
    """Pause one of several processes."""
    with paused(environment.rng.choice(environment.pids)):
        await asyncio.sleep(environment.fault_seconds)


async def kill_redis(environment: OneRedis) -> None:
    """Kill Redis and start it again after a while."""
    await environment.kill_redis()
    await asyncio.sleep(environment.rng.uniform(0, environment.fault_seconds))
    await environment.start_redis()


async def stop_redis(environment: OneRedis) -> None:
    """Pause Redis; its kernel still accepts what clients send."""
    environment.redis.send(signal.SIGSTOP)
    try:
        # Longer than the request timeout: a request that timed out must not take effect afterwards.
        await asyncio.sleep(environment.fault_seconds * 4)
    finally:
        environment.redis.send(signal.SIGCONT)


async def kill_all(environment: OneRedis) -> None:
    """Kill everything and start everything again, concurrently."""
    await asyncio.gather(environment.kill_redis(), asyncio.to_thread(environment.kill_service))
    await asyncio.gather(environment.start_redis(), environment.start_service())


async def expire_leases(environment: OneRedis) -> None:
    """Move all leases an hour into the past while the service is down, and wait until the reaper has taken them."""
    await asyncio.to_thread(environment.kill_service)
    async with environment.redis_client() as redis:
        jobs = await _backdate_leases(redis)
        environment.history.expired_leases.update(dict.fromkeys(jobs, float("inf")))
        await environment.start_service()
        async with asyncio.timeout(TIMEOUT):
            for partition in PARTITIONS:
                while await redis.zcount(partition.leases, "-inf", int(time.time() * 1000)):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
    environment.history.expired_leases.update(dict.fromkeys(jobs, time.time()))


async def _backdate_leases(redis: Redis) -> list[str]:
    found = []
    for partition in PARTITIONS:
        leases = await redis.zrange(partition.leases, 0, -1, withscores=True)
        for job_id, expiry in [(job_id.decode(), int(expiry) - 3_600_000) for job_id, expiry in leases]:
            await redis.zadd(partition.leases, {job_id: expiry})
            await redis.hset(partition.job(job_id), "lease_expires_at", format_timestamp(expiry * 1000))
            found.append(job_id)
    return found


def connection_fault(fault: tcp_proxy.Fault, delay: float = 5.0) -> Injector:
    """Return a fault of the connections to Redis."""

    async def inject(environment: OneRedis) -> None:
        environment.proxy.delay = delay
        environment.proxy.inject(fault)
        await asyncio.sleep(environment.fault_seconds)
        await environment.proxy.heal()

    return inject


def lost_replies(silently: bool) -> Injector:
    """Return a fault that loses replies after the scripts ran: by closing the connection, or silently."""

    async def inject(environment: OneRedis) -> None:
        environment.proxy.lose_silently = silently
        for _ in range(4):
            environment.proxy.lose_replies = environment.rng.randrange(1, 12)
            await asyncio.sleep(environment.fault_seconds / 4)
        environment.proxy.lose_replies = 0

    return inject


async def full_memory(environment: OneRedis) -> None:
    """Set `maxmemory` so low that Redis rejects writes."""
    async with environment.redis_client() as redis:
        await redis.config_set("maxmemory", 1)
        await asyncio.sleep(environment.fault_seconds)
        await redis.config_set("maxmemory", 0)


async def full_disk(environment: OneRedis) -> None:
    """Fill the disk of Redis. With `appendfsync always` Redis exits, and is started when the disk has space again."""
    pid = environment.redis.pid
    await asyncio.to_thread(environment.disk.fill, pid)
    await asyncio.sleep(environment.fault_seconds)
    if environment.fsync == "always":
        await asyncio.to_thread(wait_until, lambda: environment.redis.has_exited, "exit of a Redis that cannot sync")
        await asyncio.to_thread(environment.disk.free, pid)
        await environment.start_redis()
        return
    async with environment.redis_client() as redis:
        await _wait_for_write_status(redis, "err")
        await asyncio.to_thread(environment.disk.free, pid)
        await _wait_for_write_status(redis, "ok")


async def _wait_for_write_status(redis: Redis, status: str) -> None:
    async with asyncio.timeout(TIMEOUT):
        while (await redis.info("persistence"))["aof_last_write_status"] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def loading(environment: OneRedis) -> None:
    """Kill Redis, and make it load its data slowly."""
    async with environment.redis_client() as redis:
        await redis.client_pause(10_000, all=False)  # writes after the rewrite would be loaded too
        await redis.bgrewriteaof()
        async with asyncio.timeout(TIMEOUT):
            while (await redis.info("persistence"))["aof_rewrite_in_progress"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        delay = int(environment.fault_seconds * 1e6 / max(1, await redis.dbsize()))
    await environment.kill_redis()
    await environment.start_redis("--key-load-delay", str(delay), "--loading-process-events-interval-bytes", "1024")


async def read_only(environment: OneRedis) -> None:
    """Make Redis a replica, as after a failover that the service did not follow."""
    async with environment.redis_client() as redis:
        await redis.replicaof("127.0.0.1", "1")
        await asyncio.sleep(environment.fault_seconds)
        await redis.replicaof("NO", "ONE")


async def busy(environment: OneRedis) -> None:
    """Block Redis with another client's script."""
    async with environment.redis_client() as redis, environment.redis_client() as other:

        async def run() -> None:
            with contextlib.suppress(ResponseError):  # the script is killed
                await other.eval("while true do end", 0)

        script = asyncio.create_task(run())
        await asyncio.sleep(environment.fault_seconds)
        await redis.script_kill()
        await script


def repeatedly(disturb: Callable[[Redis], Awaitable[object]]) -> Injector:
    """Return a fault that calls `disturb` at random intervals."""

    async def inject(environment: OneRedis) -> None:
        async with environment.redis_client() as redis:
            ends = time.monotonic() + environment.fault_seconds
            while time.monotonic() < ends:
                await disturb(redis)
                await asyncio.sleep(environment.rng.uniform(0, 0.1))

    return inject


async def wrong_type(environment: OneRedis) -> None:
    """Replace one of our keys with a list, three times, and repair what removals could not reach meanwhile."""
    for name in environment.rng.sample(corrupted_keys(environment.rng.choice(PARTITIONS)), 3):
        async with environment.redis_client() as redis:
            await _replace(redis, name)
            await asyncio.sleep(environment.fault_seconds / 3)
            await _restore(redis, name)
        environment.history.errors += [
            f"doctor: after another type of {name}: {issue}"
            for issue in await repair(f"redis://127.0.0.1:{environment.redis.port}/0")
            if issue["type"] != "count" and (issue["type"], issue["key"]) != ("stray", name) and not _is_put_off(issue)
        ]


def _is_put_off(issue: Mapping[str, Any]) -> bool:
    """Return whether a script has put off a lease, a delay or a time-out whose job it could not change, by a minute."""
    kinds = {partition.key(kind) for partition in PARTITIONS for kind in ("leases", "delays", "timers")}
    return issue["type"] == "score" and issue["key"] in kinds


def corrupted_keys(partition: Partition) -> list[str]:
    """Return the keys of a partition that changes add to and remove from."""
    return [
        *(partition.leases, partition.tags, partition.delays, partition.events, partition.by_expiry, partition.meta),
        *(partition.queue_names, partition.deletions),
        *(partition.by_created("a", state) for state in ("pending", "running", "completed")),
    ]


async def repair(url: str) -> list[dict[str, Any]]:
    """Run the doctor with repair, next to the service, and return what it found."""
    command = [sys.executable, "-m", "service", "doctor", "--repair", "--json", "--rate", "1e6", "--redis-url", url]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert run.returncode in {0, 1}, run.stderr  # 1: something is left, which the end of the round finds
    findings: list[dict[str, Any]] = json.loads(run.stdout)["findings"]
    return findings


async def _replace(redis: Redis, name: str) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.rename(name, f"aside:{name}")
        pipe.rpush(name, "not ours")
        await pipe.execute(raise_on_error=False)


async def _restore(redis: Redis, name: str) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(name)
        pipe.rename(f"aside:{name}", name)
        await pipe.execute(raise_on_error=False)


async def unknown_fields(environment: OneRedis) -> None:
    """Add unknown fields to jobs, and put a hash of another program at a job's key."""
    async with environment.redis_client() as redis:
        names = [name for one in PARTITIONS async for name in redis.scan_iter(one.job("*"), count=1000)]
        for name in environment.rng.sample(sorted(names), min(len(names), 50)):
            await redis.eval(
                "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end",
                1,
                name,
                *environment.rng.choice([("status2", "x"), ("\xff", "\x00"), ("_other", "y"), ("job_id", "another")]),
            )
        await redis.hset(job_key("foreign"), mapping={"name": "not a job"})
        environment.history.errors += await hostile_clients.request_unmanaged_hash(environment.service.url, "foreign")
        if await redis.hgetall(job_key("foreign")) != {b"name": b"not a job"}:
            environment.history.errors.append("a hash that jobstate does not manage was changed")
        await redis.delete(job_key("foreign"))


async def older_aof(environment: OneRedis) -> None:
    """Start Redis with an earlier copy of its append-only file, so that later changes are lost."""
    copy, files = environment.folder / "older", environment.folder / "appendonlydir"
    since = time.time() - CLOCK_LAG
    await asyncio.to_thread(shutil.copytree, files, copy)
    await asyncio.sleep(environment.fault_seconds)
    await environment.kill_redis()
    await asyncio.to_thread(shutil.rmtree, files)
    await asyncio.to_thread(copy.rename, files)
    environment.record_loss(since)
    await environment.start_redis()


async def empty_redis(environment: OneRedis) -> None:
    """Start Redis without its append-only file, so that everything is lost."""
    await environment.kill_redis()
    await asyncio.to_thread(shutil.rmtree, environment.folder / "appendonlydir")
    environment.record_loss(0)
    await environment.start_redis()


def hostile(behave: Callable[[str, Environment], Awaitable[list[str]]]) -> Injector:
    """Return a fault of hostile clients."""

    async def inject(environment: OneRedis) -> None:
        environment.history.errors += await behave(environment.service.url, environment)

    return inject


FAULTS: Final = (
    Fault("kill-service", kill_service, hits_service=True),
    Fault("kill-worker", kill_worker, multi_process=True, hits_service=True),
    Fault("stop-service", stop_service, hits_service=True),
    Fault("stop-worker", stop_worker, multi_process=True, hits_service=True),
    Fault("kill-redis-always", kill_redis, "always"),
    Fault("kill-redis-everysec", kill_redis, "everysec"),
    Fault("stop-redis", stop_redis),
    Fault("kill-all", kill_all, hits_service=True),
    Fault("expire-leases", expire_leases, hits_service=True),
    *(Fault(f"connection-{fault}", connection_fault(fault)) for fault in tcp_proxy.Fault),
    Fault("lost-replies", lost_replies(silently=False)),
    Fault("lost-replies-silently", lost_replies(silently=True)),
    Fault("full-memory", full_memory),
    Fault("full-disk-always", full_disk, "always"),
    Fault("full-disk-everysec", full_disk, "everysec"),
    Fault("loading", loading),
    Fault("read-only", read_only),
    Fault("busy", busy),
    Fault("script-flush", repeatedly(lambda redis: redis.script_flush())),
    Fault("client-kill", repeatedly(lambda redis: redis.client_kill_filter(_type="normal", skipme=True))),
    Fault("wrong-type", wrong_type),
    Fault("unknown-fields", unknown_fields),
    Fault("older-aof", older_aof, "always"),
    Fault("empty-redis", empty_redis, "always"),
    Fault("pool-exhausted", connection_fault(tcp_proxy.Fault.SLOW, 0.3), multi_process=True),
    Fault("connection-flood", hostile(hostile_clients.connection_flood), hits_service=True),
    Fault("slow-clients", hostile(hostile_clients.slow_clients)),
    Fault("bad-bodies", hostile(hostile_clients.bad_bodies)),
)
