"""One call of Redis: within a deadline, tried twice, errors told apart."""

import asyncio
import math
import operator
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis

from service.domain import errors
from service.store import keys, probe
from service.store.auto_pipeline import PATIENCE, pipeline_of
from service.store.data_version import check_supported
from service.store.deadlines import REQUEST_TIMEOUT, budget
from service.store.fsync import fsync_waiter_of
from service.store.observer import Observer
from service.store.records import time_reply_to_micros
from service.store.redis_errors import map_error, parse_reply, to_domain_error
from service.store.scripts import Script

T = TypeVar("T")

#: Seconds in which the question whether Redis takes changes is itself answered.
PING_TIMEOUT: Final = 2.5
#: Seconds for which the time that Redis told is counted on from here; clocks drift apart by less than 0.1 ms in them.
CLOCK_MAX_AGE: Final = 10.0
#: Seconds after which a first try without an answer is given up for the second one.
FIRST_ATTEMPT_TIMEOUT: Final = PATIENCE
#: Seconds before the second try: whatever reset one connection may be about to reset the others of the pool too.
RETRY_DELAY: Final = 0.05
#: Failures after which the command may or may not have run: the ones to try again, with the same change id.
AMBIGUOUS_ERRORS: Final = (errors.StoreUnreachable, errors.StoreTimeout)


class UnexpectedReplyError(Exception):
    """A script answered with a word that its header does not name: a bug."""

    def __init__(self, source: Script, word: str) -> None:
        super().__init__(f"{source.name}.lua answered {word!r}")


class ServerClock:
    """The time of Redis, guessed from what it said last: never ahead of it, but for drift since then."""

    def __init__(self) -> None:
        self._ahead = 0
        self._read_at = -math.inf

    @property
    def is_fresh(self) -> bool:
        """Say whether Redis told the time lately."""
        return time.monotonic() - self._read_at < CLOCK_MAX_AGE

    @property
    def now(self) -> int:
        """Microseconds since 1970."""
        return self._ahead + time.monotonic_ns() // 1000

    def set(self, micros: int) -> None:
        """Take over a time that Redis has just told."""
        self._ahead = micros - time.monotonic_ns() // 1000
        self._read_at = time.monotonic()


class StoreClient:
    """Runs scripts and reading commands, each as one call within the deadline."""

    def __init__(self, pool: ConnectionPool, observer: Observer, *, waitaof: bool = False) -> None:
        """Work through `pool`; with `waitaof` return what a change is answered once Redis has synced it.

        Raises `ValueError` if `pool` decodes replies: JSON passes through as bytes.
        """
        if pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the pool decodes replies; allowed: a pool with decode_responses=False")
        self._pipeline = pipeline_of(pool)
        self._sync = fsync_waiter_of(pool) if waitaof else None
        self._observer = observer
        self._clock = ServerClock()
        self._pool = pool
        #: For what is asked seldom; it knows, too, the forms of replies that have one of their own.
        self.redis: Redis = Redis(connection_pool=pool)

    async def run_script(self, source: Script, names: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Run a script in one round trip and return its reply: a word, then what its header says.

        A try whose outcome is unknown is followed by a second one, so `args` must carry what lets the script see that
        it ran before; and it does nothing if it reaches Redis only after it was given up, or on newer data. Raises
        `StoreUnavailable` or `StoreCorrupt`.
        """

        async def send(until: float) -> list[Any]:
            reply = await self._run_before_deadline(source, names, args, until)
            if reply[0] not in source.replies:
                raise UnexpectedReplyError(source, reply[0])
            return reply

        reply = await self.call(source.name, send, outcome=operator.itemgetter(0))
        if self._sync is not None and source.writes:
            await self.call("sync", with_timeout(self._sync.wait), first_try=REQUEST_TIMEOUT)
        return reply

    async def _run_before_deadline(
        self, source: Script, names: Sequence[str], args: Sequence[Any], until: float
    ) -> list[Any]:
        """Send a script with the moment after which it must not run, again where Redis's clock was misjudged."""
        while True:
            if not self._clock.is_fresh:
                await self._refresh_clock(until)
            not_after = self._clock.now + int(FIRST_ATTEMPT_TIMEOUT * 1e6)
            command = ("EVALSHA", source.sha, len(names), *names, not_after, *args)
            [reply] = await self._pipeline.ask(command, until=until)
            if isinstance(reply, redis_errors.NoScriptError):  # not loaded yet, or flushed since
                _raise_errors(await self._pipeline.ask(("SCRIPT", "LOAD", source.text), until=until))
            elif isinstance(reply, Exception):
                raise reply
            elif (words := parse_reply("EVALSHA", _words, reply))[0] != "LATE":
                return words
            else:
                await self._refresh_clock(until)

    async def _refresh_clock(self, until: float) -> None:
        """Ask what time it is at Redis, and whether the data there, then or later, may be changed by this service."""
        time, version = _raise_errors(await self._pipeline.ask(("TIME",), ("GET", keys.VERSION), until=until))
        now = parse_reply("TIME", time_reply_to_micros, time)
        check_supported(version)
        self._clock.set(now)

    async def read_raw(self, *commands: tuple[str, ...]) -> list[Any]:
        """Run reading commands in one round trip and return their replies as they came. Raises as `run`."""

        async def send(until: float) -> list[Any]:
            return _raise_errors(await self._pipeline.ask(*commands, until=until))

        return await self.call("read", send)

    async def read(self, *commands: Sequence[str], isolate_errors: bool = False) -> list[Any]:
        """Run reading commands in one round trip and return their replies in the forms of redis-py. Raises as `run`.

        Apart, a key that is not ours is a `StoreCorrupt` in the place of its reply, and harms no other.
        """

        async def send(until: float) -> list[Any]:
            replies = await self._pipeline.ask(*(tuple(command) for command in commands), until=until)
            for number, reply in enumerate(replies):
                if isolate_errors and isinstance(reply, Exception) and map_error(reply) is errors.StoreCorrupt:
                    replies[number] = to_domain_error(reply, self._pool)
            _raise_errors(replies)
            return [self._convert_reply(command[0], reply) for command, reply in zip(commands, replies, strict=True)]

        return await self.call("read", send)

    def _convert_reply(self, name: str, reply: Any) -> Any:
        form = self.redis.response_callbacks.get(name)
        return reply if form is None or isinstance(reply, Exception) else parse_reply(name, form, reply)

    async def probe(self) -> None:
        """Return when Redis would take a change, and this service may make one. Raises as `run`, within 3 s."""

        async def send(until: float) -> Any:
            load, run = probe.commands()
            _, reply = _raise_errors(await self._pipeline.ask(load, run, until=until))
            return probe.version_from(reply)

        check_supported(await self.call("probe", send, PING_TIMEOUT))

    async def call(
        self,
        name: str,
        command: Callable[[float], Awaitable[T]],
        deadline: float = REQUEST_TIMEOUT,
        outcome: Callable[[T], str] = lambda _: "ok",
        first_try: float | None = None,
    ) -> T:
        """Run a command that may be sent twice without harm, the first time for `first_try` seconds (`FIRST_ATTEMPT_TIMEOUT`).

        It is told when it must have ended (s, as `time.monotonic`), with a `TimeoutError` if it is not done; `by` makes
        one of what has no such end. Raises `StoreUnavailable` or `StoreCorrupt`.

        The observer hears of it under `name` and the `outcome` of its reply or the name of its error.
        """
        self._observer.on_call_start()
        started, heard, own = time.perf_counter(), "CancelledError", budget.get()
        try:
            left = deadline if own is None else own.within(deadline)
            until = (began := time.monotonic()) + left
            try:
                reply = await command(began + min(FIRST_ATTEMPT_TIMEOUT if first_try is None else first_try, left))
            except Exception as error:
                reply = await self._retry_once(command, error, until)
            heard = outcome(reply)
        except Exception as error:
            heard = type(error).__name__
            raise
        finally:
            took = time.perf_counter() - started
            self._observer.on_call_end(name, heard, took)
            if own is not None:
                own.spend(took)
        return reply

    async def _retry_once(self, command: Callable[[float], Awaitable[T]], error: Exception, until: float) -> T:
        """Run a command again whose first try has failed, where that may help; else raise what the failure means."""
        known: Exception | None = None
        try:
            if issubclass(map_error(error), AMBIGUOUS_ERRORS) and time.monotonic() + RETRY_DELAY <= until:
                await asyncio.sleep(RETRY_DELAY)
                try:
                    return await command(until)
                except Exception as second:
                    error = second
            known = to_domain_error(error, self._pool)
            if known is error:
                raise error
            raise known from error
        finally:
            del error, known  # which hold this frame: all, and the request, would wait for the garbage collector


def with_timeout(command: Callable[[], Awaitable[T]]) -> Callable[[float], Awaitable[T]]:
    """Return a command that ends at the moment that it is told."""

    async def ended(until: float) -> T:
        async with asyncio.timeout(until - time.monotonic()):
            return await command()

    return ended


def _words(reply: Any) -> list[Any]:
    word, *values = reply
    return [word.decode(), *values]


def _raise_errors(replies: list[Any]) -> list[Any]:
    """Return replies; raise the first that is an error of redis-py."""
    for reply in replies:
        if isinstance(reply, redis_errors.RedisError):
            raise reply
    return replies
