"""A look at the queues of waiting claims in all partitions, which wakes as many claims as there are jobs."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextvars import Context
from typing import Final

import structlog

from service.store.events.hub import EventHub
from service.store.events.reader import RETRY_DELAY
from service.store.look import Head, Look, Looker

#: Seconds between two looks, at least; more where a look takes long.
INTERVAL: Final = 0.02
#: The pause after a look, as a multiple of its duration, if that is more.
PAUSE_FACTOR: Final = 10
#: How many jobs of a queue a look sees in each partition.
DEPTH: Final = 4
#: Seconds after which jobs wake claims again that no claim could have when they were seen first.
REPEAT_INTERVAL: Final = 1.0

_log = structlog.get_logger(__name__)


class QueueWatch:
    """Looks at the queues that claims wait for: one look for all of them, whose cost does not depend on their number.

    A job wakes a claim when it is seen first. It may be one that no claim can have, such as an expired one, so it wakes
    another one only after `REPEAT_INTERVAL`. A drain wakes all claims.
    """

    def __init__(self, looker: Looker, hub: EventHub) -> None:
        """Look with `looker` while claims wait, and wake them by `hub`."""
        self._looker = looker
        self._hub = hub
        #: How many claims wait for each queue.
        self._waiting: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        #: The heads of each queue that have woken claims.
        self._seen: dict[str, set[Head]] = {}
        self._next_repeat = 0.0

    @contextlib.contextmanager
    def include(self, queues: Collection[str]) -> Iterator[None]:
        """Look at `queues` inside the `with` block."""
        self._waiting.update(queues)
        if self._task is None:
            # In an empty context: the task belongs to no request.
            self._task = asyncio.create_task(self._run(), name="queue watch", context=Context())
        try:
            yield
        finally:
            self._waiting.subtract(queues)
            self._waiting = +self._waiting
            if not self._waiting and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        self._seen = {}
        while True:
            started = time.monotonic()
            try:
                look = await self._looker.read([*self._waiting], DEPTH)
            except Exception as error:
                self._seen = {}
                self._hub.wake(("queue", None))  # the claims find out by themselves what they do then
                _log.debug("look for jobs failed", error=str(error))
                await asyncio.sleep(RETRY_DELAY)
                continue
            self._wake(look, time.monotonic())
            await asyncio.sleep(max(INTERVAL, PAUSE_FACTOR * (time.monotonic() - started)))

    def _wake(self, look: Look, now: float) -> None:
        if look.drain:
            self._hub.wake(("queue", None))
            return
        if now >= self._next_repeat:
            self._seen = {}
            self._next_repeat = now + REPEAT_INTERVAL
        heads: dict[str, set[Head]] = {}
        for head in look.heads:
            heads.setdefault(head.queue, set()).add(head)
        for queue, found in heads.items():
            for _ in found - self._seen.get(queue, set()):
                if not self._hub.wake_next(("queue", queue)):
                    break
        self._seen = heads
