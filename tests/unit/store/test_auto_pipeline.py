import asyncio
import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
from redis import exceptions as redis_errors

from service.domain.errors import Overloaded
from service.store import auto_pipeline, channel
from service.store.auto_pipeline import AutoPipeline
from service.store.channel import Channel
from service.store.pool import shared

#: Seconds that only a test that hangs exceeds, however busy the machine is.
LONG = 30.0


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def echo(command: list[bytes]) -> bytes:
    return bulk(command[-1])


def no_reply(_: list[bytes]) -> bytes:
    return b""


class Transport(asyncio.Transport):
    """A transport to a server that replies to each command with what `reply` returns for it."""

    def __init__(self, reply: Callable[[list[bytes]], bytes]) -> None:
        super().__init__()
        self.reply = reply
        #: The commands of each write.
        self.writes: list[list[list[bytes]]] = []
        #: Pieces of replies that are delivered when `hold` is set to False.
        self.held: list[bytes] = []
        self.hold = False
        self.closing = False
        self.stream_protocol = self.protocol = StreamProtocol()
        self._commands = hiredis.Reader(notEnoughData=hiredis)

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        assert not self.closing
        self._commands.feed(data)
        commands = []
        while (command := self._commands.gets()) is not hiredis:
            commands.append(command)
        self.writes.append(commands)
        self.held.append(b"".join(map(self.reply, commands)))
        if not self.hold:
            asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self) -> None:
        data, self.held = b"".join(self.held), []
        if data and not self.closing:
            self.protocol.data_received(data)

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(lambda: self.protocol.connection_lost(error))


class StreamProtocol(asyncio.Protocol):
    """The protocol that redis-py had set."""

    lost: list[Exception | None]

    def __init__(self) -> None:
        self.lost = []

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class Connection:
    """A connection of redis-py."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._writer = SimpleNamespace(transport=transport)
        self.is_broken = self.is_unhealthy = self.has_data = False

    async def check_health(self) -> None:
        if self.is_unhealthy:
            raise redis_errors.ConnectionError("no reply to PING")

    async def can_read(self) -> bool:
        return self.has_data

    async def disconnect(self, nowait: bool = False) -> None:
        self.is_broken = True


class Pool:
    """Hands out new connections, and keeps them."""

    max_connections = 6

    def __init__(self, reply: Callable[[list[bytes]], bytes] = echo) -> None:
        self.reply = reply
        self.connections: list[Connection] = []
        self.out = self.most_out = 0
        self.used, self.unused = asyncio.Event(), asyncio.Event()
        #: What a test does with a connection before it is handed out.
        self.prepare: Callable[[Connection], None] = lambda connection: None

    async def get_connection(self) -> Connection:
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        self.unused.clear()
        self.used.set()
        try:
            self.connections.append(connection := Connection(Transport(self.reply)))
            self.prepare(connection)
        except BaseException:
            await self.release(None)
            raise
        return connection

    async def release(self, connection: Connection | None) -> None:
        await asyncio.sleep(0)
        if connection is not None:
            assert connection.transport.protocol is connection.transport.stream_protocol
        self.out -= 1
        if not self.out:
            self.unused.set()

    @property
    def writes(self) -> list[list[list[bytes]]]:
        return [commands for connection in self.connections for commands in connection.transport.writes]


async def all_released(pool: Pool) -> bool:
    await pool.unused.wait()
    return pool.out == 0


async def ticks(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0)


def pipeline(pool: Pool) -> AutoPipeline:
    return AutoPipeline(pool)  # type: ignore[arg-type]


def hold(connection: Connection) -> None:
    connection.transport.hold = True


def channel_of(line: AutoPipeline) -> Channel:
    assert line._channel is not None
    return line._channel


def release_replies(connection: Connection) -> None:
    connection.transport.hold = False
    connection.transport.deliver()


@pytest.fixture(autouse=True)
async def _bounded(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", 0.01)
    monkeypatch.setattr(channel, "REPLY_TIMEOUT", LONG)
    monkeypatch.setattr(auto_pipeline, "OPEN_TIMEOUT", LONG)
    monkeypatch.setattr(auto_pipeline, "CHECK_INTERVAL", 0.001)
    async with asyncio.timeout(LONG):
        yield


async def test_the_commands_of_one_tick_are_sent_in_one_write_and_in_order() -> None:
    pool = Pool()
    line = pipeline(pool)
    answers = await asyncio.gather(*(line.ask(("GET", str(number)), ("TTL", -number)) for number in range(50)))
    assert answers == [[b"%d" % number, b"%d" % -number] for number in range(50)]
    [sent] = pool.writes
    assert sent == [[verb, b"%d" % (sign * n)] for n in range(50) for verb, sign in ((b"GET", 1), (b"TTL", -1))]
    assert await all_released(pool)


async def test_commands_are_sent_while_the_replies_to_others_are_outstanding() -> None:
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    slow = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    fast = asyncio.create_task(line.ask(("B",)))
    await until(lambda: len(pool.writes) == 2)
    assert not slow.done()
    assert not fast.done()
    release_replies(pool.connections[0])
    assert (await slow, await fast) == ([b"A"], [b"B"])
    assert pool.most_out == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_replies_reach_their_callers_however_they_are_cut_into_packets(size: int) -> None:
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    source = random.Random(size)
    calls = [[("GET", f"{number}-{part}") for part in range(source.randrange(1, 4))] for number in range(40)]
    asked = [asyncio.create_task(line.ask(*commands)) for commands in calls]
    await until(lambda: pool.writes)
    transport = pool.connections[0].transport
    data = b"".join(transport.held)
    for start in range(0, len(data), size):
        transport.protocol.data_received(data[start : start + size])
        await ticks(source.randrange(3))
    assert await asyncio.gather(*asked) == [[command[1].encode() for command in commands] for commands in calls]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-WRONGTYPE x\r\n", redis_errors.ResponseError("WRONGTYPE x")),
        (b"-LOADING loading\r\n", redis_errors.BusyLoadingError("loading")),
        (b"-READONLY replica\r\n", redis_errors.ReadOnlyError("replica")),
        (b"-NOSCRIPT none\r\n", redis_errors.NoScriptError("none")),
    ],
    ids=["WRONGTYPE", "LOADING", "READONLY", "NOSCRIPT"],
)
async def test_an_error_reply_is_returned_to_its_caller_alone(reply: bytes, error: Exception) -> None:
    pool = Pool(lambda command: reply if b"bad" in command else echo(command))
    line = pipeline(pool)
    good, bad, more = await asyncio.gather(line.ask(("GET", "a")), line.ask(("GET", "bad")), line.ask(("GET", "b")))
    assert (good, more) == ([b"a"], [b"b"])
    assert (type(bad[0]), str(bad[0])) == (type(error), str(error))
    assert not pool.connections[0].is_broken


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), OSError("gone"), None], ids=repr)
async def test_a_connection_that_breaks_fails_the_calls_that_it_has_not_answered(error: Exception | None) -> None:
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    asked = [asyncio.create_task(line.ask(("GET", str(number)), ("GET", "x"))) for number in range(100)]
    await until(lambda: pool.writes)
    [connection] = pool.connections
    replies = b"".join(connection.transport.held)
    received = replies[: len(replies) // 2]  # more than one tick delivers
    connection.transport.protocol.data_received(received)
    connection.transport.lose(error)
    waiting = asyncio.create_task(line.ask(("LATER",)))
    pool.prepare = lambda connection: None

    answers = await asyncio.gather(*asked, return_exceptions=True)
    answered = received.count(b"$") // 2
    assert 32 < answered < 100
    assert answers[:answered] == [[b"%d" % number, b"x"] for number in range(answered)]
    assert {type(answer) for answer in answers[answered:]} == {redis_errors.ConnectionError}
    assert str(answers[-1]) == str(error or "Connection closed by server.")
    assert await waiting == [b"LATER"]
    assert connection.is_broken
    assert connection.transport.stream_protocol.lost == [error]
    assert [len(one.transport.writes) for one in pool.connections] == [1, 1]
    assert await all_released(pool)


async def test_a_connection_that_cannot_be_opened_fails_the_calls_that_wait_for_it() -> None:
    pool, error = Pool(), redis_errors.ConnectionError("refused")

    def refuse(_: Connection) -> None:
        raise error

    pool.prepare = refuse
    line = pipeline(pool)
    answers: list[Any] = await asyncio.gather(line.ask(("A",)), line.ask(("B",)), return_exceptions=True)
    assert answers == [error, error]
    pool.prepare = lambda connection: None
    assert await line.ask(("C",)) == [b"C"]


@pytest.mark.parametrize("fault", ["is_unhealthy", "has_data", "closing"])
async def test_a_connection_that_is_unhealthy_or_has_unread_data_is_not_used(fault: str) -> None:
    pool = Pool()
    pool.prepare = lambda connection: setattr(connection.transport if fault == "closing" else connection, fault, True)
    line = pipeline(pool)
    with pytest.raises(redis_errors.ConnectionError):
        await line.ask(("A",))
    assert pool.writes == []
    assert pool.connections[0].is_broken
    assert await all_released(pool)


async def test_a_caller_that_leaves_before_its_commands_are_sent_withdraws_them() -> None:
    pool = Pool()
    line = pipeline(pool)
    leaving, staying = asyncio.create_task(line.ask(("A",))), asyncio.create_task(line.ask(("B",)))
    asyncio.get_running_loop().call_soon(leaving.cancel)
    assert await staying == [b"B"]
    assert pool.writes == [[[b"B"]]]


async def test_no_connection_is_opened_for_callers_that_have_left() -> None:
    pool = Pool()
    line = pipeline(pool)
    leaving = asyncio.create_task(line.ask(("A",)))
    asyncio.get_running_loop().call_soon(leaving.cancel)
    await ticks(10)
    assert leaving.cancelled()
    assert pool.connections == []


async def test_a_caller_that_leaves_between_its_command_and_the_reply_affects_no_other() -> None:
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    leaving = asyncio.create_task(line.ask(("A",), ("A",)))
    staying = asyncio.create_task(line.ask(("B",)))
    await until(lambda: pool.writes)
    leaving.cancel()
    await ticks(3)
    release_replies(pool.connections[0])
    assert await staying == [b"B"]
    assert leaving.cancelled()
    assert not pool.connections[0].is_broken


async def test_a_connection_without_replies_is_closed_and_its_calls_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "REPLY_TIMEOUT", 0.01)
    pool = Pool(no_reply)
    line = pipeline(pool)
    answers = await asyncio.gather(line.ask(("A",)), line.ask(("B",)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [TimeoutError] * 2
    assert await all_released(pool)
    assert pool.connections[0].is_broken
    assert pool.connections[0].transport.closing
    pool.reply = echo
    monkeypatch.setattr(channel, "REPLY_TIMEOUT", LONG)
    assert await line.ask(("B",)) == [b"B"]


async def test_a_part_of_a_reply_does_not_keep_a_connection_open() -> None:
    pool = Pool(no_reply)
    line = pipeline(pool)
    asked = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    used = channel_of(line)
    used._active_at -= 2 * LONG
    used.data_received(b"$1000000\r\nx")
    used.check(time.monotonic())
    with pytest.raises(TimeoutError):
        await asked


async def test_the_time_for_a_reply_begins_when_its_command_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", LONG)
    pool = Pool()
    line = pipeline(pool)
    await line.ask(("A",))
    used = channel_of(line)
    used._active_at -= 2 * LONG
    hold(pool.connections[0])
    asked = asyncio.create_task(line.ask(("B",)))
    await until(lambda: len(pool.writes) == 2)
    used.check(time.monotonic())
    release_replies(pool.connections[0])
    assert await asked == [b"B"]


async def test_a_connection_that_replies_is_kept_although_each_reply_waits_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    for module in (channel, auto_pipeline):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(channel, "REPLY_TIMEOUT", 0.2)
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    asked = [asyncio.create_task(line.ask((str(number),))) for number in range(10)]
    await until(lambda: pool.writes)
    for number in range(10):
        now += 0.15
        await asyncio.sleep(0.01)  # some checks of the connection
        pool.connections[0].transport.protocol.data_received(bulk(b"%d" % number))
    assert await asyncio.gather(*asked) == [[b"%d" % number] for number in range(10)]
    assert not pool.connections[0].is_broken


async def hang() -> Any:
    await asyncio.Event().wait()


async def hang_until_cancelled_twice() -> Any:
    try:
        await hang()
    except asyncio.CancelledError:
        await hang()


async def test_a_cancellation_that_is_swallowed_while_a_connection_is_opened_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto_pipeline, "OPEN_TIMEOUT", 0.01)
    monkeypatch.setattr(auto_pipeline, "CANCEL_INTERVAL", 0.5)  # much later: two at once would count as one
    pool = Pool()
    pool.get_connection = hang_until_cancelled_twice  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        await pipeline(pool).ask(("A",))


async def test_closing_ends_a_connection_attempt_that_swallows_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "CANCEL_INTERVAL", 0.01)
    pool = Pool()
    pool.get_connection = hang_until_cancelled_twice  # type: ignore[method-assign]
    line = pipeline(pool)
    asked = asyncio.create_task(line.ask(("A",)))
    await until(lambda: line._task)
    await ticks(3)
    await line.aclose()
    assert line._task is None
    with pytest.raises(redis_errors.ConnectionError, match="closed"):
        await asked


async def test_a_call_that_waits_for_a_connection_times_out_at_its_deadline() -> None:
    pool = Pool()
    pool.get_connection = hang  # type: ignore[method-assign]
    line = pipeline(pool)
    with pytest.raises(TimeoutError):
        await line.ask(("A",), until=time.monotonic() + 0.01)
    await line.aclose()


async def test_calls_share_one_connection_and_only_so_many_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_IN_FLIGHT", 3)
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", LONG)
    pool = Pool()
    line = pipeline(pool)

    async def ask(number: int) -> list[Any]:
        await ticks(number % 7)
        return await line.ask(("GET", str(number)))

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert answers == [[b"%d" % number] for number in range(100)]
    assert len(pool.connections) == 1
    assert max(len(commands) for commands in pool.writes) == 3


@pytest.mark.parametrize("callers", [1, 8])
@pytest.mark.parametrize("max_connections", [1, 2, 3, 9])
async def test_no_call_is_left_unsent(max_connections: int, callers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it comes at the moment at which the connection is returned to the pool."""
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", 0.0)
    monkeypatch.setattr(channel, "MAX_HOLD", 0.001)
    pool, source = Pool(), random.Random(7)
    pool.max_connections = max_connections
    line = pipeline(pool)

    async def ask() -> None:
        for _ in range(200):
            assert await line.ask(("A",)) == [b"A"]
            await ticks(source.randrange(12))

    await asyncio.gather(*(ask() for _ in range(callers)))
    assert pool.most_out == 1


async def test_calls_above_the_limit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_pipeline, "MAX_WAITING", 2)
    line = pipeline(Pool())
    answers = await asyncio.gather(*(line.ask((name,)) for name in "ABC"), return_exceptions=True)
    assert answers[:2] == [[b"A"], [b"B"]]
    assert isinstance(answers[2], Overloaded)


async def test_calls_wait_while_the_transport_accepts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "WRITE_BYTES", 1000)
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    first = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    protocol = pool.connections[0].transport.protocol
    protocol.pause_writing()
    large = [asyncio.create_task(line.ask((name * 600,))) for name in "BCDEF"]
    await ticks(10)
    assert len(pool.writes) == 1
    large[0].cancel()
    await ticks(2)
    protocol.resume_writing()
    assert [[command[0][:1] for command in write] for write in pool.writes] == [[b"A"], [b"C", b"D"], [b"E", b"F"]]
    release_replies(pool.connections[0])
    assert await first == [b"A"]
    assert await asyncio.gather(*large[1:]) == [[name.encode() * 600] for name in "CDEF"]


async def test_a_write_ends_where_the_transport_accepts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "WRITE_BYTES", 1000)
    pool = Pool()

    def pause_at_first_write(connection: Connection) -> None:
        def reply(command: list[bytes]) -> bytes:
            connection.transport.protocol.pause_writing()
            return echo(command)

        connection.transport.reply = reply

    pool.prepare = pause_at_first_write
    line = pipeline(pool)
    asked = [asyncio.create_task(line.ask((name * 600,))) for name in "ABC"]
    await until(lambda: pool.writes)
    await ticks(10)
    assert len(pool.writes) == 1
    pool.connections[0].transport.protocol.resume_writing()
    assert await asyncio.gather(*asked) == [[name.encode() * 600] for name in "ABC"]


async def test_a_command_that_cannot_be_packed_fails_its_caller_alone() -> None:
    line = pipeline(Pool())
    answers: list[Any] = await asyncio.gather(line.ask(("A",)), line.ask(("B", object())), return_exceptions=True)
    assert answers[0] == [b"A"]
    assert isinstance(answers[1], TypeError)


async def test_calls_fail_if_the_task_that_holds_the_connection_is_cancelled() -> None:
    pool = Pool(no_reply)
    line = pipeline(pool)
    asked = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    assert pool.out == 1
    assert line._task is not None
    line._task.cancel()
    with pytest.raises(redis_errors.ConnectionError):
        await asked
    assert await all_released(pool)


async def test_an_idle_connection_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", LONG)
    pool = Pool()
    line = pipeline(pool)
    for name in "ABC":
        assert await line.ask((name,)) == [name.encode()]
        await ticks(20)
    assert pool.writes == [[[name.encode()]] for name in "ABC"]
    assert len(pool.connections) == pool.out == 1
    await line.aclose()

    monkeypatch.setattr(channel, "IDLE_TIMEOUT", 0.01)
    assert await line.ask(("F",)) == [b"F"]
    assert await all_released(pool)
    assert not pool.connections[1].is_broken


async def test_a_small_pool_gets_its_connection_back_at_once() -> None:
    pool = Pool()
    pool.max_connections = 2
    await pipeline(pool).ask(("A",))
    await ticks(10)
    assert pool.out == 0
    assert not pool.connections[0].is_broken


async def test_a_busy_connection_is_returned_to_the_pool_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_HOLD", 0.0)
    monkeypatch.setattr(auto_pipeline, "CHECK_INTERVAL", LONG)
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    first = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    channel_of(line).check(time.monotonic())
    second = asyncio.create_task(line.ask(("B",)))
    await ticks(10)
    assert pool.writes == [[[b"A"]]]
    pool.prepare = lambda connection: None
    release_replies(pool.connections[0])
    assert (await first, await second) == ([b"A"], [b"B"])
    assert [connection.transport.writes for connection in pool.connections] == [[[[b"A"]]], [[[b"B"]]]]
    assert pool.most_out == 1
    assert not pool.connections[0].is_broken


async def test_an_idle_connection_is_returned_when_a_busy_one_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_HOLD", 0.0)
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", LONG)
    pool = Pool()
    line = pipeline(pool)
    await line.ask(("A",))
    channel_of(line).check(time.monotonic())
    assert await all_released(pool)
    assert await line.ask(("B",)) == [b"B"]


TWO_LOOPS = """
import asyncio
from tests.unit.store.test_auto_pipeline import Pool, pipeline

line = pipeline(Pool())
for _ in range(2):
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(asyncio.wait_for(line.ask(("A",)), 20)) == [b"A"]
    {left}
    loop.close()  # with the task that holds the connection still in it
"""
A_CALL_LEFT = 'task = loop.create_task(line.ask(("B",))); loop.call_soon(loop.stop); loop.run_forever()'


@pytest.mark.parametrize("left", ["", A_CALL_LEFT], ids=["idle", "with a call left"])
async def test_a_pipeline_outlives_the_event_loop_that_it_was_used_in(left: str) -> None:
    """In a process of its own, since asyncio complains of such a loop."""
    command = [sys.executable, "-c", TWO_LOOPS.format(left=left)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=LONG)


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), None], ids=repr)
@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_connection_that_was_closed_while_idle_is_not_used(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, is_noticed: bool
) -> None:
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", LONG)
    pool = Pool()
    line = pipeline(pool)
    await line.ask(("A",))
    await ticks(3)
    asked = asyncio.create_task(line.ask(("B",)))
    await ticks(0 if is_noticed else 1)  # `_send` runs after or before `connection_lost`
    pool.connections[0].transport.lose(error)
    assert await asked == [b"B"]
    assert [one.transport.writes for one in pool.connections] == [[[[b"A"]]], [[[b"B"]]]]
    assert pool.connections[0].is_broken


async def test_a_reply_that_does_not_arrive_in_time_fails_its_caller_alone() -> None:
    pool = Pool()
    pool.prepare = hold
    line = pipeline(pool)
    patient = asyncio.create_task(line.ask(("B",)))
    with pytest.raises(TimeoutError):
        await line.ask(("A",), until=time.monotonic() + 0.01)
    release_replies(pool.connections[0])
    assert await patient == [b"B"]
    assert not pool.connections[0].is_broken


async def test_a_reply_is_not_kept_until_the_time_limit_of_its_call() -> None:
    def kept() -> list[Any]:
        futures = [one for one in gc.get_objects() if isinstance(one, asyncio.Future) and one.done()]
        return [one for one in futures if not one.cancelled() and one.exception() is None and one.result() == [b"A"]]

    assert await pipeline(Pool()).ask(("A",), until=time.monotonic() + LONG) == [b"A"]
    await ticks(3)
    assert kept() == []


async def test_some_replies_are_delivered_per_tick_so_that_their_callers_send_on_meanwhile() -> None:
    pool = Pool()
    line = pipeline(pool)
    limit = channel.REPLIES_PER_TICK

    async def ask() -> None:
        await line.ask(("A",))
        await line.ask(("B",))

    await asyncio.gather(*(ask() for _ in range(3 * limit)))
    assert [len(commands) for commands in pool.writes] == [3 * limit, limit, limit, limit]


async def test_all_clients_of_a_pool_share_its_pipeline() -> None:
    first, second = Pool(), Pool()
    line = shared(AutoPipeline, first)  # type: ignore[arg-type]
    assert shared(AutoPipeline, first) is line is not shared(AutoPipeline, second)  # type: ignore[arg-type]


async def test_closing_fails_the_calls_in_flight_and_the_waiting_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_IN_FLIGHT", 1)
    pool = Pool(no_reply)
    line = pipeline(pool)
    in_flight = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    waiting = asyncio.create_task(line.ask(("B",)))
    await asyncio.sleep(0)

    await line.aclose()

    for asked in (in_flight, waiting):
        with pytest.raises(redis_errors.ConnectionError):
            await asked
    assert await all_released(pool)
    assert pool.writes == [[[b"A"]]]
    assert pool.connections[0].is_broken
    pool.reply = echo
    assert await line.ask(("C",)) == [b"C"]


async def test_closing_fails_a_call_that_has_not_opened_a_connection_yet() -> None:
    pool = Pool()
    line = pipeline(pool)
    asked = asyncio.create_task(line.ask(("A",)))
    await ticks(1)
    await line.aclose()
    with pytest.raises(redis_errors.ConnectionError, match="closed"):
        await asked
    await ticks(3)
    assert pool.connections == []


async def test_a_call_that_arrives_while_others_are_closed_is_sent_over_a_new_connection() -> None:
    pool = Pool(no_reply)
    line = pipeline(pool)
    in_flight = asyncio.create_task(line.ask(("A",)))
    await until(lambda: pool.writes)
    pool.reply = echo
    release = pool.release

    async def release_later(connection: Connection | None) -> None:
        await ticks(20)
        await release(connection)

    pool.release = release_later  # type: ignore[method-assign]
    in_flight.add_done_callback(lambda _: later.append(asyncio.create_task(line.ask(("B",)))))
    later: list[asyncio.Task[list[Any]]] = []
    await line.aclose()
    with pytest.raises(redis_errors.ConnectionError):
        await in_flight
    assert await later[0] == [b"B"]
    assert pool.most_out == 1


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"-MOVED\r\n", "ValueError"),
        (b"HTTP/1.1 400 Bad Request\r\n", 'got "H"'),
    ],
    ids=["an error that redis-py cannot parse", "another protocol"],
)
async def test_a_reply_that_cannot_be_parsed_is_an_error_of_the_protocol(reply: bytes, text: str) -> None:
    pool = Pool(lambda _: reply)
    with pytest.raises(redis_errors.InvalidResponse, match=text):
        await pipeline(pool).ask(("GET", "a"))
    assert await all_released(pool)
    assert pool.connections[0].is_broken


async def test_a_reply_without_a_command_breaks_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "IDLE_TIMEOUT", LONG)
    pool = Pool()
    line = pipeline(pool)
    await line.ask(("A",))
    pool.connections[0].transport.protocol.data_received(bulk(b"of nobody"))
    assert await line.ask(("B",)) == [b"B"]
    assert [connection.is_broken for connection in pool.connections] == [True, False]


async def test_a_connection_with_a_part_of_a_reply_is_not_returned_for_use() -> None:
    pool = Pool(lambda command: echo(command) + b"$9\r\npart")
    assert await pipeline(pool).ask(("A",)) == [b"A"]
    assert await all_released(pool)
    assert pool.connections[0].is_broken


async def test_a_push_message_is_not_a_reply() -> None:
    pool = Pool(lambda command: b">2\r\n+MIGRATING\r\n:1\r\n" + echo(command))
    assert await pipeline(pool).ask(("A",), ("B",)) == [b"A", b"B"]
