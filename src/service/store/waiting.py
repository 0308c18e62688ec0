"""Waiting for a job without asking Redis again and again: the events of the store say when to look."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis

from service.domain.errors import Draining
from service.domain.jobs import Claim
from service.store import keys
from service.store.budget import Budget, budget

#: Milliseconds that one reading of the events waits for the next; shorter than the time-out of a connection.
BLOCK: Final = 2000
#: Events taken in at one time.
EVENTS: Final = 500
#: Seconds before a Redis that was away is tried again.
AGAIN: Final = 1.0
#: Seconds after which a client may claim again from another process, where this one ends.
RETRY_AFTER: Final = 1


class Turn:
    """One claim that waits; its bell rings when there may be something for it, or its client has left."""

    def __init__(self, queues: Sequence[str]) -> None:
        """Wait for jobs of `queues`."""
        self.queues = frozenset(queues)
        self.bell = asyncio.Event()
        self.is_left = False

    def leave(self) -> None:
        """Note that nobody is there any more to take the job."""
        self.is_left = True
        self.bell.set()


class Waiting:
    """The claims of this process that wait, and its one reader of the store's events.

    Each event rings one bell: whoever takes a job, or leaves, rings the next, so that no event is lost on somebody who
    does not need it and a thousand workers do not ask at once for one job.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Read events through `pool`, from the first claim that waits on."""
        self._redis = Redis(connection_pool=pool)
        self._turns: list[Turn] = []
        self._reading: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._closed = False

    async def claim(
        self, turn: Turn, wait_seconds: int, claim: Callable[[], Awaitable[tuple[Claim | None, float | None]]]
    ) -> Claim | None:
        """Return what `claim` gives, at once or within `wait_seconds`.

        `claim` is `LeaseManager.try_claim` with its arguments. Raises what it raises, and `Draining` as soon as the
        process ends.
        """
        deadline = asyncio.get_running_loop().time() + wait_seconds
        self._turns.append(turn)
        found = None
        try:
            if wait_seconds:
                await self._listen(wait_seconds)
            while True:
                if self._closed:
                    raise Draining(RETRY_AFTER)
                if turn.is_left:
                    return None
                turn.bell.clear()
                budget.set(Budget())  # each look has the time that a request has
                found, due = await claim()
                left = deadline - asyncio.get_running_loop().time()
                if found is not None or left <= 0:
                    return found
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left if due is None else min(left, due)):
                        await turn.bell.wait()
        finally:
            self._turns.remove(turn)
            if found is not None or turn.bell.is_set():
                for queue in turn.queues:
                    self._ring(queue)

    @property
    def is_closed(self) -> bool:
        """Say whether the process is about to end."""
        return self._closed

    def close(self) -> None:
        """Refuse all claims from now on, those first that wait."""
        self._closed = True
        self._ring_all()

    async def aclose(self) -> None:
        """Stop reading."""
        self.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _listen(self, patience: float) -> None:
        """Return once every event from now on is heard, at the latest when there is no time left to wait."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="events")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._listening.wait()

    async def _read(self) -> None:
        while not self._closed:
            try:
                newest: Any = await self._redis.xrevrange(keys.EVENTS, count=1)
                last = newest[0][0] if newest else b"0-0"
                self._listening.set()
                self._ring_all()  # for what was said while nobody listened
                while not self._closed:
                    last = await self._read_on(last)
            except Exception:  # the requests that fail meanwhile say what is wrong
                self._listening.clear()
                await asyncio.sleep(AGAIN)

    async def _read_on(self, last: bytes) -> bytes:
        """Take in the events after `last`, and return the newest."""
        reply: Any = await self._redis.xread({keys.EVENTS: last}, count=EVENTS, block=BLOCK)
        if not reply:
            return last
        [(_, events)] = reply
        for _, event in events:
            if event[b"event"] == b"drain":
                self._ring_all()
            elif event.get(b"status") != b"running":  # a job that may be claimed, or one fewer that is running
                self._ring(event[b"queue"].decode())
        newest: bytes = events[-1][0]
        return newest

    def _ring(self, queue: str) -> None:
        """Ring the bell of the first that waits for jobs of `queue` and whose bell is still."""
        for turn in self._turns:
            if queue in turn.queues and not turn.bell.is_set():
                turn.bell.set()
                return

    def _ring_all(self) -> None:
        for turn in self._turns:
            turn.bell.set()
