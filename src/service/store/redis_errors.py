"""Maps failures of Redis, of its connections and of its replies to domain errors."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool

from service.domain import errors

T = TypeVar("T")

#: Error replies without a class in redis-py, by their first word.
_REPLY_ERRORS: Final = {
    "BUSY": errors.StoreBusy,
    "CORRUPT": errors.StoreCorrupt,
    "MISCONF": errors.StoreReadOnly,
    "NOREPLICAS": errors.StoreReadOnly,
    "WRONGTYPE": errors.StoreCorrupt,
}
#: What a node replies when it does not have a key, or not now. redis-py's `AskError` includes `MovedError`.
REDIRECTIONS: Final = (redis_errors.AskError, redis_errors.TryAgainError, redis_errors.ClusterDownError)
#: The errors of a node: of a connection to it, and in its replies. `TimeoutError` is an `OSError`.
NODE_ERRORS: Final = (redis_errors.RedisError, OSError, RuntimeError)
#: The first match counts. The last two rows are the defaults, for connections and for error replies.
_ERRORS: Final[tuple[tuple[tuple[type[Exception], ...], type[errors.JobStateError]], ...]] = (
    ((redis_errors.BusyLoadingError,), errors.StoreLoading),
    ((redis_errors.AskError, redis_errors.TryAgainError), errors.StoreMoving),
    ((redis_errors.AuthenticationError, redis_errors.AuthorizationError), errors.StoreAccessDenied),
    ((redis_errors.ExternalAuthProviderError,), errors.StoreAccessDenied),
    ((redis_errors.OutOfMemoryError,), errors.StoreOutOfMemory),
    ((redis_errors.ReadOnlyError, redis_errors.MasterDownError), errors.StoreReadOnly),
    ((redis_errors.ClusterDownError,), errors.StorePartitionUnavailable),
    ((redis_errors.TimeoutError, TimeoutError), errors.StoreTimeout),
    ((redis_errors.ConnectionError, redis_errors.InvalidResponse, OSError), errors.StoreUnreachable),
    ((redis_errors.RedisError,), errors.StoreAccessDenied),
)
#: The most characters of an error text of Redis that are shown.
MAX_ERROR_TEXT: Final = 300
#: Redis quotes the arguments of an unknown command, which may be passwords or job data.
_ARGUMENTS: Final = re.compile(r",? with args beginning with:.*", re.DOTALL)
_SECRETS: Final = ("password", "ssl_password")


class UnreadableReply(redis_errors.InvalidResponse):
    """A reply does not have the form of the command's replies: the server is not Redis."""


def map_error(error: Exception) -> type[Exception]:
    """Return the domain error class for an error of redis-py or of the network, or else the error's own class."""
    # redis-py wraps an error reply during connection setup in a bare `ConnectionError`.
    if type(error) is redis_errors.ConnectionError and isinstance(error.__cause__, redis_errors.RedisError):
        return map_error(error.__cause__)
    if type(error) is RuntimeError and "handler is closed" in str(error):
        return errors.StoreUnreachable  # uvloop, when writing to a connection that was reset
    if type(error) is redis_errors.ResponseError and (mapped := _REPLY_ERRORS.get(str(error).split(" ", 1)[0])):
        return mapped
    return next((mapped for raised, mapped in _ERRORS if isinstance(error, raised)), type(error))


def parse_reply(command: str, parse: Callable[[Any], T], reply: Any) -> T:
    """Return a reply converted by `parse`. Raises `UnreadableReply` if `parse` fails."""
    try:
        return parse(reply)
    except Exception as error:
        raise UnreadableReply(f"unexpected reply to {command}") from error


def to_domain_error(error: Exception, pool: ConnectionPool) -> Exception:
    """Return the domain error for `error`, with the error text of Redis, or `error` itself if there is none."""
    kind = map_error(error)
    if kind is type(error) or not issubclass(kind, errors.JobStateError):
        return error
    return kind(f"{kind.default_detail} ({error_text(error, pool)})")


def error_text(error: Exception, pool: ConnectionPool) -> str:
    """Return the text of an error, without passwords and without the arguments of commands."""
    if isinstance(error, RuntimeError):
        return "connection reset"
    text = _ARGUMENTS.sub("", str(error)) or "no answer"
    for name in _SECRETS:
        if secret := pool.connection_kwargs.get(name):
            # Only as a word: a short password may be a part of any word, and its gaps would give it away.
            text = re.sub(rf"(?<!\w){re.escape(str(secret))}(?!\w)", "***", text)
    if isinstance(error, redis_errors.InvalidResponse):
        text = f"the server does not speak the Redis protocol: {text}"
    return text[:MAX_ERROR_TEXT]


def raise_errors(replies: list[Any]) -> list[Any]:
    """Return the replies, or raise the first one that is an error."""
    for reply in replies:
        if isinstance(reply, redis_errors.RedisError):
            raise reply
    return replies
