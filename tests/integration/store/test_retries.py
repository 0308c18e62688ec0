"""Retries of requests whose first reply was lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from service.domain.errors import (
    IllegalTransition,
    StoreAccessDenied,
    StoreLoading,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
    StoreUnreachable,
)
from service.domain.states import Status
from service.store import client
from service.store.jobs import JobStateManager
from service.store.pool import create_pool
from tests.helpers.partitions import PARTITIONS, connect
from tests.helpers.polling import free_port
from tests.helpers.redis_servers import RedisServer
from tests.helpers.tcp_proxy import Fault, FaultProxy

pytestmark = pytest.mark.standalone_only("a proxy in front of one Redis")

LIMIT = 3.5


@pytest.fixture
async def proxy(shared_redis: RedisServer, redis: Redis) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(shared_redis.port).open() as proxy:
        yield proxy


@pytest.fixture
async def manager(proxy: FaultProxy) -> AsyncIterator[JobStateManager]:
    """A manager that connects through the proxy, with its scripts loaded."""
    pool = create_pool(f"redis://127.0.0.1:{proxy.port}/1")
    manager = JobStateManager(connect(pool), ttl=timedelta(days=7))
    await manager.create_job("warm", 1)
    await manager.update_job_status("warm", "failed")
    await manager.delete_job("warm")
    yield manager
    await pool.disconnect()


@pytest.fixture(params=[False, True], ids=["closed", "silent"])
def loss(request: pytest.FixtureRequest, proxy: FaultProxy) -> FaultProxy:
    """The proxy, which loses the next reply: it closes the connection, or delivers nothing."""
    proxy.in_silence = request.param
    return proxy


async def events(redis: Redis, job_id: str) -> list[tuple[str, str]]:
    found = [event for _, event in await redis.xrange(PARTITIONS.of(job_id).events)]
    return [(e[b"event"].decode(), e[b"status"].decode()) for e in found if e[b"job_id"] == job_id.encode()]


async def test_a_creation_whose_reply_was_lost_happens_once(
    manager: JobStateManager, redis: Redis, loss: FaultProxy
) -> None:
    loss.lose_replies, loss.scripts_seen = 1, 0

    creation = await manager.create_job("j", {"a": 1}, slate_id="s")

    assert loss.scripts_seen == 2
    assert not creation.replayed
    assert creation.job.revision == 1
    assert await events(redis, "j") == [("changed", "pending")]


async def test_a_retried_replay_is_still_a_replay(manager: JobStateManager, loss: FaultProxy) -> None:
    await manager.create_job("j", {"a": 1})
    loss.lose_replies = 1

    assert (await manager.create_job("j", {"a": 1})).replayed


async def test_a_change_whose_reply_was_lost_happens_once(
    manager: JobStateManager, redis: Redis, loss: FaultProxy
) -> None:
    await manager.create_job("j", 1)
    loss.lose_replies, loss.scripts_seen = 1, 0

    job = await manager.update_job_status("j", "running")

    assert loss.scripts_seen == 2
    assert (job.status, job.revision, job.attempt) == (Status.RUNNING, 2, 1)
    assert await events(redis, "j") == [("changed", "pending"), ("changed", "running")]


async def test_a_cancellation_whose_reply_was_lost_happens_once(
    manager: JobStateManager, redis: Redis, loss: FaultProxy
) -> None:
    await manager.create_job("j", 1)
    loss.lose_replies = 1

    assert (await manager.cancel_job("j")).revision == 2
    assert await events(redis, "j") == [("changed", "pending"), ("changed", "cancelled")]


async def test_a_deletion_whose_reply_was_lost_succeeds(
    manager: JobStateManager, redis: Redis, loss: FaultProxy
) -> None:
    await manager.create_job("j", 1)
    await manager.cancel_job("j")
    loss.lose_replies, loss.scripts_seen = 1, 0

    await manager.delete_job("j")

    assert loss.scripts_seen == 2
    assert [event for event, _ in await events(redis, "j")] == ["changed", "changed", "deleted"]


async def test_after_two_lost_replies_the_client_may_retry_with_its_key(
    manager: JobStateManager, redis: Redis, loss: FaultProxy
) -> None:
    await manager.create_job("j", 1)
    loss.lose_replies = 2
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await manager.update_job_status("j", "running", change_id="k")
    assert time.monotonic() - started < LIMIT

    job = await manager.update_job_status("j", "running", change_id="k")

    assert (job.revision, job.attempt) == (2, 1)
    assert await events(redis, "j") == [("changed", "pending"), ("changed", "running")]


async def test_a_rejection_whose_reply_was_lost_is_repeated(manager: JobStateManager, proxy: FaultProxy) -> None:
    await manager.create_job("j", 1)
    proxy.lose_replies = 1

    with pytest.raises(IllegalTransition):
        await manager.update_job_status("j", "completed")


async def test_a_dead_connection_times_out(manager: JobStateManager, proxy: FaultProxy) -> None:
    proxy.inject(Fault.SILENT)
    started = time.monotonic()

    with pytest.raises(StoreTimeout):
        await manager.get_job("j")

    assert time.monotonic() - started < LIMIT
    await proxy.heal()
    assert await manager.get_job("j") is None


async def test_waiting_for_a_connection_counts_towards_the_timeout(proxy: FaultProxy) -> None:
    pool = create_pool(f"redis://127.0.0.1:{proxy.port}/1", max_connections=2)
    manager = JobStateManager(connect(pool), ttl=timedelta(days=7))
    await manager.ping()
    proxy.inject(Fault.SILENT)
    started = time.monotonic()

    answers = await asyncio.gather(*(manager.get_job("j") for _ in range(20)), return_exceptions=True)

    assert time.monotonic() - started < LIMIT
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    await proxy.heal()
    assert await manager.get_job("j") is None
    await pool.disconnect()


async def test_a_refused_connection_fails_at_once() -> None:
    pool = create_pool(f"redis://127.0.0.1:{free_port()}/0")
    started = time.monotonic()

    with pytest.raises(StoreUnreachable):
        await JobStateManager(connect(pool), ttl=timedelta(days=7)).ping()

    assert time.monotonic() - started < client.FIRST_ATTEMPT_TIMEOUT
    await pool.disconnect()


async def test_the_reply_to_a_cancelled_call_does_not_go_to_the_next(jobs: JobStateManager, redis: Redis) -> None:
    for number in range(50):
        await jobs.create_job(f"j{number}", number)
    for number in range(49):
        task = asyncio.create_task(jobs.get_job(f"j{number}"))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        job = await jobs.get_job(f"j{number + 1}")
        assert job
        assert job.job_id == f"j{number + 1}"
        assert job.input_params is not None
        assert bytes(job.input_params) == str(number + 1).encode()


async def test_a_script_that_arrives_after_its_deadline_does_nothing(
    manager: JobStateManager, redis: Redis, proxy: FaultProxy
) -> None:
    proxy.hold_scripts = 1
    created = await manager.create_job("j", 1)  # by the second attempt: the proxy holds the first
    await manager.cancel_job("j")
    await manager.delete_job("j")

    await proxy.deliver_held()

    assert not created.replayed
    assert proxy.late_replies == [b"DEADLINE_EXCEEDED"]
    assert await manager.get_job("j") is None
    assert [event for event, _ in await events(redis, "j")] == ["changed", "changed", "deleted"]


async def test_a_wrong_estimate_of_the_redis_clock_is_corrected(jobs: JobStateManager) -> None:
    clock = jobs._client.deployment.nodes[0].clock
    await jobs.create_job("a", 1)
    clock.set(clock.now - 3600 * 1_000_000)

    assert (await jobs.create_job("b", 1)).job.revision == 1
    assert abs(clock.now / 1e6 - time.time()) < 60


async def test_a_script_flushed_between_load_and_call_is_loaded_again(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = jobs._client.deployment.nodes[0].pipeline
    ask, failures = pipeline.ask, [NoScriptError("NOSCRIPT No matching script") for _ in range(2)]

    async def flushed_twice(*commands: tuple[Any, ...], until: float) -> list[Any]:
        return [failures.pop()] if failures and commands[0][0] == "EVALSHA" else await ask(*commands, until=until)

    monkeypatch.setattr(pipeline, "ask", flushed_twice)

    assert (await jobs.create_job("j", 1)).job.revision == 1
    assert not failures


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        (b"-NOAUTH Authentication required.", StoreAccessDenied),
        (b"-WRONGPASS invalid username-password pair", StoreAccessDenied),
        (b"-LOADING Redis is loading the dataset in memory", StoreLoading),
        (b"-MASTERDOWN Link with MASTER is down", StoreReadOnly),
        (b"-ERR max number of clients reached", StoreUnreachable),
    ],
    ids=lambda value: value.split()[0].decode() if isinstance(value, bytes) else value.__name__,
)
async def test_an_error_during_connection_setup_is_mapped(greeting: bytes, expected: type[StoreUnavailable]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(greeting + b"\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    pool = create_pool(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    with pytest.raises(expected) as error:
        await JobStateManager(connect(pool), ttl=timedelta(days=7)).get_job("j")

    assert type(error.value) is expected
    await pool.disconnect()
    server.close()
