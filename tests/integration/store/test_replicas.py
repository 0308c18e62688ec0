"""Changes that wait for replicas, on a master with two replicas."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from service.domain import errors
from service.store import channel
from service.store.auto_pipeline import AutoPipeline
from service.store.calls import AMBIGUOUS_ERRORS
from service.store.partition import PARTITION
from service.store.pool import create_pool, shared
from service.store.redis_errors import map_error
from service.store.replicas import ReplicasMissing, ReplicatedPipeline, Wait
from tests.helpers.redis_replicas import Replication, master_with_replicas, stopped

#: A change that recognises its repetition, as the scripts of the service do: it then writes nothing.
CHANGE = """
if redis.call('SET', KEYS[1], 1, 'NX') then
    redis.call('INCR', 'changes')
end
return redis.call('GET', 'changes')
"""
CHANGE_SHA = sha1(CHANGE.encode()).hexdigest()
#: Milliseconds: long for what a test ends itself.
LONG_WAIT_MS = 60_000


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Replication]:
    with master_with_replicas(tmp_path) as running:
        load_script(running)
        yield running


def load_script(servers: Replication) -> None:
    with contextlib.closing(sync_redis.Redis.from_url(servers.url)) as client:
        client.script_load(CHANGE)


@pytest.fixture
async def connect(servers: Replication) -> AsyncIterator[Callable[..., AutoPipeline]]:
    """A function that returns a pipeline on a connection of its own."""
    async with contextlib.AsyncExitStack() as opened:

        def new(wait: Wait | None = None, url: str = servers.url) -> AutoPipeline:
            pool = create_pool(url)
            pipeline = AutoPipeline(pool) if wait is None else ReplicatedPipeline(pool, wait)
            opened.push_async_callback(pool.disconnect)
            opened.push_async_callback(pipeline.aclose)
            return pipeline

        yield new


def change(pipeline: AutoPipeline, key: str) -> Any:
    return pipeline.ask(("EVALSHA", CHANGE_SHA, 2, key, PARTITION.root))


async def blocked_clients(pipeline: AutoPipeline) -> int:
    [info] = await pipeline.ask(("INFO", "clients"))
    return int(info.split(b"blocked_clients:")[1].split()[0])


async def until_one_waits(pipeline: AutoPipeline) -> None:
    async with asyncio.timeout(30):
        while not await blocked_clients(pipeline):  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)


async def test_a_change_is_acknowledged_when_enough_replicas_have_it(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    with stopped(servers.replicas[0]):
        assert await change(connect(Wait(1, LONG_WAIT_MS)), "a") == [b"1"]
    async with Redis.from_url(f"redis://127.0.0.1:{servers.replicas[1].port}") as replica:
        assert await replica.get("a") == b"1"


async def test_a_change_on_too_few_replicas_fails_until_it_is_sent_again_when_they_have_it(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    short, reader = Wait(2, 100), connect()
    with stopped(servers.replicas[0]):
        with pytest.raises(ReplicasMissing, match="applied, but 1 of 2 replicas have it"):
            await change(connect(short), "a")
        assert await reader.ask(("GET", "changes")) == [b"1"]
        # A repetition writes nothing, but waits for the change; on a connection that has written nothing, too.
        with pytest.raises(ReplicasMissing):
            await change(connect(short), "a")
    assert await change(connect(Wait(2, LONG_WAIT_MS)), "a") == [b"1"]


async def test_a_repetition_on_the_connection_of_another_change_waits_for_its_own(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    used = connect(Wait(1, 100))
    assert await change(used, "a") == [b"1"]
    with stopped(*servers.replicas):
        with pytest.raises(ReplicasMissing):
            await change(connect(Wait(1, 100)), "b")
        with pytest.raises(ReplicasMissing):
            await change(used, "b")


async def test_a_change_at_the_memory_limit_waits_for_replicas(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    await connect().ask(("CONFIG", "SET", "maxmemory", 1))
    possible = "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], 1) return 1"
    pipeline = connect(Wait(2, LONG_WAIT_MS))
    [sha] = await pipeline.ask(("SCRIPT", "LOAD", possible))
    assert await pipeline.ask(("EVALSHA", sha, 2, "a", PARTITION.root)) == [1]


async def test_a_replica_that_was_killed_counts_again_after_its_start(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    for replica in servers.replicas:
        replica.kill()
    pipeline = connect(Wait(1, 100))
    with pytest.raises(ReplicasMissing, match="0 of 1 replicas"):
        await change(pipeline, "a")
    servers.replicas[0].start()
    assert await change(connect(Wait(1, LONG_WAIT_MS)), "a") == [b"1"]


async def test_concurrent_changes_share_one_wait_and_get_their_own_replies(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    pipeline, reader, callers, changes = connect(Wait(2, LONG_WAIT_MS)), connect(), 50, 20

    async def repeat(number: int) -> None:
        for step in range(changes):
            assert await pipeline.ask(("INCR", f"n{number}"), ("STRLEN", f"n{number}")) == [
                step + 1,
                len(f"{step + 1}"),
            ]

    await asyncio.gather(*map(repeat, range(callers)))
    [stats] = await reader.ask(("INFO", "commandstats"))
    waits = int(stats.split(b"cmdstat_wait:calls=")[1].split(b",")[0])
    assert 1 <= waits <= callers * changes / 10


async def test_reads_of_the_same_pool_are_answered_while_changes_wait(servers: Replication) -> None:
    pool = create_pool(servers.url, max_connections=3)
    changes, reads = shared(ReplicatedPipeline, pool, Wait(1, LONG_WAIT_MS)), shared(AutoPipeline, pool)
    with stopped(*servers.replicas):
        waiting = asyncio.create_task(change(changes, "a"))
        await until_one_waits(reads)
        assert await reads.ask(("GET", "changes")) == [b"1"]
        assert not waiting.done()
    assert await waiting == [b"1"]
    for pipeline in (changes, reads):
        await pipeline.aclose()
    await pool.disconnect()


async def test_an_error_reply_is_not_a_change_that_replicas_miss(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    pipeline = connect(Wait(1, 100))
    with stopped(*servers.replicas):
        asked = (pipeline.ask(("SET", "a", 1)), pipeline.ask(("EVALSHA", "0" * 40, 0)), pipeline.ask(("HGET", "b")))
        outcomes: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
    missing, no_script, wrong = outcomes
    assert isinstance(missing, ReplicasMissing)
    assert map_error(missing) is errors.StoreTimeout
    assert isinstance(no_script, list)
    assert isinstance(no_script[0], redis_errors.NoScriptError)
    assert isinstance(wrong, list)
    assert "wrong number of arguments" in str(wrong[0])


async def test_a_wait_that_redis_ends_late_does_not_close_the_connection(
    servers: Replication, connect: Callable[..., AutoPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "REPLY_TIMEOUT", 0.5)
    pipeline = connect(Wait(1, 1000))
    [before] = await pipeline.ask(("CLIENT", "ID"))
    with stopped(*servers.replicas), pytest.raises(ReplicasMissing):
        await change(pipeline, "a")
    assert await pipeline.ask(("CLIENT", "ID")) == [before]


async def test_the_callers_that_are_left_get_their_own_replies_after_others_were_cancelled(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    pipeline, reader = connect(Wait(1, LONG_WAIT_MS)), connect()
    with stopped(*servers.replicas):
        asked = [asyncio.create_task(pipeline.ask(("SET", f"n{number}", 1), ("ECHO", number))) for number in range(9)]
        await until_one_waits(reader)
        for task in asked[::2]:
            task.cancel()
        await asyncio.gather(*asked[::2], return_exceptions=True)
    assert await asyncio.gather(*asked[1::2]) == [[b"OK", b"%d" % number] for number in range(1, 9, 2)]
    assert await reader.ask(("DBSIZE",)) == [9], "commands that were sent have run"


async def test_a_change_whose_connection_is_lost_during_the_wait_has_an_unknown_outcome(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    pipeline, reader = connect(Wait(1, LONG_WAIT_MS)), connect()
    [number] = await pipeline.ask(("CLIENT", "ID"))
    with stopped(*servers.replicas):
        waiting = asyncio.create_task(change(pipeline, "a"))
        await until_one_waits(reader)
        await reader.ask(("CLIENT", "KILL", "ID", number))
        with pytest.raises(redis_errors.ConnectionError) as raised:
            await waiting
    assert map_error(raised.value) in AMBIGUOUS_ERRORS
    assert await change(pipeline, "a") == [b"1"]


async def test_a_change_on_a_master_that_becomes_a_replica_during_the_wait_has_an_unknown_outcome(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    pipeline, reader = connect(Wait(1, LONG_WAIT_MS)), connect()
    with stopped(*servers.replicas):
        waiting = asyncio.create_task(change(pipeline, "a"))
        await until_one_waits(reader)
        await reader.ask(("REPLICAOF", "127.0.0.1", servers.replicas[0].port))
        with pytest.raises(redis_errors.ConnectionError, match="UNBLOCKED") as raised:
            await waiting
    assert map_error(raised.value) in AMBIGUOUS_ERRORS


async def test_a_replica_does_not_acknowledge(servers: Replication, connect: Callable[..., AutoPipeline]) -> None:
    pipeline = connect(Wait(1), f"redis://127.0.0.1:{servers.replicas[0].port}/0")
    for command in (("GET", "a"), ("SET", "a", 1)):
        [refused] = await pipeline.ask(command)
        assert isinstance(refused, redis_errors.ReadOnlyError)


async def test_a_redis_that_refuses_to_wait_is_named(
    servers: Replication, connect: Callable[..., AutoPipeline]
) -> None:
    await connect().ask(("ACL", "SETUSER", "restricted", "on", "nopass", "~*", "+@all", "-wait"))
    [refused] = await change(connect(Wait(1), f"redis://restricted:any@127.0.0.1:{servers.master.port}/0"), "a")
    assert isinstance(refused, redis_errors.NoPermissionError)
    assert "'wait'" in str(refused)


async def test_a_redis_without_the_command_is_named(tmp_path: Path, connect: Callable[..., AutoPipeline]) -> None:
    with master_with_replicas(tmp_path / "renamed", 0, "--rename-command", "WAIT", "GONE") as renamed:
        load_script(renamed)
        [refused] = await change(connect(Wait(1), renamed.url), "a")
        assert "unknown command 'WAIT'" in str(refused)
        assert map_error(refused) is errors.StoreAccessDenied
