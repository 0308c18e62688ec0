"""Calls to Redis with a timeout, one retry and typed errors."""

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis

from service.domain import constraints, errors
from service.store import probe, scripts
from service.store.auto_pipeline import AutoPipeline
from service.store.channel import REPLY_TIMEOUT
from service.store.data_version import DATA_VERSION, READ_VERSION, VERSION_KEYS, check_version
from service.store.deadlines import REQUEST_TIMEOUT, budget, gather
from service.store.fsync import FsyncWaiter
from service.store.observer import NullObserver, Observer
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.pool import shared
from service.store.records import time_reply_to_micros
from service.store.redis_errors import map_error, parse_reply, to_domain_error
from service.store.replicas import ReplicasMissing
from service.store.scripts import Script
from service.store.server_clock import ServerClock

T = TypeVar("T")

#: Seconds that a readiness check may take.
PING_TIMEOUT: Final = 2.5
#: Seconds after which a call without a reply is sent a second time.
FIRST_ATTEMPT_TIMEOUT: Final = REPLY_TIMEOUT
_FIRST_ATTEMPT_MICROS: Final = int(FIRST_ATTEMPT_TIMEOUT * 1_000_000)
#: Seconds before the retry. What reset one connection may be about to reset the others of the pool too.
RETRY_DELAY: Final = 0.05
#: Errors after which the command may or may not have run. Only these are retried, with the same change id.
AMBIGUOUS_ERRORS: Final = (errors.StoreUnreachable, errors.StoreTimeout)


class UnexpectedReplyError(Exception):
    """A script replied with a word that it does not declare: a bug."""

    def __init__(self, script: Script, word: str) -> None:
        super().__init__(f"{script.name}.lua replied {word!r}")


class StoreClient:
    """Runs scripts and read commands over a pipeline, each with a timeout and one retry.

    A process creates one and gives it to everything that uses Redis.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        observer: Observer | None = None,
        *,
        waitaof: bool = False,
        partitions: int = 1,
        copy: bytes | None = None,
    ) -> None:
        """Use `pool` and report calls to `observer`. With `waitaof` a change returns once it is on the disk of Redis.

        Jobs are in `partitions` partitions, a power of two from 1 to 1,024. Raises `ValueError` for another number, and
        if `pool` decodes replies, because JSON must stay bytes. `copy` is the mark of the copy that fills the database.
        """
        if pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the pool decodes replies; create it with decode_responses=False")
        #: Also receives the changes of jobs, from those who make them.
        self.observer: Observer = observer or NullObserver()
        #: For rare commands, and for its conversions of replies.
        self.redis: Redis = Redis(connection_pool=pool)
        #: Where the jobs are.
        self.partitions: Final = Partitions(partitions)
        #: Whether Redis has the number of partitions, which the data of one partition needs not.
        self._is_registered = partitions == 1
        self._copy = copy
        self._pool = pool
        self._pipeline = shared(AutoPipeline, pool)
        self._fsync = shared(FsyncWaiter, pool) if waitaof else None
        self._clock = ServerClock()
        #: The transport over which the clock, the version and the number of partitions were last read.
        self._read_over: asyncio.Transport | None = None

    async def aclose(self) -> None:
        """End the calls that are under way. The pool stays open; other clients of it send theirs again."""
        await self._pipeline.aclose()
        if self._fsync is not None:
            await self._fsync.aclose()

    async def run_script(
        self, script: Script, partition: Partition, args: Sequence[Any], keys: Sequence[str] = ()
    ) -> list[Any]:
        """Run a script in one round trip and return its reply: a word of `script.replies`, then the values.

        It gets `keys`, then the root of the partition, which is the only one that it may use.

        A call whose outcome is unknown is retried once, so `args` must let the script recognise that it ran before. A
        script that reaches Redis after its deadline, or finds data of a newer version, does nothing. Raises
        `StoreUnavailable` or `StoreCorrupt`.
        """
        command = ("EVALSHA", script.sha, len(keys) + 1, *keys, partition.root, *args)
        send = partial(self._run_before_deadline, script, command)
        reply = await self.call(script.name, send, outcome=operator.itemgetter(0))
        if self._fsync is not None and script.writes:
            await self.call("sync", with_timeout(self._fsync.wait), first_time_limit=REQUEST_TIMEOUT)
        return reply

    def run_job_script(self, script: Script, job_id: str, args: Sequence[Any]) -> Awaitable[list[Any]]:
        """Run a script on one job, in its partition, like `run_script`. Raises `InvalidValue` for a wrong id."""
        partition = self.partition_of(job_id)
        return self.run_script(script, partition, [job_id, *args], [partition.job(job_id)])

    def partition_of(self, job_id: str) -> Partition:
        """Return the partition of a job. Raises `InvalidValue` for a wrong id."""
        constraints.JOB_ID.validate("job_id", job_id)
        return self.partitions.of(job_id)

    async def in_all_partitions(self, call: Callable[[Partition], Awaitable[T]]) -> list[T]:
        """Return the results of `call` for every partition, in their order. The calls run at the same time."""
        if self.partitions.size == 1:
            return [await call(self.partitions.first)]
        return await gather(map(call, self.partitions))

    async def run_in_all_partitions(self, script: Script, args: Sequence[Any] = ()) -> list[list[Any]]:
        """Run a script like `run_script` in every partition, and return the replies in the order of the partitions."""
        return await self.in_all_partitions(lambda partition: self.run_script(script, partition, args))

    async def write_version(self) -> None:
        """Write the data version of this service to Redis, and the number of partitions, if there is no other data.

        Raises `DataVersionUnsupported` or `PartitionsMismatch` if there is.
        """
        await self.call("write_version", self._register)

    async def _register(self, deadline: float) -> None:
        count, script, root = self.partitions.size, scripts.WRITE_VERSION, self.partitions.first.root
        command = ("EVALSHA", script.sha, len(VERSION_KEYS) + 1, *VERSION_KEYS, root, DATA_VERSION, count)
        _, *stored = await self._run_before_deadline(script, command, deadline)
        check_version(*stored, partitions=count)
        if count > 1:
            held = [((one.version, DATA_VERSION), (one.partitions, count)) for one in self.partitions]
            commands = [("SET", *pair, "NX") for pairs in held for pair in pairs]
            _raise_errors(await self._pipeline.ask(*commands, until=deadline))
        self._is_registered = True

    async def _run_before_deadline(self, script: Script, command: tuple[Any, ...], deadline: float) -> list[Any]:
        """Send a script with its deadline as a time of Redis. If Redis is past it, read the clock and send again.

        Before a change, the version and the number of partitions are written where they are missing.
        """
        while True:
            if not self._is_current:
                await self._refresh_clock(deadline)
            if script.writes and not self._is_registered:
                await self._register(deadline)
            [reply] = await self._pipeline.ask((*command, self._clock.now + _FIRST_ATTEMPT_MICROS), until=deadline)
            if isinstance(reply, redis_errors.NoScriptError):  # not loaded yet, or flushed since
                _raise_errors(await self._pipeline.ask(("SCRIPT", "LOAD", script.text), until=deadline))
            elif isinstance(reply, Exception):
                raise reply
            elif (word := parse_reply("EVALSHA", _decode_word, reply)) == "DEADLINE_EXCEEDED":
                await self._refresh_clock(deadline)
            elif word not in script.replies:
                raise UnexpectedReplyError(script, word)
            else:
                return [word, *reply[1:]]

    @property
    def _is_current(self) -> bool:
        """Whether the clock is fresh and that of the Redis which gets the next call, as far as this process knows."""
        transport = self._pipeline.transport
        return self._clock.is_fresh and transport is not None and transport is self._read_over

    async def _refresh_clock(self, deadline: float) -> None:
        """Read the time of Redis, and raise if this service does not support the data there."""
        time, *stored = _raise_errors(await self._pipeline.ask(("TIME",), *READ_VERSION, until=deadline))
        now = parse_reply("TIME", time_reply_to_micros, time)
        self._is_registered = check_version(*stored, partitions=self.partitions.size, copy=self._copy)
        self._clock.set(now)
        self._read_over = self._pipeline.transport

    async def read(self, *commands: Sequence[str], isolate_errors: bool = False, name: str = "read") -> list[Any]:
        """Run read commands in one round trip and return the replies as redis-py converts them.

        The observer receives `name`.

        Raises like `run_script`. With `isolate_errors` a key of an unexpected type raises nothing: its reply is a
        `StoreCorrupt`.
        """

        async def send(deadline: float) -> list[Any]:
            if not self._is_current:
                await self._refresh_clock(deadline)
            replies = await self._pipeline.ask(*(tuple(command) for command in commands), until=deadline)
            for number, reply in enumerate(replies):
                if isolate_errors and isinstance(reply, Exception) and map_error(reply) is errors.StoreCorrupt:
                    replies[number] = to_domain_error(reply, self._pool)
            _raise_errors(replies)
            return [self._convert_reply(command[0], reply) for command, reply in zip(commands, replies, strict=True)]

        return await self.call(name, send)

    def _convert_reply(self, name: str, reply: Any) -> Any:
        convert = self.redis.response_callbacks.get(name)
        return reply if convert is None or isinstance(reply, Exception) else parse_reply(name, convert, reply)

    async def probe(self) -> None:
        """Return if Redis accepts writes and this service may make them. Raises like `run_script`, within 3 s."""

        async def send(deadline: float) -> Any:
            _, reply = _raise_errors(await self._pipeline.ask(*probe.COMMANDS, until=deadline))
            return probe.parse_versions(reply)

        check_version(*await self.call("probe", send, PING_TIMEOUT), partitions=self.partitions.size)

    async def call(
        self,
        name: str,
        command: Callable[[float], Awaitable[T]],
        time_limit: float = REQUEST_TIMEOUT,
        outcome: Callable[[T], str] = lambda _: "ok",
        first_time_limit: float | None = None,
    ) -> T:
        """Run a command within `time_limit` seconds and the time left to the request. It may be sent twice.

        `command` gets its deadline (s, as `time.monotonic`) and must raise `TimeoutError` then; `with_timeout` makes
        such a command. The first attempt has `first_time_limit` seconds (`FIRST_ATTEMPT_TIMEOUT`). Raises
        `StoreUnavailable` or `StoreCorrupt`.

        The observer receives `name`, and the `outcome` of the reply or the class name of the error.
        """
        self.observer.on_call_start()
        started, result, request_budget = time.perf_counter(), "CancelledError", budget.get()
        try:
            left = time_limit if request_budget is None else request_budget.within(time_limit)
            deadline = (now := time.monotonic()) + left
            first_time_limit = FIRST_ATTEMPT_TIMEOUT if first_time_limit is None else first_time_limit
            try:
                reply = await command(now + min(first_time_limit, left))
            except Exception as error:
                reply = await self._retry_once(command, error, deadline)
            result = outcome(reply)
        except Exception as error:
            result = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - started
            self.observer.on_call_end(name, result, seconds)
            if request_budget is not None:
                request_budget.spend(seconds)
        return reply

    async def _retry_once(self, command: Callable[[float], Awaitable[T]], error: Exception, deadline: float) -> T:
        """Run a failed command again if its outcome is unknown and there is time; otherwise raise the domain error."""
        domain_error: Exception | None = None
        try:
            if issubclass(map_error(error), AMBIGUOUS_ERRORS) and time.monotonic() + RETRY_DELAY <= deadline:
                await asyncio.sleep(RETRY_DELAY)
                try:
                    return await command(deadline)
                except Exception as second:
                    error = second
            if isinstance(error, ReplicasMissing):
                self.observer.on_replicas_missing()
            domain_error = to_domain_error(error, self._pool)
            if domain_error is error:
                raise error
            raise domain_error from error
        finally:
            # An error refers to this frame. Without this, the request would stay in memory until a garbage collection.
            del error, domain_error


def with_timeout(command: Callable[[], Awaitable[T]]) -> Callable[[float], Awaitable[T]]:
    """Return a command for `StoreClient.call` that raises `TimeoutError` at its deadline."""

    async def run(deadline: float) -> T:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await command()

    return run


def _decode_word(reply: Any) -> str:
    word: str = reply[0].decode()
    return word


def _raise_errors(replies: list[Any]) -> list[Any]:
    """Return the replies, or raise the first one that is an error."""
    for reply in replies:
        if isinstance(reply, redis_errors.RedisError):
            raise reply
    return replies
