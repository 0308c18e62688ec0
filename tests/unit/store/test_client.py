import asyncio
import contextlib
import gc
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions as redis_errors
from redis._parsers.base import BaseParser
from redis.asyncio import ConnectionPool

from service.domain import errors
from service.store import calls, client, deadlines
from service.store.calls import with_timeout
from service.store.client import StoreClient
from service.store.deployments.standalone import StandaloneRedis
from service.store.pool import create_pool
from service.store.redis_errors import error_text, map_error

URL = "redis://localhost:1/0"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("LOADING Redis is loading the dataset in memory", errors.StoreLoading),
        ("NOAUTH Authentication required.", errors.StoreAccessDenied),
        ("WRONGPASS invalid username-password pair", errors.StoreAccessDenied),
        ("NOPERM this user has no permissions", errors.StoreAccessDenied),
        ("OOM command not allowed when used memory > 'maxmemory'.", errors.StoreOutOfMemory),
        ("READONLY You can't write against a read only replica.", errors.StoreReadOnly),
        ("MISCONF Redis is configured to save RDB snapshots", errors.StoreReadOnly),
        ("NOREPLICAS Not enough good replicas to write.", errors.StoreReadOnly),
        ("BUSY Redis is busy running a script.", errors.StoreBusy),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", errors.StoreCorrupt),
        ("ERR max number of clients reached", errors.StoreUnreachable),
        ("ERR DB index is out of range", errors.StoreAccessDenied),
        ("ERR SELECT is not allowed in cluster mode", errors.StoreAccessDenied),
        ("ERR unknown command 'EVALSHA', with args beginning with: ", errors.StoreAccessDenied),
        ("MOVED 3999 127.0.0.1:6381", errors.StoreMoving),
        ("ASK 3999 127.0.0.1:6381", errors.StoreMoving),
        ("TRYAGAIN Multiple keys request during rehashing of slot", errors.StoreMoving),
        ("CLUSTERDOWN Hash slot not served", errors.StorePartitionUnavailable),
        ("CROSSSLOT Keys in request don't hash to the same slot", errors.StoreAccessDenied),
        ("ANYTHING that Redis may say one day", errors.StoreAccessDenied),
    ],
)
def test_an_error_reply_is_mapped(reply: str, expected: type[errors.JobStateError]) -> None:
    error = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]
    assert map_error(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis_errors.TimeoutError("slow"), errors.StoreTimeout),
        (TimeoutError(), errors.StoreTimeout),
        (redis_errors.ConnectionError("Connection closed by server."), errors.StoreUnreachable),
        (redis_errors.MaxConnectionsError("Too many connections"), errors.StoreUnreachable),
        (ConnectionResetError(), errors.StoreUnreachable),
        (OSError("no route to host"), errors.StoreUnreachable),
        (RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"), errors.StoreUnreachable),
    ],
    ids=repr,
)
def test_a_network_failure_is_mapped(error: Exception, expected: type[errors.JobStateError]) -> None:
    assert map_error(error) is expected


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), RuntimeError("a bug"), KeyError("a bug")],
    ids=repr,
)
def test_a_bug_is_not_mapped(error: Exception) -> None:
    assert map_error(error) is type(error)


def subclasses(error: type[Exception]) -> set[type[Exception]]:
    return {error}.union(*map(subclasses, error.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(subclasses(redis_errors.RedisError), key=str), ids=str)
def test_every_error_of_redis_py_maps_to_a_domain_error(kind: type[Exception]) -> None:
    error = kind.__new__(kind, "1 somewhere:1")
    assert issubclass(map_error(error), errors.StoreUnavailable)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            redis_errors.ResponseError("unknown command 'AUTH', with args beginning with: 's3cret' "),
            "unknown command 'AUTH'",
        ),
        (redis_errors.ResponseError("s3cret is no password"), "*** is no password"),
        (redis_errors.ResponseError("s3crets are no password"), "s3crets are no password"),
        (redis_errors.ResponseError("x" * 1000), "x" * 300),
        (redis_errors.ConnectionError(), "no answer"),
        (
            redis_errors.InvalidResponse('Protocol error, got "H" as reply type byte'),
            'the server does not speak the Redis protocol: Protocol error, got "H" as reply type byte',
        ),
    ],
)
def test_error_texts_contain_no_secrets_and_no_arguments(error: Exception, shown: str) -> None:
    assert error_text(error, create_pool("redis://:s3cret@localhost:1/0")) == shown


def test_the_pool_has_timeouts_and_a_health_check_and_does_not_retry() -> None:
    pool = create_pool(URL)
    options = pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (3.0, 3.0)
    assert (options["health_check_interval"], options["db"]) == (30, 0)
    assert pool.timeout == 3.0
    assert options["retry"].get_retries() == 0
    assert len({id(one.connection_kwargs["driver_info"]) for one in (pool, create_pool(URL))}) == 1


def test_a_pool_that_decodes_replies_is_rejected() -> None:
    with pytest.raises(ValueError, match="decode_responses=False"):
        StoreClient(ConnectionPool.from_url(URL, decode_responses=True))


def test_another_number_of_partitions_than_that_of_the_deployment_is_rejected() -> None:
    deployment = StandaloneRedis(create_pool(URL), 4)
    assert len(StoreClient(deployment).partitions) == len(StoreClient(deployment, partitions=4).partitions) == 4
    with pytest.raises(ValueError, match="`partitions` is 16, but the deployment has 4"):
        StoreClient(deployment, partitions=16)


def test_a_pool_without_clients_is_freed() -> None:
    pool = create_pool(URL)
    store_client, freed = StoreClient(pool, waitaof=True), weakref.ref(pool)
    del pool, store_client
    gc.collect()
    assert freed() is None


class Command:
    """A command with these outcomes, one per call."""

    def __init__(self, *outcomes: Exception | str | Callable[[], Awaitable[Any]]) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    async def __call__(self) -> Any:
        self.calls += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, str) else await outcome()


async def hang() -> None:
    await asyncio.Event().wait()


async def call(command: Command, deadline: float = deadlines.REQUEST_TIMEOUT) -> Any:
    return await StoreClient(create_pool(URL)).call("command", with_timeout(command), deadline)


class Resource:
    """An object that a failed call refers to."""


@pytest.mark.parametrize("error", [ConnectionError, errors.StoreCorrupt], ids=["twice", "once"])
async def test_a_failed_call_leaves_no_reference_cycle(error: type[Exception]) -> None:
    async def fail(_: float) -> None:
        _resource = Resource()
        raise error

    store_client = StoreClient(create_pool(URL))
    gc.disable()
    try:
        with contextlib.suppress(errors.JobStateError):
            await store_client.call("command", fail)
        assert not [one for one in gc.get_objects() if type(one) is Resource]
    finally:
        gc.enable()


async def test_a_command_that_succeeds_runs_once() -> None:
    command = Command("done", "again")
    assert await call(command) == "done"
    assert command.calls == 1


@pytest.mark.parametrize(
    "error", [redis_errors.ConnectionError("reset"), redis_errors.TimeoutError(), OSError("gone")], ids=repr
)
async def test_a_command_with_unknown_outcome_is_retried_once(error: Exception) -> None:
    command = Command(error, "done")
    assert await call(command) == "done"
    assert command.calls == 2


async def test_there_is_no_second_retry() -> None:
    command = Command(*[redis_errors.ConnectionError("connection refused")] * 3)
    with pytest.raises(errors.StoreUnreachable, match="connection refused") as failure:
        await call(command)
    assert command.calls == 2
    assert isinstance(failure.value.__cause__, redis_errors.ConnectionError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis_errors.BusyLoadingError("loading"), errors.StoreLoading),
        (redis_errors.OutOfMemoryError("oom"), errors.StoreOutOfMemory),
        (redis_errors.ResponseError("WRONGTYPE x"), errors.StoreCorrupt),
    ],
    ids=repr,
)
async def test_an_error_reply_is_not_retried(error: Exception, expected: type[errors.JobStateError]) -> None:
    command = Command(error, "done")
    with pytest.raises(expected):
        await call(command)
    assert command.calls == 1


async def test_a_bug_is_raised_unchanged() -> None:
    bug = ZeroDivisionError("a bug")
    command = Command(bug, "done")
    with pytest.raises(ZeroDivisionError) as failure:
        await call(command)
    assert failure.value is bug
    assert command.calls == 1


async def test_an_attempt_that_hangs_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_ATTEMPT_TIMEOUT", 0.01)
    command = Command(hang, "done")
    assert await call(command) == "done"
    assert command.calls == 2


async def test_a_redis_that_hangs_times_out_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_ATTEMPT_TIMEOUT", 0.01)
    command = Command(hang, hang, hang)
    async with asyncio.timeout(5):
        with pytest.raises(errors.StoreTimeout):
            await call(command, 0.5)
    assert command.calls == 2


async def test_the_calls_of_one_request_share_its_time_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "REQUEST_TIMEOUT", 0.1)
    deadlines.new_budget()
    async with asyncio.timeout(5):
        assert await call(Command("in time")) == "in time"
        with pytest.raises(errors.StoreTimeout):
            await call(Command(hang, hang))
        with pytest.raises(errors.StoreTimeout):  # no time is left, even for a fast command
            await call(Command(lambda: asyncio.sleep(0.01)))


def test_both_attempts_fit_into_the_request_timeout() -> None:
    assert 0 < calls.FIRST_ATTEMPT_TIMEOUT < client.PING_TIMEOUT < deadlines.REQUEST_TIMEOUT <= 3.0


def test_a_master_that_is_down_is_a_read_only_store() -> None:
    error = BaseParser.parse_error("MASTERDOWN Link with MASTER is down")  # type: ignore[no-untyped-call]
    assert map_error(error) is errors.StoreReadOnly


async def test_name_lookups_run_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups, answered = [], threading.Event()

    def hang(host: str, port: int, **_: Any) -> list[Any]:
        lookups.append(host)
        answered.wait(5)
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", hang)
    store_client = StoreClient(create_pool("redis://redis.example:1/0"))

    monkeypatch.setattr(calls, "FIRST_ATTEMPT_TIMEOUT", 0.1)
    answers = await asyncio.gather(*(store_client.probe() for _ in range(100)), return_exceptions=True)
    answered.set()

    assert {type(answer) for answer in answers} == {errors.StoreTimeout}
    assert lookups == ["redis.example"]
    with pytest.raises(errors.StoreUnreachable, match="no such name"):
        await store_client.probe()


class Idle:
    """An idle connection, which may have been reset."""

    def __init__(self, is_reset: bool) -> None:
        self._writer = SimpleNamespace(transport=SimpleNamespace(is_closing=lambda: is_reset))
        self.is_connected = True
        self.ends = 0

    async def connect(self) -> None:
        self.is_connected = True

    async def can_read(self) -> bool:
        return False

    async def disconnect(self, nowait: bool = False) -> None:
        self.is_connected, self.ends = False, self.ends + 1


@pytest.mark.parametrize(("is_reset", "ends"), [(True, 1), (False, 0)])
async def test_a_connection_reset_while_idle_is_reopened(is_reset: bool, ends: int) -> None:
    connection: Any = Idle(is_reset)
    await create_pool(URL).ensure_connection(connection)
    assert (connection.is_connected, connection.ends) == (True, ends)


async def test_calls_that_are_cancelled_before_they_begin_are_no_warning() -> None:
    begun: list[int] = []

    async def call(number: int) -> None:
        begun.append(number)

    waiting = asyncio.create_task(deadlines.gather(call(number) for number in range(3)))
    await asyncio.sleep(0)  # the calls are tasks that have not begun
    waiting.cancel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        gc.collect()
    assert begun == []
