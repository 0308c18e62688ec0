"""The pool of connections to Redis, and one call through it: within a deadline, tried twice, errors told apart."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript

from service.domain import errors
from service.store.scripts import ALL, Source

T = TypeVar("T")

#: Seconds that one request may spend on Redis, waiting for a connection and the second try included.
DEADLINE: Final = 3.0
#: Seconds in which the question whether Redis answers is itself answered.
PING_DEADLINE: Final = 2.5
#: Seconds after the deadline at which a call that slept through it is cancelled again: up to Python 3.11 `wait_for`,
#: which redis-py sends with, swallows a cancellation that comes as it finishes.
SECOND_BELL: Final = 0.2
#: Seconds after which a first try without an answer is given up for the second one.
FIRST_TRY: Final = 1.5

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
    (redis_errors.ClusterDownError, errors.StoreReadOnly),  # MASTERDOWN too
    (redis_errors.TimeoutError, errors.StoreTimeout),
    (TimeoutError, errors.StoreTimeout),
    (redis_errors.ConnectionError, errors.StoreUnreachable),
    (OSError, errors.StoreUnreachable),
)
#: Failures after which the command may or may not have run: the ones to try again, with the same change id.
_UNCERTAIN: Final = (errors.StoreUnreachable, errors.StoreTimeout)


def connect(url: str, *, max_connections: int = 64) -> BlockingConnectionPool:
    """Return a pool for `url` (`redis://`, `rediss://`, `unix://`); it connects when it is first used.

    Time-outs of 3 s, a health check of connections idle for 30 s, and no retries of its own: see `Gateway.run`.
    """
    return BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=DEADLINE,
        socket_timeout=DEADLINE,
        socket_connect_timeout=DEADLINE,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
    )


class UnknownReply(Exception):
    """A script answered with a word that its header does not name: a bug."""

    def __init__(self, source: Source, word: str) -> None:
        super().__init__(f"{source.name}.lua answered {word!r}")


class Gateway:
    """Runs scripts and pipelines, each as one call within the deadline."""

    def __init__(self, pool: ConnectionPool) -> None:
        """Work through `pool`; raises `ValueError` if it decodes replies: JSON passes through as bytes."""
        if pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the pool decodes replies; allowed: a pool with decode_responses=False")
        self.redis: Redis = Redis(connection_pool=pool)
        self._scripts: dict[str, AsyncScript] = {source.name: self.redis.register_script(source.text) for source in ALL}

    async def run(self, source: Source, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Run a script in one round trip and return its reply: a word, then what its header says.

        A try whose outcome is unknown is followed by a second one, so `args` must carry what lets the script see that
        it ran before. Raises `StoreUnavailable` or `StoreCorrupt`.
        """
        reply: list[Any] = await self.call(lambda: self._scripts[source.name](keys, args))
        word = reply[0].decode()
        if word not in source.words:
            raise UnknownReply(source, word)
        return [word, *reply[1:]]

    async def read(self, *commands: Sequence[str]) -> list[Any]:
        """Run reading commands in one round trip and return their replies. Raises as `run`."""

        async def send() -> list[Any]:
            async with self.redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):  # as Redis said it: redis-py would put words of its own in front
                    raise reply
            return replies

        return await self.call(send)

    async def call(self, command: Callable[[], Awaitable[T]], deadline: float = DEADLINE) -> T:
        """Run a command that may be sent twice without harm. Raises `StoreUnavailable` or `StoreCorrupt`."""
        try:
            async with asyncio.timeout(deadline + SECOND_BELL), asyncio.timeout(deadline):
                try:
                    async with asyncio.timeout(FIRST_TRY):
                        return await command()
                except Exception as error:
                    if not issubclass(meaning(error), _UNCERTAIN):
                        raise
                return await command()
        except Exception as error:
            kind = meaning(error)
            if kind is type(error) or not issubclass(kind, errors.JobStateError):
                raise
            raise kind(f"{kind.__doc__} ({str(error) or 'no answer'})") from error


def meaning(error: Exception) -> type[Exception]:
    """Return the domain error that an error of redis-py or of the network stands for; its own type if none does."""
    for raised, meant in _ERRORS:
        if isinstance(error, raised):
            return meant
    if isinstance(error, redis_errors.ResponseError):
        return _REPLY_ERRORS.get(str(error).split(" ", 1)[0], type(error))
    return type(error)
