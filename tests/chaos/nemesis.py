"""Every fault by its name: it begins, holds on, and is over when its function returns."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

from service.domain.timestamps import format_timestamp
from service.store import keys
from tests.chaos import hostile_clients
from tests.chaos.environment import PATIENCE, Stage
from tests.helpers import servers
from tests.helpers.servers import wait_until

Play = Callable[[Stage], Awaitable[None]]


class Fault(NamedTuple):
    """What goes wrong; `fsync` where it asks for one way of syncing, `workers` where it takes several processes."""

    name: str
    play: Play
    fsync: str = ""
    workers: bool = False
    #: The service itself is hit: nothing is to be expected of it meanwhile.
    hits_service: bool = False


async def kill_service(stage: Stage) -> None:
    """Kill every process of the service at once, and start it again."""
    await asyncio.to_thread(stage.kill_service)
    await stage.start_service()


async def kill_worker(stage: Stage) -> None:
    """Kill one of several processes; the service replaces it."""
    os.kill(stage.choose.choice(stage.pids), signal.SIGKILL)
    await asyncio.sleep(stage.hold)


async def stop_service(stage: Stage) -> None:
    """Let the whole service stand still."""
    group = stage.service.process.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        await asyncio.sleep(stage.hold)
    finally:
        os.killpg(group, signal.SIGCONT)


async def stop_worker(stage: Stage) -> None:
    """Let one of several processes stand still."""
    with servers.paused(stage.choose.choice(stage.pids)):
        await asyncio.sleep(stage.hold)


async def kill_redis(stage: Stage) -> None:
    """Kill Redis, and start it again after a while."""
    await stage.kill_redis()
    await asyncio.sleep(stage.choose.uniform(0, stage.hold))
    await stage.start_redis()


async def stop_redis(stage: Stage) -> None:
    """Let Redis stand still; its kernel goes on taking what is sent."""
    stage.redis.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(stage.hold * 4)  # longer than a call may take: what was given up must not be done then
    finally:
        stage.redis.send(signal.SIGCONT)


async def kill_all(stage: Stage) -> None:
    """Kill everything at once, and start it again in no order."""
    await asyncio.gather(stage.kill_redis(), asyncio.to_thread(stage.kill_service))
    await asyncio.gather(stage.start_redis(), stage.start_service())


async def an_hour(stage: Stage) -> None:
    """Let an hour go by for every lease while the service is down: its reaper takes those that are not heard of."""
    await asyncio.to_thread(stage.kill_service)
    async with stage.client() as redis:
        jobs = await _let_leases_run_out(redis)
        stage.history.run_out.update(dict.fromkeys(jobs, float("inf")))
        await stage.start_service()
        async with asyncio.timeout(PATIENCE):
            while await redis.zcount(keys.LEASES, "-inf", int(time.time() * 1000)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    stage.history.run_out.update(dict.fromkeys(jobs, time.time()))


async def _let_leases_run_out(redis: AsyncRedis) -> list[str]:
    leases = await redis.zrange(keys.LEASES, 0, -1, withscores=True)
    for job_id, past in [(job_id.decode(), int(ends) - 3_600_000) for job_id, ends in leases]:
        await redis.zadd(keys.LEASES, {job_id: past})
        await redis.hset(keys.job(job_id), "lease_expires_at", format_timestamp(past * 1000))
    return [job_id.decode() for job_id, _ in leases]


def line(fault: servers.Fault, delay: float = 5.0) -> Play:
    """Return the fault of a line to Redis that is broken for a while."""

    async def play(stage: Stage) -> None:
        stage.line.delay = delay
        stage.line.breaks(fault)
        await asyncio.sleep(stage.hold)
        await stage.line.mend()

    return play


def lost_replies(in_silence: bool) -> Play:
    """Return the fault of a line that loses replies after the scripts ran."""

    async def play(stage: Stage) -> None:
        stage.line.in_silence = in_silence
        for _ in range(4):
            stage.line.lose_replies = stage.choose.randrange(1, 12)
            await asyncio.sleep(stage.hold / 4)
        stage.line.lose_replies = 0

    return play


async def full_memory(stage: Stage) -> None:
    """Let Redis be at its memory limit, evicting nothing."""
    async with stage.client() as redis:
        await redis.config_set("maxmemory", 1)
        await asyncio.sleep(stage.hold)
        await redis.config_set("maxmemory", 0)


async def full_disk(stage: Stage) -> None:
    """Let Redis's disk be full. Where it syncs always, Redis ends by itself, and is started once there is room."""
    pid = stage.redis.pid
    await asyncio.to_thread(stage.disk.fill, pid)
    await asyncio.sleep(stage.hold)
    if stage.fsync == "always":
        await asyncio.to_thread(wait_until, lambda: stage.redis.has_ended, "the end of a Redis that cannot sync")
        await asyncio.to_thread(stage.disk.free, pid)
        await stage.start_redis()
        return
    async with stage.client() as redis:
        await _until_writing_is(redis, "err")
        await asyncio.to_thread(stage.disk.free, pid)
        await _until_writing_is(redis, "ok")


async def _until_writing_is(redis: AsyncRedis, status: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await redis.info("persistence"))["aof_last_write_status"] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def loading(stage: Stage) -> None:
    """Kill Redis, and have it read its data slowly."""
    async with stage.client() as redis:
        await redis.client_pause(10_000, all=False)  # no writes, else it would read these too
        await redis.bgrewriteaof()
        async with asyncio.timeout(PATIENCE):
            while (await redis.info("persistence"))["aof_rewrite_in_progress"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        delay = int(stage.hold * 1e6 / max(1, await redis.dbsize()))
    await stage.kill_redis()
    await stage.start_redis("--key-load-delay", str(delay), "--loading-process-events-interval-bytes", "1024")


async def read_only(stage: Stage) -> None:
    """Let Redis be a replica, as after a failover that the service has not followed."""
    async with stage.client() as redis:
        await redis.replicaof("127.0.0.1", "1")
        await asyncio.sleep(stage.hold)
        await redis.replicaof("NO", "ONE")


async def busy(stage: Stage) -> None:
    """Let another client's script hold Redis up."""
    async with stage.client() as redis, stage.client() as other:

        async def run() -> None:
            with contextlib.suppress(ResponseError):  # it is killed
                await other.eval("while true do end", 0)

        script = asyncio.create_task(run())
        await asyncio.sleep(stage.hold)
        await redis.script_kill()
        await script


def again_and_again(disturb: Callable[[AsyncRedis], Awaitable[object]]) -> Play:
    """Return the fault of a Redis to which something is done for as long as it holds."""

    async def play(stage: Stage) -> None:
        async with stage.client() as redis:
            ends = time.monotonic() + stage.hold
            while time.monotonic() < ends:
                await disturb(redis)
                await asyncio.sleep(stage.choose.uniform(0, 0.1))

    return play


async def wrong_type(stage: Stage) -> None:
    """Put a key of another type in the place of one of ours, one after another."""
    names = [
        keys.LEASES,
        keys.TAGS,
        keys.DELAYED,
        keys.EVENTS,
        keys.INDEXES,
        keys.CLOCK,
        keys.by_creation("a", "pending"),
    ]
    async with stage.client() as redis:
        for name in stage.choose.sample(names, 3):
            await _replace(redis, name)
            await asyncio.sleep(stage.hold / 3)
            await _restore(redis, name)


async def _replace(redis: AsyncRedis, name: str) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.rename(name, f"aside:{name}")
        pipe.rpush(name, "not ours")
        await pipe.execute(raise_on_error=False)


async def _restore(redis: AsyncRedis, name: str) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(name)
        pipe.rename(f"aside:{name}", name)
        await pipe.execute(raise_on_error=False)


async def foreign_fields(stage: Stage) -> None:
    """Give jobs fields that nobody here writes, and let a hash that is none of ours stand where a job's would."""
    async with stage.client() as redis:
        names = [name async for name in redis.scan_iter("job:*", count=1000)]
        for name in stage.choose.sample(sorted(names), min(len(names), 50)):
            await redis.eval(
                "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end",
                1,
                name,
                *stage.choose.choice([("status2", "x"), ("\xff", "\x00"), ("_other", "y"), ("job_id", "another")]),
            )
        await redis.hset("job:foreign", mapping={"name": "not a job"})
        stage.history.complaints += await hostile_clients.ask_for_a_foreign_hash(stage.service.url, "foreign")
        if await redis.hgetall("job:foreign") != {b"name": b"not a job"}:
            stage.history.complaints.append("a hash that is not ours was changed")
        await redis.delete("job:foreign")


async def older_file(stage: Stage) -> None:
    """Start Redis with the append-only file of a while ago: what was acknowledged since is gone."""
    copy, files = stage.folder / "older", stage.folder / "appendonlydir"
    since = time.time()
    await asyncio.to_thread(shutil.copytree, files, copy)
    await asyncio.sleep(stage.hold)
    await stage.kill_redis()
    await asyncio.to_thread(shutil.rmtree, files)
    await asyncio.to_thread(copy.rename, files)
    stage.lose(since)
    await stage.start_redis()


def rudely(behave: Callable[[str, Stage], Awaitable[list[str]]]) -> Play:
    """Return the fault of clients that behave so."""

    async def play(stage: Stage) -> None:
        stage.history.complaints += await behave(stage.service.url, stage)

    return play


FAULTS: Final = (
    Fault("kill-service", kill_service, hits_service=True),
    Fault("kill-worker", kill_worker, workers=True, hits_service=True),
    Fault("stop-service", stop_service, hits_service=True),
    Fault("stop-worker", stop_worker, workers=True, hits_service=True),
    Fault("kill-redis-always", kill_redis, "always"),
    Fault("kill-redis-everysec", kill_redis, "everysec"),
    Fault("stop-redis", stop_redis),
    Fault("kill-all", kill_all, hits_service=True),
    Fault("an-hour", an_hour, hits_service=True),
    Fault("line-refused", line(servers.Fault.REFUSED)),
    Fault("line-unanswered", line(servers.Fault.UNANSWERED)),
    Fault("line-reset", line(servers.Fault.RESET)),
    Fault("line-cut", line(servers.Fault.CUT)),
    Fault("line-silent", line(servers.Fault.SILENT)),
    Fault("line-slow", line(servers.Fault.SLOW)),
    Fault("line-trickling", line(servers.Fault.TRICKLING)),
    Fault("lost-replies", lost_replies(in_silence=False)),
    Fault("lost-replies-silently", lost_replies(in_silence=True)),
    Fault("full-memory", full_memory),
    Fault("full-disk-always", full_disk, "always"),
    Fault("full-disk-everysec", full_disk, "everysec"),
    Fault("loading", loading),
    Fault("read-only", read_only),
    Fault("busy", busy),
    Fault("script-flush", again_and_again(lambda redis: redis.script_flush())),
    Fault("client-kill", again_and_again(lambda redis: redis.client_kill_filter(_type="normal", skipme=True))),
    Fault("wrong-type", wrong_type),
    Fault("foreign-fields", foreign_fields),
    Fault("older-file", older_file, "always"),
    Fault("pool-exhausted", line(servers.Fault.SLOW, 0.3), workers=True),
    Fault("crowd", rudely(hostile_clients.crowd), hits_service=True),
    Fault("slow-clients", rudely(hostile_clients.slow_clients)),
    Fault("bad-bodies", rudely(hostile_clients.bad_bodies)),
)
