"""The channel of the pipeline: it writes calls to an open connection while it reads the replies to others."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from hiredis import PushNotification, Reader
from redis import exceptions as redis_errors
from redis.asyncio.connection import DefaultParser

#: The most calls that are sent and not yet answered. It bounds the memory for replies.
MAX_IN_FLIGHT: Final = 1000
#: Bytes after which one write ends. Further calls wait while the transport does not accept more.
WRITE_BYTES: Final = 65_536
#: The most calls that get their replies in one tick of the event loop. Their callers can then send on while the other
#: replies are read. Otherwise the callers and Redis would wait for each other in turn.
REPLIES_PER_TICK: Final = 16
#: Seconds after which a connection without a reply is closed.
REPLY_TIMEOUT: Final = 1.5
#: Seconds after which an idle connection is returned to the pool, and after which a busy one is returned too, because
#: redis-py checks connections there.
IDLE_TIMEOUT: Final = 1.0
MAX_HOLD: Final = 10.0

#: The future replies to the commands of a call.
Replies = asyncio.Future[list[Any]]

_INCOMPLETE: Final = object()


@dataclass(slots=True, eq=False)
class Call:
    """Commands of one caller: packed until they are sent, with the time (`time.monotonic`) at which they fail."""

    packed: bytes
    commands: int
    replies: Replies
    until: float

    def fail(self, error: Exception) -> None:
        """Raise an error in the caller, if it still waits."""
        if not self.replies.done():
            self.replies.set_exception(error)


class Channel(asyncio.Protocol):
    """Sends waiting calls over a connection of redis-py, and gives them their replies.

    It replaces the protocol of the connection's transport, and puts it back when it is closed.
    """

    def __init__(self, transport: asyncio.Transport, waiting: deque[Call], *, keep_idle: bool) -> None:
        self._transport = transport
        self._waiting = waiting
        self._keep_idle = keep_idle
        #: The calls that are sent and not yet answered, and the replies to the first one so far.
        self.in_flight: deque[Call] = deque()
        self._replies: list[Any] = []
        self._reader = Reader(
            protocolError=redis_errors.InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._may_write = True
        self._is_draining = False
        #: Whether the connection can be used further, once it is closed for calls.
        self.closed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        #: When the last reply arrived, or the first call was sent to an idle connection.
        self._active_at = time.monotonic()
        self._release_at = self._active_at + MAX_HOLD
        self._stream_protocol = transport.get_protocol()
        transport.set_protocol(self)

    def send(self) -> None:
        """Send waiting calls as far as the transport accepts them."""
        while self._waiting and self._may_write and not (self._is_draining or self._transport.is_closing()):
            if not self.in_flight:
                self._active_at = time.monotonic()
            if not (packed := self._take()):
                return
            self._transport.write(b"".join(packed))

    def _take(self) -> list[bytes]:
        """Return what to send next, without the calls of cancelled callers."""
        packed, size = [], 0
        while self._waiting and size < WRITE_BYTES and len(self.in_flight) < MAX_IN_FLIGHT:
            call = self._waiting.popleft()
            if not call.replies.done():
                packed.append(call.packed)
                size += len(call.packed)
                call.packed = b""
                self.in_flight.append(call)
        return packed

    def pause_writing(self) -> None:
        """Let calls wait."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Send the calls that wait."""
        self._may_write = True
        self.send()

    def data_received(self, data: bytes) -> None:
        """Give replies to their calls."""
        self._reader.feed(data)
        self._deliver()

    def _deliver(self) -> None:
        """Give some replies to their calls now, and the others in the next ticks of the event loop."""
        if self._answer(REPLIES_PER_TICK) == REPLIES_PER_TICK:
            asyncio.get_running_loop().call_soon(self._deliver)
        if self._waiting:
            self.send()
        if not self.in_flight and (self._is_draining or not (self._keep_idle or self._waiting)):
            self.close()

    def _answer(self, limit: int) -> int:
        """Give up to `limit` calls their replies, and return how many got them."""
        answered = 0
        try:
            while answered < limit and (reply := self._reader.gets()) is not _INCOMPLETE:
                if type(reply) is not PushNotification:
                    answered += self._add(reply)
        except Exception as error:
            self.close(connection_error(error))
        if answered:
            self._active_at = time.monotonic()
        return answered

    def _add(self, reply: Any) -> bool:
        """Add a reply to those of the first call in flight, and return whether it was the last one."""
        if not self.in_flight:
            raise redis_errors.InvalidResponse("a reply without a command")
        call = self.in_flight[0]
        self._replies.append(reply)
        if len(self._replies) < call.commands:
            return False
        self.in_flight.popleft()
        replies, self._replies = self._replies, []
        if not call.replies.done():
            call.replies.set_result(replies)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the calls whose replies have not arrived."""
        self._answer(MAX_IN_FLIGHT)
        self.close(redis_errors.ConnectionError(str(error or "Connection closed by server.")))
        self._stream_protocol.connection_lost(error)

    def close(self, error: Exception | None = None) -> None:
        """Use the connection no longer. Calls in flight fail with `error`; without one, it can be used by others."""
        if self.closed.done():
            return
        self.closed.set_result(error is None and not self._reader.has_data())
        self._may_write = False
        self._transport.set_protocol(self._stream_protocol)
        if error is not None:
            self._transport.abort()
            fail(self.in_flight, error)

    def check(self, now: float) -> None:
        """Close a connection without a reply for `REPLY_TIMEOUT`, and one that is idle too long or held too long."""
        silence = now - self._active_at
        self._is_draining = now >= self._release_at
        if self.in_flight and silence >= REPLY_TIMEOUT:
            self.close(TimeoutError())
        elif not self.in_flight and (self._is_draining or silence >= IDLE_TIMEOUT):
            self.close()


def connection_error(error: Exception) -> Exception:
    """Return the error for the calls of a connection. Other errors come from a reply that redis-py cannot parse."""
    if isinstance(error, redis_errors.RedisError | OSError | RuntimeError):
        return error
    return redis_errors.InvalidResponse(f"{type(error).__name__}: {error}")


def fail(calls: deque[Call], error: Exception) -> None:
    """Remove all calls, and raise an error in their callers."""
    while calls:
        calls.popleft().fail(error)
