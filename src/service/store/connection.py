"""One call of Redis: within a deadline, tried twice, errors told apart."""

import asyncio
import contextlib
import math
import operator
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis
from redis.commands.core import AsyncScript

from service.domain import errors
from service.store import keys
from service.store.budget import DEADLINE, budget
from service.store.observer import Observer
from service.store.scripts import ALL, Source
from service.store.version import read_time, require_known

T = TypeVar("T")

#: Seconds in which the question whether Redis takes changes is itself answered.
PING_DEADLINE: Final = 2.5
#: Seconds for which the time that Redis told is counted on from here; clocks drift apart by less than 0.1 ms in them.
CLOCK_FRESH: Final = 10.0
#: Seconds after the deadline at which a call that slept through it is cancelled again: up to Python 3.11 `wait_for`,
#: which redis-py sends with, swallows a cancellation that comes as it finishes.
SECOND_BELL: Final = 0.2
#: Seconds after which a first try without an answer is given up for the second one.
FIRST_TRY: Final = 1.5
#: Seconds before the second try: whatever reset one connection may be about to reset the others of the pool too.
PAUSE: Final = 0.05
#: Reads the version of the data, and is refused where every change would be: by a replica, over a broken disk. Not at
#: the memory limit, where there is still reading and, what helps, deleting to do.
_PROBE: Final = "#!lua flags=allow-oom\nreturn redis.call('GET', KEYS[1])"

_REPLY_ERRORS: Final = {
    "BUSY": errors.StoreBusy,
    "CORRUPT": errors.StoreCorrupt,
    "MISCONF": errors.StoreReadOnly,
    "NOAUTH": errors.StoreRefused,
    "NOPERM": errors.StoreRefused,
    "NOREPLICAS": errors.StoreReadOnly,
    "WRONGPASS": errors.StoreRefused,
    "WRONGTYPE": errors.StoreCorrupt,
}
_ERRORS: Final[tuple[tuple[type[Exception], type[errors.JobStateError]], ...]] = (
    (redis_errors.BusyLoadingError, errors.StoreLoading),
    (redis_errors.AuthenticationError, errors.StoreRefused),
    (redis_errors.AuthorizationError, errors.StoreRefused),
    (redis_errors.NoPermissionError, errors.StoreRefused),
    (redis_errors.OutOfMemoryError, errors.StoreFull),
    (redis_errors.ReadOnlyError, errors.StoreReadOnly),
    (redis_errors.MasterDownError, errors.StoreReadOnly),
    (redis_errors.ClusterDownError, errors.StoreRefused),  # and the others of a cluster, which is not served
    (redis_errors.MovedError, errors.StoreRefused),
    (redis_errors.TryAgainError, errors.StoreRefused),
    (redis_errors.ClusterCrossSlotError, errors.StoreRefused),
    (redis_errors.TimeoutError, errors.StoreTimeout),
    (TimeoutError, errors.StoreTimeout),
    (redis_errors.ConnectionError, errors.StoreUnreachable),
    (OSError, errors.StoreUnreachable),
)
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
    """Runs scripts and pipelines, each as one call within the deadline."""

    def __init__(self, pool: ConnectionPool, observer: Observer) -> None:
        """Work through `pool`; raises `ValueError` if it decodes replies: JSON passes through as bytes."""
        if pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the pool decodes replies; allowed: a pool with decode_responses=False")
        self.redis: Redis = Redis(connection_pool=pool)
        self._observer = observer
        self._clock = ServerClock()
        self._scripts: dict[str, AsyncScript] = {source.name: self.redis.register_script(source.text) for source in ALL}

    async def run(self, source: Source, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Run a script in one round trip and return its reply: a word, then what its header says.

        A try whose outcome is unknown is followed by a second one, so `args` must carry what lets the script see that
        it ran before; and it does nothing if it reaches Redis only after it was given up, or on newer data. Raises
        `StoreUnavailable` or `StoreCorrupt`.
        """

        async def send() -> list[Any]:
            reply = await self._in_time(self._scripts[source.name], keys, args)
            word = reply[0].decode()
            if word not in source.words:
                raise UnknownReply(source, word)
            return [word, *reply[1:]]

        return await self.call(source.name, send, outcome=operator.itemgetter(0))

    async def _in_time(self, script: AsyncScript, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Send a script with the moment after which it must not run, again where Redis's clock was misjudged."""
        while True:
            if not self._clock.is_fresh:
                self._clock.set(await read_time(self.redis))
            with contextlib.suppress(redis_errors.NoScriptError):  # flushed between its loading and its call
                reply: list[Any] = await script(keys, [self._clock.now + int(FIRST_TRY * 1e6), *args])
                if reply[0] != b"LATE":
                    return reply
                self._clock.set(await read_time(self.redis))

    async def read(self, *commands: Sequence[str], apart: bool = False) -> list[Any]:
        """Run reading commands in one round trip and return their replies. Raises as `run`.

        Apart, a key that is not ours is a `StoreCorrupt` in the place of its reply, and harms no other.
        """

        async def send() -> list[Any]:
            async with self.redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=False)
            for number, reply in enumerate(replies):
                if apart and isinstance(reply, Exception) and meaning(reply) is errors.StoreCorrupt:
                    replies[number] = errors.StoreCorrupt(f"{errors.StoreCorrupt.__doc__} ({reply})")
                elif isinstance(reply, Exception):  # as Redis said it: redis-py would put words of its own in front
                    raise reply
            return replies

        return await self.call("read", send)

    async def probe(self) -> None:
        """Return when Redis would take a change, and this service may make one. Raises as `run`, within 3 s."""
        require_known(await self.call("probe", lambda: self.redis.eval(_PROBE, 1, keys.VERSION), PING_DEADLINE))

    async def call(
        self,
        name: str,
        command: Callable[[], Awaitable[T]],
        deadline: float = DEADLINE,
        outcome: Callable[[T], str] = lambda _: "ok",
    ) -> T:
        """Run a command that may be sent twice without harm. Raises `StoreUnavailable` or `StoreCorrupt`.

        The observer hears of it under `name` and the `outcome` of its reply or the name of its error.
        """
        self._observer.calling()
        started, heard, own = time.perf_counter(), "CancelledError", budget.get()
        try:
            reply = await self._attempt(command, deadline if own is None else own.within(deadline))
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

    async def _attempt(self, command: Callable[[], Awaitable[T]], deadline: float) -> T:
        try:
            async with asyncio.timeout(deadline + SECOND_BELL), asyncio.timeout(deadline):
                try:
                    async with asyncio.timeout(FIRST_TRY):
                        return await command()
                except Exception as error:
                    if not issubclass(meaning(error), _UNCERTAIN):
                        raise
                await asyncio.sleep(PAUSE)
                return await command()
        except Exception as error:
            kind = meaning(error)
            if kind is type(error) or not issubclass(kind, errors.JobStateError):
                raise
            reason = "connection reset" if isinstance(error, RuntimeError) else str(error) or "no answer"
            raise kind(f"{kind.__doc__} ({reason})") from error


def meaning(error: Exception) -> type[Exception]:
    """Return the domain error that an error of redis-py or of the network stands for; its own type if none does.

    What Redis says while a connection is set up comes wrapped in a bare `ConnectionError`.
    """
    if type(error) is redis_errors.ConnectionError and isinstance(error.__cause__, redis_errors.RedisError):
        return meaning(error.__cause__)
    for raised, meant in _ERRORS:
        if isinstance(error, raised):
            return meant
    if type(error) is RuntimeError and "handler is closed" in str(error):
        return errors.StoreUnreachable  # what uvloop says of a connection that was reset before something is sent on it
    if isinstance(error, redis_errors.ResponseError):
        return _REPLY_ERRORS.get(str(error).split(" ", 1)[0], type(error))
    return type(error)
