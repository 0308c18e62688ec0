"""Changes that return once enough replicas have them: each batch of a pipeline ends with one `WAIT`."""

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from hiredis import pack_command
from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool

from service.store.auto_pipeline import MIN_POOL_SIZE, AutoPipeline
from service.store.channel import Call, Channel
from service.store.partition import Partition

#: Milliseconds that Redis waits for its replicas. A call may stand behind the batch before its own, so two waits must
#: fit into its first attempt (1.5 s), and four and a retry delay into the whole call (3 s). Redis looks at its time
#: limits ten times a second (`hz 10`), so a wait takes up to 100 ms longer.
WAIT_TIMEOUT_MS: Final = 600
#: Milliseconds until the marker key expires.
MARKER_TTL_MS: Final = 60_000
#: Writes the marker. `allow-oom`, because some changes are possible when Redis is at its memory limit.
_MARK: Final = "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], 1, 'PX', ARGV[1])"


class ReplicasMissing(redis_errors.TimeoutError):
    """Redis has applied a change, but too few replicas have acknowledged it. Sent again, it waits for them again."""


@dataclass(frozen=True)
class Wait:
    """How many replicas must have a change, and how long Redis waits for them."""

    replicas: int
    timeout_ms: int = WAIT_TIMEOUT_MS

    def failure(self, reply: Any) -> Exception | None:
        """Return why a reply to `WAIT` does not acknowledge the changes before it, or `None` if it does.

        Another error reply, for example where `WAIT` is not allowed, is returned as it is.
        """
        if not isinstance(reply, Exception):
            if reply >= self.replicas:
                return None
            return ReplicasMissing(
                f"the change is applied, but {reply} of {self.replicas} replicas have it; sent again, it is "
                "acknowledged once enough of them have it"
            )
        text = str(reply)
        if text.startswith("UNBLOCKED"):  # Redis became a replica, and closes the connection
            return redis_errors.ConnectionError(text)
        if "replica instances" in text:
            return redis_errors.ReadOnlyError(text)
        return reply


class ReplicatedPipeline(AutoPipeline):
    """A pipeline for scripts that change something: it gives their replies once enough replicas have the changes.

    Reads stand behind a wait, so they need a pipeline of their own.
    """

    def __init__(self, pool: ConnectionPool, wait: Wait) -> None:
        """Use connections of `pool`, which must not decode replies."""
        super().__init__(pool)
        self._wait = wait
        #: The roots of the partitions of the calls that were not sent.
        self._roots: set[str] = set()
        #: The pipeline of the reads needs another connection.
        self._keeps_idle = pool.max_connections > MIN_POOL_SIZE

    async def ask(self, *commands: tuple[Any, ...], until: float = math.inf) -> list[Any]:
        """Send commands together like `AutoPipeline.ask`. The last key of a script is the root of its partition.

        Also raises `ReplicasMissing`. Where Redis refuses `WAIT`, its error is the reply to each command.
        """
        self._roots.update(command[2 + command[2]] for command in commands if command[0] == "EVALSHA" and command[2])
        return await super().ask(*commands, until=until)

    def _new_channel(self, transport: asyncio.Transport) -> Channel:
        return WaitingChannel(transport, self._waiting, self._roots, self._wait, keep_idle=self._keeps_idle)


class WaitingChannel(Channel):
    """Sends calls in batches, each with a `WAIT` at its end, and gives replies to their calls after that of `WAIT`.

    There is one batch at a time, because Redis runs no command of a connection that waits. Calls that arrive meanwhile
    share the next one.

    From Redis 7.2 on, and on Valkey, `WAIT` covers what was written before the last write of its own connection. A
    repetition of a change writes nothing. So a batch writes a marker before `WAIT`, in each of its partitions, because
    a partition may just have moved to another node; one marker is enough.
    """

    def __init__(
        self, transport: asyncio.Transport, waiting: deque[Call], roots: set[str], wait: Wait, *, keep_idle: bool
    ) -> None:
        super().__init__(transport, waiting, keep_idle=keep_idle)
        self._roots = roots
        self._wait = wait
        #: The number of markers of the batch, and of all its replies.
        self._markers = self._expected = 0

    def _take(self) -> list[bytes]:
        """Return the next batch: all calls that wait, up to `MAX_IN_FLIGHT`, the markers, and `WAIT`."""
        if self.in_flight:
            return []
        packed: list[bytes] = []
        while more := super()._take():
            packed += more
        if not packed:
            return []
        markers = [_marker(root) for root in self._roots]
        if not self._waiting:
            self._roots.clear()
        self._markers = len(markers)
        self._expected = sum(call.commands for call in self.in_flight) + len(markers) + 1
        return [*packed, *markers, _pack("WAIT", self._wait.replicas, self._wait.timeout_ms)]

    def _add(self, reply: Any) -> bool:
        """Add a reply to those of the batch, and return whether it was the last one."""
        if not self.in_flight:
            raise redis_errors.InvalidResponse("a reply without a command")
        self._replies.append(reply)
        missing = self._expected - len(self._replies)
        # Redis is silent as long as it waits.
        self._active_at = time.monotonic() + (self._wait.timeout_ms / 1000 if missing == 1 else 0)
        if missing:
            return False
        failure = self._wait.failure(self._replies.pop())
        markers = [self._replies.pop() for _ in range(self._markers)]
        if failure is None and markers and all(isinstance(one, Exception) for one in markers):
            failure = markers[0]
        self._hand_out(failure)
        return True

    def _hand_out(self, failure: Exception | None) -> None:
        """Give the calls of the batch their replies, but those that `failure` concerns: not if all are errors."""
        replies, self._replies = iter(self._replies), []
        while self.in_flight:
            call = self.in_flight.popleft()
            own = [next(replies) for _ in range(call.commands)]
            if failure is not None and not all(isinstance(one, Exception) for one in own):
                if isinstance(failure, redis_errors.TimeoutError | redis_errors.ConnectionError):
                    call.fail(failure)
                own = [failure] * call.commands
            if not call.replies.done():
                call.replies.set_result(own)


@cache
def _marker(root: str) -> bytes:
    return _pack("EVAL", _MARK, 1, Partition(root).fsync, MARKER_TTL_MS)


def _pack(*command: Any) -> bytes:
    packed: bytes = pack_command(command)
    return packed
