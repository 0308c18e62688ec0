"""Changes that return once enough replicas have them: each batch of a pipeline ends with one `WAIT`."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from hiredis import pack_command
from redis import exceptions as redis_errors

from service.store.channel import Call, Channel

#: Milliseconds that Redis waits for its replicas. A call may stand behind the batch before its own, so two waits must
#: fit into its first attempt (1.5 s), and four and a retry delay into the whole call (3 s). Redis looks at its time
#: limits ten times a second (`hz 10`), so a wait takes up to 100 ms longer.
WAIT_TIMEOUT_MS: Final = 600


class ReplicasMissing(redis_errors.TimeoutError):
    """Redis has applied a change, but too few replicas have acknowledged it. Sent again, it waits for them again."""


@dataclass(frozen=True)
class Wait:
    """How many replicas must have a change, and how long Redis waits for them."""

    replicas: int
    timeout_ms: int = WAIT_TIMEOUT_MS

    @property
    def packed(self) -> bytes:
        """The command, as sent to Redis."""
        command: tuple[Any, ...] = ("WAIT", self.replicas, self.timeout_ms)
        packed: bytes = pack_command(command)
        return packed

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


class WaitingChannel(Channel):
    """Sends calls in batches, each with a `WAIT` at its end, and gives replies to their calls after that of `WAIT`.

    There is one batch at a time, because Redis runs no command of a connection that waits. Calls that arrive meanwhile
    share the next one. `WAIT` covers all that Redis wrote before the last command of its connection, also for other
    connections. So a repetition, which changes nothing, is acknowledged only once the replicas have the change.
    """

    def __init__(self, wait: Wait, transport: asyncio.Transport, waiting: deque[Call], *, keep_idle: bool) -> None:
        super().__init__(transport, waiting, keep_idle=keep_idle)
        self._wait = wait
        #: How many replies the batch gets, with that of `WAIT`.
        self._expected = 0

    def _take(self) -> list[bytes]:
        """Return the next batch: all calls that wait, up to `MAX_IN_FLIGHT`."""
        if self.in_flight:
            return []
        packed: list[bytes] = []
        while more := super()._take():
            packed += more
        if packed:
            packed.append(self._wait.packed)
            self._expected = sum(call.commands for call in self.in_flight) + 1
        return packed

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
        self._hand_out(self._wait.failure(self._replies.pop()))
        return True

    def _hand_out(self, failure: Exception | None) -> None:
        """Give the calls of the batch their replies; with a `failure`, only those whose replies are all errors."""
        replies, self._replies = iter(self._replies), []
        while self.in_flight:
            call = self.in_flight.popleft()
            own = [next(replies) for _ in range(call.commands)]
            if failure is not None and not all(isinstance(one, Exception) for one in own):
                call.fail(failure)
            elif not call.replies.done():
                call.replies.set_result(own)
