"""Gates: one claim at a time counts the running jobs of a queue with `max_running` over all partitions."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextvars import Context
from typing import Any, Final
from weakref import WeakValueDictionary

from service.domain.errors import JobStateError, StoreCorrupt
from service.store import scripts
from service.store.client import StoreClient
from service.store.fingerprints import new_change_id
from service.store.partition import RUNNING_STATES, Partition

#: How long a gate is taken (ms), if the process that holds it ends meanwhile.
GATE_TTL_MS: Final = 10_000
#: Seconds after a gate was taken for which a claim may use what it has counted. Redis refuses a script that is later.
COUNT_VALID_SECONDS: Final = 8.0
#: How long a gate stays taken after a claim whose outcome is unknown (ms): until no script of it can run any more.
UNCERTAIN_MS: Final = 2_000
#: Seconds that a claim waits for a gate before it does without jobs of that queue.
MAX_WAIT: Final = 1.0
#: Seconds between two attempts to take a gate: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05


class Counts:
    """The running jobs of the queues whose gates a claim holds."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self.token: Final = new_change_id()
        #: The queues whose gates are held.
        self.queues: list[str] = []
        #: Until when (s, as `time.monotonic`) the counts may be used.
        self.until: float = math.inf
        #: Whether a script of the claim may still run, because its reply did not come.
        self.is_uncertain = False
        #: Why a queue could not be counted, or its gate not be taken, if it could not.
        self.refusal: StoreCorrupt | None = None

    async def facts(self, partition: Partition) -> Mapping[str, int]:
        """Return what `claim.lua` needs to know in a partition: the running jobs in all others, and until when.

        That is a time of its own node, whose clock may not be that of the node with the gate. A queue that cannot be
        counted is left out, and then gives no job.
        """
        if not self.queues:
            return {}
        others = [one for one in self._client.partitions if one is not partition]
        lists = [one.by_created(queue, state) for queue in self.queues for one in others for state in RUNNING_STATES]
        until = self._client.time_of(partition) + int((self.until - time.monotonic()) * 1e6)
        replies = await self._client.read(
            *(["ZCARD", name] for name in lists), isolate_errors=True, name="count_running"
        )
        facts = {":until": until}
        for queue in self.queues:
            count = len(others) * len(RUNNING_STATES)
            numbers, replies = replies[:count], replies[count:]
            if unreadable := [one for one in numbers if isinstance(one, StoreCorrupt)]:
                self.refusal = unreadable[0]
            else:
                facts[queue] = sum(numbers)
        return facts


class Gates:
    """Takes and leaves the gates of queues, for the claims of a process."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        #: By queue, so that only one claim of the process asks Redis for a gate.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: So that they are not garbage-collected.
        self._leaving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def hold(self, queues: Collection[str]) -> AsyncIterator[Counts]:
        """Hold the gates of `queues` inside the `async with` block, as far as they can be had within `MAX_WAIT`.

        They are taken in the order of their names, so that two claims never wait for each other. Raises the errors of
        `StoreClient.run_script`.
        """
        counts, deadline = Counts(self._client), time.monotonic() + MAX_WAIT
        async with contextlib.AsyncExitStack() as stack:
            for queue in sorted(queues):
                await stack.enter_async_context(self._gate(queue, counts, deadline))
            yield counts

    @contextlib.asynccontextmanager
    async def _gate(self, queue: str, counts: Counts, deadline: float) -> AsyncIterator[None]:
        """Hold a gate inside the `async with` block, if it can be had until `deadline`."""
        lock = self._locks.setdefault(queue, asyncio.Lock())
        if not await _acquire(lock, deadline):
            yield
            return
        is_held = True  # or perhaps, until the reply has come
        try:
            is_held = await self._take(queue, counts, deadline)
            yield
        except BaseException:
            counts.is_uncertain = True
            raise
        finally:
            try:
                if is_held:
                    await self._leave(queue, counts)
            finally:
                lock.release()

    async def _take(self, queue: str, counts: Counts, deadline: float) -> bool:
        pause = _FIRST_PAUSE
        while True:
            asked_at = time.monotonic()
            try:
                [word] = await self._run(queue, counts.token, GATE_TTL_MS)
            except StoreCorrupt as error:  # the key is not ours
                counts.refusal = error
                return False
            if word == "HELD":
                counts.queues.append(queue)
                counts.until = min(counts.until, asked_at + COUNT_VALID_SECONDS)
                return True
            if time.monotonic() + pause > deadline:
                return False
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _leave(self, queue: str, counts: Counts) -> None:
        """Leave a gate, also if the claim is cancelled meanwhile: others need it."""
        left_after = UNCERTAIN_MS if counts.is_uncertain else 0
        task = asyncio.create_task(self._run_quietly(queue, counts.token, left_after), context=Context())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        await asyncio.shield(task)

    async def _run_quietly(self, queue: str, token: str, taken_ms: int) -> None:
        with contextlib.suppress(JobStateError):  # the gate then opens by itself
            await self._run(queue, token, taken_ms)

    async def _run(self, queue: str, token: str, taken_ms: int) -> list[Any]:
        return await self._client.run_script(
            scripts.GATE, self._client.partitions.home_of(queue), [queue, token, taken_ms]
        )


async def _acquire(lock: asyncio.Lock, deadline: float) -> bool:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await lock.acquire()
    except TimeoutError:
        return False
