import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hiredis import pack_command
from redis import exceptions as redis_errors

from service.domain.errors import Overloaded
from service.store import auto_pipeline
from service.store.auto_pipeline import AutoPipeline, pipeline_of

Replies = Callable[[bytes], Any]


class Line:
    """A connection whose reply to a command is `replies(command)`; an exception is raised."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.sent: list[list[bytes]] = []
        self.unread: list[bytes] = []
        self.is_broken = False
        self.wait: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self._parser = self
        self._reader = asyncio.StreamReader()

    async def send_packed_command(self, parts: list[bytes]) -> None:
        self.sent.append(parts)
        self.unread += parts
        await self.wait()

    async def read_response(self, **_: Any) -> Any:
        reply = self.replies(self.unread.pop(0))
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def disconnect(self, nowait: bool = False) -> None:
        self.is_broken = True


class Pool:
    """A pool that creates a connection for each request and keeps it."""

    max_connections = 6

    def __init__(self, replies: Replies = lambda command: command) -> None:
        self.replies = replies
        self.lines: list[Line] = []
        self.out = self.most_out = 0
        self.made: Callable[[Line], None] = lambda line: None

    async def get_connection(self) -> Line:
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        self.lines.append(line := Line(self.replies))
        self.made(line)
        return line

    async def release(self, line: Line) -> None:
        await asyncio.sleep(0)
        self.out -= 1

    @property
    def sent(self) -> list[list[bytes]]:
        return [parts for line in self.lines for parts in line.sent]


def packed(command: tuple[Any, ...]) -> bytes:
    return bytes(pack_command(command))


async def all_released(pool: Pool) -> bool:
    await asyncio.sleep(2 * auto_pipeline.LINGER)
    return pool.out == 0


def pipeline(pool: Pool) -> AutoPipeline:
    return AutoPipeline(pool)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
async def _bounded(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(auto_pipeline, "LINGER", 0.01)
    async with asyncio.timeout(5):
        yield


async def test_commands_of_one_tick_are_sent_together_and_in_order() -> None:
    pool = Pool()
    line = pipeline(pool)
    answers = await asyncio.gather(*(line.ask(("GET", str(number)), ("TTL", str(number))) for number in range(50)))
    [sent] = pool.sent
    assert sent == [packed((verb, str(number))) for number in range(50) for verb in ("GET", "TTL")]
    assert answers == [sent[2 * number : 2 * number + 2] for number in range(50)]
    assert await all_released(pool)


@pytest.mark.parametrize(
    "error", [redis_errors.ResponseError("WRONGTYPE x"), redis_errors.BusyLoadingError("loading")], ids=repr
)
async def test_an_error_reply_goes_only_to_its_caller(error: Exception) -> None:
    pool = Pool(lambda command: error if b"bad" in command else command)
    line = pipeline(pool)
    good, bad, more = await asyncio.gather(line.ask(("GET", "a")), line.ask(("GET", "bad")), line.ask(("GET", "b")))
    assert (good, bad, more) == ([packed(("GET", "a"))], [error], [packed(("GET", "b"))])
    assert not pool.lines[0].is_broken


@pytest.mark.parametrize(
    "error",
    [redis_errors.ConnectionError("reset"), redis_errors.InvalidResponse("?"), OSError("gone"), RuntimeError("closed")],
    ids=repr,
)
async def test_a_broken_connection_fails_its_unanswered_callers(error: Exception) -> None:
    pool = Pool(lambda command: error if b"bad" in command else command)
    line = pipeline(pool)
    asked = [line.ask(("GET", name)) for name in ("a", "bad", "b")]
    first, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert first == [packed(("GET", "a"))]
    assert others == [error, error]
    assert pool.lines[0].is_broken
    assert await line.ask(("GET", "c")) == [packed(("GET", "c"))]
    assert await all_released(pool)


async def test_a_failed_connect_fails_the_callers_that_wait_for_it() -> None:
    pool, error = Pool(), redis_errors.ConnectionError("refused")

    def refuse(line: Line) -> None:
        pool.out -= 1
        raise error

    pool.made = refuse
    line = pipeline(pool)
    answers: list[Any] = await asyncio.gather(line.ask(("A",)), line.ask(("B",)), return_exceptions=True)
    assert answers == [error, error]
    pool.made = lambda line: None
    assert await line.ask(("C",)) == [packed(("C",))]


async def test_commands_of_a_caller_cancelled_before_sending_are_dropped() -> None:
    pool = Pool()
    line = pipeline(pool)
    leaving, staying = asyncio.create_task(line.ask(("A",))), asyncio.create_task(line.ask(("B",)))
    asyncio.get_running_loop().call_soon(leaving.cancel)
    assert await staying == [packed(("B",))]
    assert pool.sent == [[packed(("B",))]]


async def test_a_caller_cancelled_after_sending_affects_no_other() -> None:
    pool = Pool()
    line = pipeline(pool)

    def tell(one: Line) -> None:
        one.wait = wait

    async def wait() -> None:
        leaving.cancel()

    pool.made = tell
    leaving = asyncio.create_task(line.ask(("A",), ("A",)))
    staying = asyncio.create_task(line.ask(("B",)))
    assert await staying == [packed(("B",))]
    assert leaving.cancelled()
    assert not pool.lines[0].is_broken


async def test_a_silent_connection_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "PATIENCE", 0.01)
    pool = Pool()

    def silence(line: Line) -> None:
        line.wait = asyncio.Event().wait  # type: ignore[assignment]

    pool.made = silence
    line = pipeline(pool)
    with pytest.raises(TimeoutError):
        await line.ask(("A",))
    assert pool.lines[0].is_broken
    pool.made = lambda line: None
    assert await line.ask(("B",)) == [packed(("B",))]


async def test_a_swallowed_cancellation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "PATIENCE", 0.01)
    monkeypatch.setattr(auto_pipeline, "SECOND_BELL", 0.01)
    pool = Pool()

    async def sleep_on() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    def silence(line: Line) -> None:
        line.wait = sleep_on

    pool.made = silence
    with pytest.raises(TimeoutError):
        await pipeline(pool).ask(("A",))


async def test_the_number_of_connections_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "BATCH", 3)
    pool = Pool()
    line = pipeline(pool)

    async def ask(number: int) -> list[Any]:
        for _ in range(number % 7):
            await asyncio.sleep(0)
        return await line.ask(("GET", str(number)))

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert answers == [[packed(("GET", str(number)))] for number in range(100)]
    assert pool.most_out == pool.max_connections - 2
    assert max(len(parts) for parts in pool.sent) == 3


async def test_no_call_is_left_waiting() -> None:
    """Also if it arrives when the last connection task finds no further call."""
    pool, source = Pool(), random.Random(7)
    pool.max_connections = 3
    line = pipeline(pool)

    async def ask() -> None:
        for _ in range(200):
            assert await line.ask(("A",)) == [packed(("A",))]
            for _ in range(source.randrange(4)):
                await asyncio.sleep(0)

    await asyncio.gather(ask(), ask())


async def test_calls_beyond_the_queue_limit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "MOST_WAITING", 2)
    line = pipeline(Pool())
    answers = await asyncio.gather(*(line.ask((name,)) for name in "ABC"), return_exceptions=True)
    assert answers[:2] == [[packed(("A",))], [packed(("B",))]]
    assert isinstance(answers[2], Overloaded)


async def test_a_command_that_cannot_be_encoded_fails_only_its_caller() -> None:
    line = pipeline(Pool())
    answers: list[Any] = await asyncio.gather(line.ask(("A",)), line.ask(("B", object())), return_exceptions=True)
    assert answers[0] == [packed(("A",))]
    assert isinstance(answers[1], TypeError)


async def test_calls_fail_when_their_connection_task_is_cancelled() -> None:
    pool = Pool()

    def silence(line: Line) -> None:
        line.wait = asyncio.Event().wait  # type: ignore[assignment]

    pool.made = silence
    line = pipeline(pool)
    asked = asyncio.create_task(line.ask(("A",)))
    assert not await all_released(pool)
    [task] = line._lines
    assert task is not None
    task.cancel()
    with pytest.raises(redis_errors.ConnectionError):
        await asked


async def test_one_idle_connection_is_kept_for_a_while() -> None:
    pool = Pool()
    line = pipeline(pool)
    for name in "ABC":
        assert await line.ask((name,)) == [packed((name,))]
        await asyncio.sleep(0)
    assert pool.sent == [[packed((name,))] for name in "ABC"]
    assert len(pool.lines) == 1

    both = asyncio.Event()
    pool.lines[0].wait = both.wait  # type: ignore[assignment]
    busy = asyncio.create_task(line.ask(("D",)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert await line.ask(("E",)) == [packed(("E",))]
    both.set()
    await busy
    for _ in range(20):
        await asyncio.sleep(0)
    assert (pool.most_out, pool.out) == (2, 1)
    assert await all_released(pool)


async def test_idle_connections_do_not_exceed_the_limit() -> None:
    pool, source = Pool(), random.Random(7)
    pool.max_connections = 4
    pool.made = lambda line: setattr(line, "wait", lambda: asyncio.sleep(source.choice((0, 0, 0.001))))
    line = pipeline(pool)

    async def ask() -> None:
        for _ in range(60):
            assert await line.ask(("A",)) == [packed(("A",))]
            for _ in range(source.randrange(9)):
                await asyncio.sleep(0)

    await asyncio.gather(*(ask() for _ in range(64)))
    assert pool.most_out == 2


async def test_a_small_pool_keeps_no_idle_connection() -> None:
    pool = Pool()
    pool.max_connections = 2
    await pipeline(pool).ask(("A",))
    for _ in range(10):
        await asyncio.sleep(0)
    assert pool.out == 0


async def test_a_busy_connection_is_returned_to_the_pool_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto_pipeline, "TERM", 0.01)
    pool = Pool()
    line = pipeline(pool)
    until = time.monotonic() + 5  # a busy machine may give it a turn now and then
    while len(pool.lines) <= 3 and time.monotonic() < until:
        await line.ask(("A",))
    assert len(pool.lines) > 3
    assert pool.most_out == 1


TWO_LOOPS = """
import asyncio
from tests.unit.store.test_auto_pipeline import Pool, packed, pipeline

line = pipeline(Pool())
for _ in range(2):
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(asyncio.wait_for(line.ask(("A",)), 1)) == [packed(("A",))]
    loop.close()  # while the task of the idle connection is in it
"""


async def test_a_pool_survives_the_event_loop_of_its_idle_connection() -> None:
    """In a process of its own, because asyncio warns about such a loop."""
    command = [sys.executable, "-c", TWO_LOOPS]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=20)


async def test_an_idle_connection_that_was_closed_is_not_used() -> None:
    pool = Pool()
    line = pipeline(pool)
    await line.ask(("A",))
    await asyncio.sleep(0)
    pool.lines[0]._reader.feed_eof()
    assert await line.ask(("B",)) == [packed(("B",))]
    assert [one.sent for one in pool.lines] == [[[packed(("A",))]], [[packed(("B",))]]]


async def test_a_late_reply_fails_only_its_caller() -> None:
    pool = Pool()

    def slow(line: Line) -> None:
        line.wait = lambda: asyncio.sleep(0.05)

    pool.made = slow
    line = pipeline(pool)
    patient = asyncio.create_task(line.ask(("B",)))
    with pytest.raises(TimeoutError):
        await line.ask(("A",), until=time.monotonic() + 0.01)
    assert await patient == [packed(("B",))]
    assert not pool.lines[0].is_broken


async def test_replies_are_delivered_in_small_groups() -> None:
    pool = Pool()
    line = pipeline(pool)
    seen: list[int] = []

    async def ask() -> None:
        await line.ask(("A",))
        seen.append(len(pool.lines[0].unread))

    await asyncio.gather(*(ask() for _ in range(2 * auto_pipeline.SHARE)))
    assert max(seen) == auto_pipeline.SHARE


async def test_a_pool_has_one_pipeline() -> None:
    first, second = Pool(), Pool()
    assert pipeline_of(first) is pipeline_of(first) is not pipeline_of(second)  # type: ignore[arg-type]


async def test_closing_fails_waiting_calls_and_sends_nothing_more() -> None:
    pool = Pool()

    def silence(line: Line) -> None:
        line.wait = asyncio.Event().wait  # type: ignore[assignment]

    pool.made = silence
    pool.max_connections = 3
    line = pipeline(pool)
    under_way = asyncio.create_task(line.ask(("A",)))
    assert not await all_released(pool)
    waiting = asyncio.create_task(line.ask(("B",)))
    await asyncio.sleep(0)

    await line.aclose()

    for asked in (under_way, waiting):
        with pytest.raises(redis_errors.ConnectionError):
            await asked
    assert await all_released(pool)
    assert pool.sent == [[packed(("A",))]]
    assert pool.lines[0].is_broken


async def test_a_reply_that_redis_py_cannot_parse_is_a_protocol_error() -> None:
    pool: Any = Pool(lambda _: IndexError("a redirection without an address"))
    with pytest.raises(redis_errors.InvalidResponse, match="IndexError: a redirection"):
        await AutoPipeline(pool).ask(("GET", "a"))
