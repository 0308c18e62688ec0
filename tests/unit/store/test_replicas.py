"""The batches of a pipeline that waits for replicas, on a server of the test."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis import exceptions as redis_errors

from service.domain import errors
from service.store.auto_pipeline import CHECK_INTERVAL, MIN_POOL_SIZE, AutoPipeline
from service.store.calls import FIRST_ATTEMPT_TIMEOUT, RETRY_DELAY
from service.store.channel import MAX_IN_FLIGHT, REPLIES_PER_TICK, WRITE_BYTES
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.observer import NullObserver
from service.store.pool import create_pool, shared
from service.store.replicas import WAIT_TIMEOUT_MS, ReplicasMissing, ReplicatedPipeline, Wait
from tests.unit.store.test_auto_pipeline import LONG, Pool, echo, hold, no_reply, release_replies, until

ROOTS = ("{p0}:", "{p1}:", "{p2}:")
#: Seconds by which Redis may end a wait late, because it looks at its time limits ten times a second.
LATENESS = 0.1

Command = list[bytes]


@pytest.fixture(autouse=True)
async def _bounded() -> Any:
    async with asyncio.timeout(LONG):
        yield


def server(
    replicas: int = 1, marker: Callable[[bytes], bytes] = lambda _: b"$-1\r\n", wait: bytes | None = None
) -> Callable[[Command], bytes]:
    """Return the replies of a Redis whose changes reach `replicas` replicas; `marker` replies for a partition."""

    def reply(command: Command) -> bytes:
        if command[0] == b"EVAL":
            return marker(command[3])
        if command[0] == b"WAIT":
            return b":%d\r\n" % replicas if wait is None else wait
        return command[-1] if command[-1].startswith(b"-") else echo(command)

    return reply


def pipeline(pool: Pool, replicas: int = 1) -> ReplicatedPipeline:
    return ReplicatedPipeline(pool, Wait(replicas))  # type: ignore[arg-type]


def script(line: AutoPipeline, root: str, *args: object) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(line.ask(("EVALSHA", "sha", 2, f"{root}job:a", root, *args)))


def names(batch: list[Command]) -> list[bytes]:
    return [command[0] for command in batch]


async def test_a_batch_ends_with_one_marker_in_each_of_its_partitions_and_one_wait() -> None:
    pool = Pool(server())
    line = pipeline(pool)
    replies = await asyncio.gather(*(script(line, ROOTS[number % 2], number) for number in range(6)))
    assert replies == [[b"%d" % number] for number in range(6)]
    await script(line, ROOTS[2], 6)
    first, second = pool.writes
    assert names(first) == [*[b"EVALSHA"] * 6, b"EVAL", b"EVAL", b"WAIT"]
    assert {command[3] for command in first[6:8]} == {b"{p0}:fsync", b"{p1}:fsync"}
    assert first[-1] == [b"WAIT", b"1", b"%d" % WAIT_TIMEOUT_MS]
    assert names(second) == [b"EVALSHA", b"EVAL", b"WAIT"]
    assert second[1][3] == b"{p2}:fsync"


async def test_calls_that_arrive_during_a_wait_share_the_next_one() -> None:
    pool = Pool(server())
    pool.prepare = hold
    line = pipeline(pool)
    first = script(line, ROOTS[0], 1)
    await until(lambda: pool.writes)
    later = []
    for number in range(3):
        later.append(script(line, ROOTS[0], number))
        await asyncio.sleep(0)
    assert len(pool.writes) == 1
    release_replies(pool.connections[0])
    assert await first == [b"1"]
    assert await asyncio.gather(*later) == [[b"0"], [b"1"], [b"2"]]
    assert [names(batch).count(b"EVALSHA") for batch in pool.writes] == [1, 3]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_no_reply_is_given_before_that_of_wait_however_they_are_cut_into_packets(size: int) -> None:
    pool = Pool(server())
    pool.prepare = hold
    line = pipeline(pool)
    asked = [script(line, ROOTS[0], number) for number in range(2 * REPLIES_PER_TICK)]
    await until(lambda: pool.writes)
    transport = pool.connections[0].transport
    data = b"".join(transport.held)
    for start in range(0, len(data) - 1, size):
        transport.protocol.data_received(data[start : min(start + size, len(data) - 1)])
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in asked)
    transport.protocol.data_received(data[-1:])
    assert await asyncio.gather(*asked) == [[b"%d" % number] for number in range(2 * REPLIES_PER_TICK)]


async def test_all_waiting_calls_are_in_the_next_batch_up_to_a_limit() -> None:
    pool = Pool(server())
    line = pipeline(pool)
    await asyncio.gather(*(script(line, root, "x" * WRITE_BYTES) for root in ROOTS))
    assert len(pool.writes) == 1, "large calls share a wait"
    asked = [script(line, ROOTS[0], number) for number in range(MAX_IN_FLIGHT)]
    await asyncio.gather(*asked, script(line, ROOTS[1], 0))
    _, full, rest = pool.writes
    assert names(full).count(b"EVALSHA") == MAX_IN_FLIGHT
    assert b"{p1}:fsync" in [command[3] for command in rest if command[0] == b"EVAL"]


async def test_too_few_replicas_fail_every_call_with_a_change_and_leave_error_replies() -> None:
    pool = Pool(server(replicas=1))
    line = pipeline(pool, replicas=2)
    changed, refused, both = (
        script(line, ROOTS[0], 1),
        script(line, ROOTS[0], "-NOSCRIPT none\r\n"),
        asyncio.create_task(line.ask(("SET", "a", 1), ("SET", "b", "-WRONGTYPE x\r\n"))),
    )
    for task in (changed, both):
        with pytest.raises(ReplicasMissing, match="applied, but 1 of 2 replicas"):
            await task
    [reply] = await refused
    assert isinstance(reply, redis_errors.NoScriptError)


async def test_a_partition_that_has_moved_does_not_concern_the_calls_of_others() -> None:
    pool = Pool(server(marker=lambda key: b"-MOVED 1 h:1\r\n" if key.startswith(b"{p1}") else b"$-1\r\n"))
    line = pipeline(pool)
    stays, moved = script(line, ROOTS[0], 1), script(line, ROOTS[1], "-MOVED 1 h:1\r\n")
    assert await stays == [b"1"]
    assert isinstance((await moved)[0], redis_errors.MovedError)


@pytest.mark.parametrize(
    ("marker", "wait", "kind"),
    [
        (b"-MOVED 1 h:1\r\n", b":9\r\n", redis_errors.MovedError),
        (b"-NOPERM no permissions to run the 'eval' command\r\n", b":9\r\n", redis_errors.NoPermissionError),
        (b"$-1\r\n", b"-NOPERM no permissions to run the 'wait' command\r\n", redis_errors.NoPermissionError),
        (b"$-1\r\n", b"-ERR WAIT cannot be used with replica instances.\r\n", redis_errors.ReadOnlyError),
    ],
)
async def test_without_a_marker_or_a_wait_the_error_is_the_reply(marker: bytes, wait: bytes, kind: type) -> None:
    pool = Pool(server(marker=lambda _: marker, wait=wait))
    line = pipeline(pool)
    replies = await asyncio.gather(script(line, ROOTS[0], 1), line.ask(("GET", 1), ("GET", 2)))
    assert [[type(reply) for reply in own] for own in replies] == [[kind], [kind, kind]]


async def test_a_call_that_is_late_fails_alone_during_a_wait() -> None:
    pool = Pool(server())
    pool.prepare = hold
    line = pipeline(pool)
    patient = script(line, ROOTS[0], 1)
    with pytest.raises(TimeoutError):
        await line.ask(("EVALSHA", "sha", 1, ROOTS[0]), until=0)
    await until(lambda: pool.writes)
    release_replies(pool.connections[0])
    assert await patient == [b"1"]


async def test_closing_fails_the_calls_that_wait_for_replicas() -> None:
    pool = Pool(lambda command: no_reply(command) if command[0] == b"WAIT" else server()(command))
    line = pipeline(pool)
    asked = script(line, ROOTS[0], 1)
    await until(lambda: pool.writes)
    await line.aclose()
    with pytest.raises(redis_errors.ConnectionError):
        await asked


async def test_two_waits_fit_into_an_attempt_and_four_into_a_call() -> None:
    two = 2 * (WAIT_TIMEOUT_MS / 1000 + LATENESS)
    assert two + CHECK_INTERVAL < FIRST_ATTEMPT_TIMEOUT
    assert two + RETRY_DELAY + two + CHECK_INTERVAL < REQUEST_TIMEOUT


async def test_a_pool_has_one_pipeline_for_reads_and_one_for_each_wait() -> None:
    pool = create_pool("redis://127.0.0.1:1/0", max_connections=MIN_POOL_SIZE)
    reads, changes = shared(AutoPipeline, pool), shared(ReplicatedPipeline, pool, Wait(1))
    assert shared(AutoPipeline, pool) is reads
    assert shared(ReplicatedPipeline, pool, Wait(1)) is changes
    assert shared(ReplicatedPipeline, pool, Wait(2)) is not changes


async def test_a_call_that_too_few_replicas_acknowledge_is_a_timeout_and_is_counted_once() -> None:
    counted = []

    class Counting(NullObserver):
        def on_replicas_missing(self) -> None:
            counted.append(1)

    attempts = []

    async def command(_: float) -> None:
        attempts.append(1)
        raise ReplicasMissing("the change is applied, but 0 of 1 replicas have it")

    with pytest.raises(errors.StoreTimeout, match="0 of 1 replicas"):
        await StoreClient(create_pool("redis://127.0.0.1:1/0"), Counting()).call("create", command)
    assert (len(attempts), len(counted)) == (2, 1)
