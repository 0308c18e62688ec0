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
from service.store.auto_pipeline import AutoPipeline
from service.store.pool import shared

Replies = Callable[[bytes], Any]

#: Seconds that only a test that hangs exceeds, however busy the machine is.
LONG = 30.0


class Line:
    """A connection that answers each command with what `replies` makes of it; an exception is raised."""

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
    """Hands out new lines, and keeps them."""

    max_connections = 6

    def __init__(self, replies: Replies = lambda command: command) -> None:
        self.replies = replies
        self.lines: list[Line] = []
        self.out = self.most_out = 0
        self.used, self.unused = asyncio.Event(), asyncio.Event()
        self.made: Callable[[Line], None] = lambda line: None

    async def get_connection(self) -> Line:
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        self.lines.append(line := Line(self.replies))
        self.made(line)
        self.unused.clear()
        self.used.set()
        return line

    async def release(self, line: Line) -> None:
        await asyncio.sleep(0)
        self.out -= 1
        if not self.out:
            self.unused.set()

    @property
    def sent(self) -> list[list[bytes]]:
        return [parts for line in self.lines for parts in line.sent]


def packed(command: tuple[Any, ...]) -> bytes:
    return bytes(pack_command(command))


async def all_given_back(pool: Pool) -> bool:
    await pool.unused.wait()
    return pool.out == 0


def pipeline(pool: Pool) -> AutoPipeline:
    return AutoPipeline(pool)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
async def _bounded(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(auto_pipeline, "LINGER", 0.01)
    monkeypatch.setattr(auto_pipeline, "PATIENCE", LONG)
    async with asyncio.timeout(LONG):
        yield


async def test_what_is_asked_in_one_turn_is_sent_in_one_piece_and_in_order() -> None:
    pool = Pool()
    line = pipeline(pool)
    answers = await asyncio.gather(*(line.ask(("GET", str(number)), ("TTL", str(number))) for number in range(50)))
    [sent] = pool.sent
    assert sent == [packed((verb, str(number))) for number in range(50) for verb in ("GET", "TTL")]
    assert answers == [sent[2 * number : 2 * number + 2] for number in range(50)]
    assert await all_given_back(pool)


@pytest.mark.parametrize(
    "error", [redis_errors.ResponseError("WRONGTYPE x"), redis_errors.BusyLoadingError("loading")], ids=repr
)
async def test_an_error_is_a_reply_like_others_for_who_asked_alone(error: Exception) -> None:
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
async def test_a_connection_that_breaks_fails_those_that_it_has_not_answered(error: Exception) -> None:
    pool = Pool(lambda command: error if b"bad" in command else command)
    line = pipeline(pool)
    asked = [line.ask(("GET", name)) for name in ("a", "bad", "b")]
    first, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert first == [packed(("GET", "a"))]
    assert others == [error, error]
    assert pool.lines[0].is_broken
    assert await line.ask(("GET", "c")) == [packed(("GET", "c"))]
    assert await all_given_back(pool)


async def test_a_connection_that_cannot_be_made_fails_those_that_wait_for_it() -> None:
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


async def test_who_leaves_before_anything_is_sent_takes_its_commands_along() -> None:
    pool = Pool()
    line = pipeline(pool)
    leaving, staying = asyncio.create_task(line.ask(("A",))), asyncio.create_task(line.ask(("B",)))
    asyncio.get_running_loop().call_soon(leaving.cancel)
    assert await staying == [packed(("B",))]
    assert pool.sent == [[packed(("B",))]]


async def test_who_leaves_later_harms_no_other() -> None:
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


async def test_a_connection_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(auto_pipeline, "PATIENCE", LONG)
    assert await line.ask(("B",)) == [packed(("B",))]


async def test_a_pipeline_that_sleeps_through_the_first_bell_hears_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "PATIENCE", 0.01)
    monkeypatch.setattr(auto_pipeline, "SECOND_BELL", 0.5)  # much later: two at once would count as one cancellation
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


async def test_there_are_so_many_connections_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_no_question_is_left_lying() -> None:
    """Also where it comes at the moment at which the last line finds nothing more to do."""
    pool, source = Pool(), random.Random(7)
    pool.max_connections = 3
    line = pipeline(pool)

    async def ask() -> None:
        for _ in range(200):
            assert await line.ask(("A",)) == [packed(("A",))]
            for _ in range(source.randrange(4)):
                await asyncio.sleep(0)

    await asyncio.gather(ask(), ask())


async def test_more_than_can_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "MOST_WAITING", 2)
    line = pipeline(Pool())
    answers = await asyncio.gather(*(line.ask((name,)) for name in "ABC"), return_exceptions=True)
    assert answers[:2] == [[packed(("A",))], [packed(("B",))]]
    assert isinstance(answers[2], Overloaded)


async def test_what_cannot_be_sent_fails_its_caller_alone() -> None:
    line = pipeline(Pool())
    answers: list[Any] = await asyncio.gather(line.ask(("A",)), line.ask(("B", object())), return_exceptions=True)
    assert answers[0] == [packed(("A",))]
    assert isinstance(answers[1], TypeError)


async def test_questions_are_answered_or_failed_where_the_line_is_ended() -> None:
    pool = Pool()

    def silence(line: Line) -> None:
        line.wait = asyncio.Event().wait  # type: ignore[assignment]

    pool.made = silence
    line = pipeline(pool)
    asked = asyncio.create_task(line.ask(("A",)))
    await pool.used.wait()
    assert pool.out == 1
    [task] = line._lines
    assert task is not None
    task.cancel()
    with pytest.raises(redis_errors.ConnectionError):
        await asked


async def test_a_line_keeps_its_connection_for_a_while_and_one_of_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "LINGER", LONG)
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
    monkeypatch.setattr(auto_pipeline, "LINGER", 0.01)
    assert await line.ask(("F",)) == [packed(("F",))]
    assert await all_given_back(pool)


async def test_there_are_no_more_connections_than_may_be_where_lines_rest_in_between() -> None:
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


async def test_where_there_are_few_connections_none_is_kept() -> None:
    pool = Pool()
    pool.max_connections = 2
    await pipeline(pool).ask(("A",))
    for _ in range(10):
        await asyncio.sleep(0)
    assert pool.out == 0


async def test_a_connection_is_given_back_after_a_while_however_much_there_is_to_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto_pipeline, "TERM", 0.01)
    pool = Pool()
    line = pipeline(pool)
    while len(pool.lines) <= 3:
        await line.ask(("A",))
    assert len(pool.lines) > 3
    assert pool.most_out == 1


TWO_LOOPS = """
import asyncio
from tests.unit.store.test_auto_pipeline import Pool, packed, pipeline

line = pipeline(Pool())
for _ in range(2):
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(asyncio.wait_for(line.ask(("A",)), 20)) == [packed(("A",))]
    loop.close()  # with the task that rests still in it
"""


async def test_a_pool_outlives_the_event_loop_under_which_its_line_rested() -> None:
    """In a process of its own, since asyncio complains of such a loop."""
    command = [sys.executable, "-c", TWO_LOOPS]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=LONG)


async def test_a_connection_that_was_closed_while_its_line_kept_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "LINGER", LONG)
    pool = Pool()
    line = pipeline(pool)
    await line.ask(("A",))
    await asyncio.sleep(0)
    pool.lines[0]._reader.feed_eof()
    assert await line.ask(("B",)) == [packed(("B",))]
    assert [one.sent for one in pool.lines] == [[[packed(("A",))]], [[packed(("B",))]]]


async def test_an_answer_that_does_not_come_in_time_is_given_up_by_who_asked_alone() -> None:
    pool, answered = Pool(), asyncio.Event()

    def slow(line: Line) -> None:
        line.wait = answered.wait  # type: ignore[assignment]

    pool.made = slow
    line = pipeline(pool)
    patient = asyncio.create_task(line.ask(("B",)))
    with pytest.raises(TimeoutError):
        await line.ask(("A",), until=time.monotonic() + 0.01)
    answered.set()
    assert await patient == [packed(("B",))]
    assert not pool.lines[0].is_broken


async def test_replies_are_handed_out_a_few_at_a_time_so_that_what_they_lead_to_is_sent_meanwhile() -> None:
    pool = Pool()
    line = pipeline(pool)
    seen: list[int] = []

    async def ask() -> None:
        await line.ask(("A",))
        seen.append(len(pool.lines[0].unread))

    await asyncio.gather(*(ask() for _ in range(2 * auto_pipeline.SHARE)))
    assert max(seen) == auto_pipeline.SHARE


async def test_all_who_work_through_a_pool_share_its_pipeline() -> None:
    first, second = Pool(), Pool()
    line = shared(AutoPipeline, first)  # type: ignore[arg-type]
    assert shared(AutoPipeline, first) is line is not shared(AutoPipeline, second)  # type: ignore[arg-type]


async def test_at_the_end_whoever_waits_is_told_and_nothing_more_is_sent() -> None:
    pool = Pool()

    def silence(line: Line) -> None:
        line.wait = asyncio.Event().wait  # type: ignore[assignment]

    pool.made = silence
    pool.max_connections = 3
    line = pipeline(pool)
    under_way = asyncio.create_task(line.ask(("A",)))
    await pool.used.wait()
    assert pool.out == 1
    waiting = asyncio.create_task(line.ask(("B",)))
    await asyncio.sleep(0)

    await line.aclose()

    for asked in (under_way, waiting):
        with pytest.raises(redis_errors.ConnectionError):
            await asked
    assert await all_given_back(pool)
    assert pool.sent == [[packed(("A",))]]
    assert pool.lines[0].is_broken


async def test_a_reply_that_redis_py_cannot_read_is_an_error_of_the_protocol() -> None:
    pool: Any = Pool(lambda _: IndexError("a redirection without an address"))
    with pytest.raises(redis_errors.InvalidResponse, match="IndexError: a redirection"):
        await AutoPipeline(pool).ask(("GET", "a"))
