"""Changes that return once they are on disk, on the embedded Redis, which has `WAITAOF`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.domain import errors
from service.store import fsync
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, connect, job_key
from tests.helpers.redis_servers import ProcessRedis

pytestmark = pytest.mark.standalone_only("`WAITAOF` works on one Redis only")

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[ProcessRedis] = []

    def started(*options: str) -> str:
        servers.append(ProcessRedis(tmp_path, *options))
        return f"redis://127.0.0.1:{servers[-1].port}/0"

    yield started
    for server in servers:
        server.remove()


@asynccontextmanager
async def store(url: str) -> AsyncIterator[tuple[JobStateManager, LeaseManager, QueueManager, Redis]]:
    pool = create_pool(url)
    client = connect(pool, waitaof=True)
    jobs, leases = JobStateManager(client, ttl=timedelta(days=1)), LeaseManager(client, ttl=timedelta(days=1))
    try:
        yield jobs, leases, QueueManager(client), client.redis
    finally:
        await client.aclose()
        await pool.disconnect()


async def waits(redis: Redis) -> int:
    """Return how many `WAITAOF` commands Redis has received."""
    return int((await redis.info("commandstats")).get("cmdstat_waitaof", {}).get("calls", 0))


async def test_every_change_waits_for_fsync_and_concurrent_changes_share_one_wait(start: Start) -> None:
    async with store(start("--appendfsync", "always")) as (jobs, leases, queues, redis):
        await asyncio.gather(*(jobs.create_job(f"j{number}", 1) for number in range(50)))
        assert 1 <= await waits(redis) <= 5
        changes = [
            lambda: leases.claim_job(["default"], "w"),
            lambda: jobs.update_job_status("j1", "running"),
            lambda: jobs.update_job_status("j1", "running"),  # a retry waits too, because the first call may not have
            lambda: jobs.cancel_job("j2"),
            lambda: jobs.delete_job("j2"),
            lambda: queues.configure_queue("q", paused=True),
        ]
        for number, change in enumerate(changes):
            before = await waits(redis)
            try:
                await change()  # type: ignore[no-untyped-call]
            except errors.IllegalTransition:
                assert number == 2
            # A setting is changed in the first partition, then in all others.
            assert await waits(redis) == before + (2 if number == 5 and len(PARTITIONS) > 1 else 1), number
        before = await waits(redis)
        await jobs.get_job("j1")
        await jobs.get_stats()
        await jobs.sweep()
        assert await waits(redis) == before


async def test_a_change_that_is_not_on_disk_in_time_is_not_acknowledged(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsync, "WAITAOF_TIMEOUT_MS", 50)
    async with store(start("--appendfsync", "no")) as (jobs, _, _, redis):
        with pytest.raises(errors.StoreTimeout, match="not synced to disk"):
            await jobs.create_job("j", 1)
        assert await redis.exists(job_key("j"))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (("--appendonly", "no"), errors.StoreReadOnly, "appendonly yes"),
        (("--rename-command", "WAITAOF", "GONE"), errors.StoreAccessDenied, "7.2"),
    ],
    ids=["no append-only file", "an older Redis"],
)
async def test_a_redis_without_waitaof_support_is_rejected(
    start: Start, options: tuple[str, ...], error: type[Exception], text: str
) -> None:
    async with store(start(*options)) as (jobs, _, _, _):
        with pytest.raises(error, match=text):
            await jobs.create_job("j", 1)


async def test_a_change_during_a_wait_waits_for_the_next_one(start: Start) -> None:
    async with store(start("--appendfsync", "everysec")) as (jobs, _, _, redis):
        first = asyncio.create_task(jobs.create_job("a", 1))
        while not await waits(redis):  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
        await jobs.create_job("b", 1)
        assert first.done()
        assert await waits(redis) == 2
