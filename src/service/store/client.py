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
from service.store.data_version import require_known
from service.store.deadlines import DEADLINE, budget
from service.store.fsync import sync_of
from service.store.observer import Observer
from service.store.records import micros_of
from service.store.redis_errors import meaning, parsed, typed
from service.store.scripts import Source

T = TypeVar("T")

#: Seconds in which the question whether Redis takes changes is itself answered.
PING_DEADLINE: Final = 2.5
#: Seconds for which the time that Redis told is counted on from here; clocks drift apart by less than 0.1 ms in them.
CLOCK_FRESH: Final = 10.0
#: Seconds after which a first try without an answer is given up for the second one.
FIRST_TRY: Final = PATIENCE
#: Seconds before the second try: whatever reset one connection may be about to reset the others of the pool too.
PAUSE: Final = 0.05
#: Failures after which the command may or may not have run: the ones to try again, with the same change id.
_UNCERTAIN: Final = (errors.StoreUnreachable, errors.StoreTimeout)


class UnknownReply(Exception):
    """A script answered with a word that its header does not name: a bug."""

    def __init__(self, source: Source, word: str) -> None:
        super().__init__(f"{source.name}.lua answered {word!r}")


class ServerClock:
    """The time of Redis, guessed from what it said last: never ahead of it, but for drift since then."""

    def __init__(self) -> None:
        self._ahead = 0
        self._read_at = -math.inf

    @property
    def is_fresh(self) -> bool:
        """Say whether Redis told the time lately."""
        return time.monotonic() - self._read_at < CLOCK_FRESH

    @property
    def now(self) -> int:
        """Microseconds since 1970."""
        return self._ahead + time.monotonic_ns() // 1000

    def set(self, micros: int) -> None:
        """Take over a time that Redis has just told."""
        self._ahead = micros - time.monotonic_ns() // 1000
        self._read_at = time.monotonic()


class Gateway:
    """Runs scripts and reading commands, each as one call within the deadline."""

    def __init__(self, pool: ConnectionPool, observer: Observer, *, waitaof: bool = False) -> None:
        """Work through `pool`; with `waitaof` return what a change is answered once Redis has synced it.

        Raises `ValueError` if `pool` decodes replies: JSON passes through as bytes.
        """
        if pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the pool decodes replies; allowed: a pool with decode_responses=False")
        self._pipeline = pipeline_of(pool)
        self._sync = sync_of(pool) if waitaof else None
        self._observer = observer
        self._clock = ServerClock()
        self._pool = pool
        #: For what is asked seldom; it knows, too, the forms of replies that have one of their own.
        self.redis: Redis = Redis(connection_pool=pool)

    async def run(self, source: Source, names: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Run a script in one round trip and return its reply: a word, then what its header says.

        A try whose outcome is unknown is followed by a second one, so `args` must carry what lets the script see that
        it ran before; and it does nothing if it reaches Redis only after it was given up, or on newer data. Raises
        `StoreUnavailable` or `StoreCorrupt`.
        """

        async def send(until: float) -> list[Any]:
            reply = await self._in_time(source, names, args, until)
            if reply[0] not in source.words:
                raise UnknownReply(source, reply[0])
            return reply

        reply = await self.call(source.name, send, outcome=operator.itemgetter(0))
        if self._sync is not None and source.writes:
            await self.call("sync", by(self._sync.wait), first_try=DEADLINE)
        return reply

    async def _in_time(self, source: Source, names: Sequence[str], args: Sequence[Any], until: float) -> list[Any]:
        """Send a script with the moment after which it must not run, again where Redis's clock was misjudged."""
        while True:
            if not self._clock.is_fresh:
                await self._look(until)
            not_after = self._clock.now + int(FIRST_TRY * 1e6)
            command = ("EVALSHA", source.sha, len(names), *names, not_after, *args)
            [reply] = await self._pipeline.ask(command, until=until)
            if isinstance(reply, redis_errors.NoScriptError):  # not loaded yet, or flushed since
                _checked(await self._pipeline.ask(("SCRIPT", "LOAD", source.text), until=until))
            elif isinstance(reply, Exception):
                raise reply
            elif (words := parsed("EVALSHA", _words, reply))[0] != "LATE":
                return words
            else:
                await self._look(until)

    async def _look(self, until: float) -> None:
        """Ask what time it is at Redis, and whether the data there, then or later, may be changed by this service."""
        time, version = _checked(await self._pipeline.ask(("TIME",), ("GET", keys.VERSION), until=until))
        now = parsed("TIME", micros_of, time)
        require_known(version)
        self._clock.set(now)

    async def read_raw(self, *commands: tuple[str, ...]) -> list[Any]:
        """Run reading commands in one round trip and return their replies as they came. Raises as `run`."""

        async def send(until: float) -> list[Any]:
            return _checked(await self._pipeline.ask(*commands, until=until))

        return await self.call("read", send)

    async def read(self, *commands: Sequence[str], apart: bool = False) -> list[Any]:
        """Run reading commands in one round trip and return their replies in the forms of redis-py. Raises as `run`.

        Apart, a key that is not ours is a `StoreCorrupt` in the place of its reply, and harms no other.
        """

        async def send(until: float) -> list[Any]:
            replies = await self._pipeline.ask(*(tuple(command) for command in commands), until=until)
            for number, reply in enumerate(replies):
                if apart and isinstance(reply, Exception) and meaning(reply) is errors.StoreCorrupt:
                    replies[number] = typed(reply, self._pool)
            _checked(replies)
            return [self._formed(command[0], reply) for command, reply in zip(commands, replies, strict=True)]

        return await self.call("read", send)

    def _formed(self, name: str, reply: Any) -> Any:
        form = self.redis.response_callbacks.get(name)
        return reply if form is None or isinstance(reply, Exception) else parsed(name, form, reply)

    async def probe(self) -> None:
        """Return when Redis would take a change, and this service may make one. Raises as `run`, within 3 s."""

        async def send(until: float) -> Any:
            load, run = probe.commands()
            _, reply = _checked(await self._pipeline.ask(load, run, until=until))
            return probe.version_from(reply)

        require_known(await self.call("probe", send, PING_DEADLINE))

    async def call(
        self,
        name: str,
        command: Callable[[float], Awaitable[T]],
        deadline: float = DEADLINE,
        outcome: Callable[[T], str] = lambda _: "ok",
        first_try: float | None = None,
    ) -> T:
        """Run a command that may be sent twice without harm, the first time for `first_try` seconds (`FIRST_TRY`).

        It is told when it must have ended (s, as `time.monotonic`), with a `TimeoutError` if it is not done; `by` makes
        one of what has no such end. Raises `StoreUnavailable` or `StoreCorrupt`.

        The observer hears of it under `name` and the `outcome` of its reply or the name of its error.
        """
        self._observer.calling()
        started, heard, own = time.perf_counter(), "CancelledError", budget.get()
        try:
            left = deadline if own is None else own.within(deadline)
            until = (began := time.monotonic()) + left
            try:
                reply = await command(began + min(FIRST_TRY if first_try is None else first_try, left))
            except Exception as error:
                reply = await self._once_more(command, error, until)
            heard = outcome(reply)
        except Exception as error:
            heard = type(error).__name__
            raise
        finally:
            took = time.perf_counter() - started
            self._observer.called(name, heard, took)
            if own is not None:
                own.spend(took)
        return reply

    async def _once_more(self, command: Callable[[float], Awaitable[T]], error: Exception, until: float) -> T:
        """Run a command again whose first try has failed, where that may help; else raise what the failure means."""
        known: Exception | None = None
        try:
            if issubclass(meaning(error), _UNCERTAIN) and time.monotonic() + PAUSE <= until:
                await asyncio.sleep(PAUSE)
                try:
                    return await command(until)
                except Exception as second:
                    error = second
            known = typed(error, self._pool)
            if known is error:
                raise error
            raise known from error
        finally:
            del error, known  # which hold this frame: all, and the request, would wait for the garbage collector


def by(command: Callable[[], Awaitable[T]]) -> Callable[[float], Awaitable[T]]:
    """Return a command that ends at the moment that it is told."""

    async def ended(until: float) -> T:
        async with asyncio.timeout(until - time.monotonic()):
            return await command()

    return ended


def _words(reply: Any) -> list[Any]:
    word, *values = reply
    return [word.decode(), *values]


def _checked(replies: list[Any]) -> list[Any]:
    """Return replies; raise the first that is an error of redis-py."""
    for reply in replies:
        if isinstance(reply, redis_errors.RedisError):
            raise reply
    return replies
