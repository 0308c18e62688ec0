"""Where jobs are due: one look at the heads of the queues in all partitions, shared by the claims of a process."""

import asyncio
import itertools
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final, NamedTuple

from service.domain import errors
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT, budget, gather
from service.store.delays import end_delays
from service.store.partition import RUNNING_STATES, Partition
from service.store.queue_settings import QueueSettings
from service.store.records import time_reply_to_micros

#: When a drain ends (ms), in `meta`.
_DRAIN_END: Final = re.compile(rb"[0-9]{1,15}")
#: Jobs of a queue in a partition: number of the partition, queue.
Place = tuple[int, str]


class Head(NamedTuple):
    """An entry at the head of a queue in one partition."""

    #: The place in the order of claims (µs); infinite for a list that cannot be read.
    order: float
    partition: Partition
    queue: str

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.partition.number, self.queue


class Look(NamedTuple):
    """What a look has found."""

    #: Of the queues that are neither paused nor at their `max_running`; in the order of claims.
    heads: list[Head]
    #: Queues with `max_running`.
    capped: frozenset[str]
    #: Where there may be jobs behind the heads.
    deep: frozenset[Place]
    #: Milliseconds that a drain goes on; 0 without one, and for an end in another form, which the scripts judge.
    drain: int
    #: Seconds until the next delay is over; `None` without delays.
    next_due: float | None


class Share(NamedTuple):
    """The part of a look that one claim gets."""

    heads: Sequence[Head]
    #: Whether there are heads that other claims got.
    has_others: bool
    look: Look


class _Waiting(NamedTuple):
    queues: frozenset[str]
    max_jobs: int
    tried: Collection[Place]
    insists: bool
    share: asyncio.Future[Share]


class Looker:
    """Looks for due jobs. One look is under way at a time; the claims that come meanwhile share the next one."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The queues that had `max_running` at the last look.
        self._capped: frozenset[str] = frozenset()

    async def look(
        self, queues: Collection[str], max_jobs: int, tried: Collection[Place] = (), *, insists: bool = False
    ) -> Share:
        """Return up to `max_jobs` heads of `queues`, without the places `tried`: the first ones that no claim got.

        A claim that `insists` also gets heads of other claims. Raises the errors of `StoreClient.read`, and
        `StoreTimeout` after the time left to the request.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the former event loop was closed
            self._loop, self._waiting, self._task = loop, [], None
        waiting = _Waiting(frozenset(queues), max_jobs, tried, insists, loop.create_future())
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            # In an empty context: the task belongs to no request.
            self._task = asyncio.create_task(self._run(), name="look", context=Context())
        request_budget, started = budget.get(), time.perf_counter()
        try:
            left = REQUEST_TIMEOUT if request_budget is None else request_budget.within(REQUEST_TIMEOUT)
            async with asyncio.timeout(left):
                return await waiting.share
        except TimeoutError:
            raise errors.StoreTimeout("Redis did not answer a look for due jobs in time.") from None
        finally:
            if request_budget is not None:
                request_budget.spend(time.perf_counter() - started)

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            queues = frozenset(itertools.chain.from_iterable(one.queues for one in waiting))
            demand = sum(one.max_jobs for one in waiting)
            partitions = len(self._client.partitions)
            try:
                look = await self.read(queues, min(demand, 2 * math.ceil(demand / partitions) + 2))
            except Exception as error:
                _fail(waiting, error)
            else:
                _assign(waiting, look)
                await asyncio.sleep(0)  # their scripts go before the next look, which then does not see the same heads

    async def read(self, queues: Collection[str], depth: int) -> Look:
        """Look at up to `depth` jobs of each queue in each partition. Delays that are over are ended first.

        Raises the errors of `StoreClient.read`.
        """
        look, over = await self._read(sorted(queues), depth)
        if over:
            await gather(map(partial(end_delays, self._client), over))
            look, _ = await self._read(sorted(queues), depth)
        return look

    async def _read(self, queues: Sequence[str], depth: int) -> tuple[Look, list[Partition]]:
        partitions = self._client.partitions
        counted = self._capped.intersection(queues)
        clock_of = [*map(self._client.clock_of, partitions)]
        clocks = [*dict.fromkeys(clock_of)]
        commands = [["TIME"] for _ in clocks]
        for one in partitions:
            commands.append(["ZRANGE", one.delays, "0", "0", "WITHSCORES"])
            commands += (["ZCARD", one.by_created(queue, state)] for queue in counted for state in RUNNING_STATES)
            lists = (name for queue in queues for name in (one.by_created(queue, "pending"), one.by_priority(queue)))
            commands += (["ZRANGE", name, "0", str(depth - 1), "WITHSCORES"] for name in lists)
        options: Any = {"isolate_errors": True, "is_partial": True, "name": "look", "at": clocks}
        for first in sorted(clocks, key=self._client.is_away):  # every partition has a copy of what the first one has
            copy = [["HMGET", first.meta, "drain"], ["HMGET", first.queues, *queues]]
            replies = iter(await self._client.read(*copy, *commands, **options))
            drain, settings = next(replies), next(replies)
            if not isinstance(drain, errors.StoreUnavailable):
                break
        [drain], settings = _checked(drain, first.meta), _checked(settings, first.queues)
        times = {clock: _micros(next(replies)) for clock in clocks}
        now = [times[clock] for clock in clock_of]
        limits = {queue: QueueSettings.parse(field).room for queue, field in zip(queues, settings, strict=True)}
        per_partition = [_PartitionReplies.take(replies, len(counted), len(queues)) for _ in partitions]
        running = [*zip(*(one.running for one in per_partition), strict=True)]
        for queue, numbers in zip(counted, running, strict=True):
            if sum(numbers) >= limits[queue]:
                limits[queue] = 0
        self._capped = self._capped.difference(queues) | {
            name for name, limit in limits.items() if 0 < limit < math.inf
        }
        self._capped |= {queue for queue in counted if limits[queue] < math.inf}  # those that are full or paused, too
        heads, deep = _heads(partitions, queues, limits, per_partition, depth)
        waits = [
            (one, (reply.next_delay - time) / 1e6)
            for one, reply, time in zip(partitions, per_partition, now, strict=True)
            if reply.next_delay is not None and time is not None
        ]
        next_due = min((wait for _, wait in waits), default=None)
        return (
            Look(
                *(heads, frozenset(queue for queue in queues if limits[queue] < math.inf), deep),
                drain=max(0, _drain_end(drain) - (now[first.number] or 0) // 1000),
                next_due=None if next_due is None else max(0.0, next_due),
            ),
            [one for one, wait in waits if wait <= 0],
        )


class _PartitionReplies(NamedTuple):
    next_delay: float | None
    #: Running jobs of each queue that is counted.
    running: list[int]
    #: The places of the due jobs of each queue in the order of claims.
    due: list[list[float]]

    @classmethod
    def take(cls, replies: Iterator[Any], counted: int, queues: int) -> "_PartitionReplies":
        """Return the next replies. Keys of other programs count as nothing running, and as jobs of unknown age.

        Those of a list of delays, too: it may hold jobs that are due.
        """
        delays = next(replies)
        running = [tuple(itertools.islice(replies, len(RUNNING_STATES))) for _ in range(counted)]
        lists = [tuple(itertools.islice(replies, 2)) for _ in range(queues)]
        if isinstance(delays, errors.StoreUnavailable):  # the node is away
            return cls(None, [0] * counted, [[] for _ in lists])
        unknown = [math.inf] if isinstance(delays, Exception) else []
        return cls(
            None if unknown or not delays else delays[0][1],
            [sum(number for number in numbers if not isinstance(number, Exception)) for numbers in running],
            [sorted([*itertools.chain(*map(_orders, pair)), *unknown]) for pair in lists],
        )


def _orders(entries: Any) -> list[float]:
    return [math.inf] if isinstance(entries, Exception) else [order for _, order in entries]


def _heads(
    partitions: Sequence[Partition],
    queues: Sequence[str],
    limits: Mapping[str, float],
    replies: Sequence[_PartitionReplies],
    depth: int,
) -> tuple[list[Head], frozenset[Place]]:
    heads, deep = [], []
    for partition, reply in zip(partitions, replies, strict=True):
        for queue, orders in zip(queues, reply.due, strict=True):
            if limits[queue] > 0:
                heads += [Head(order, partition, queue) for order in orders[:depth]]
                if len(orders) >= depth:
                    deep.append((partition.number, queue))
    return sorted(heads, key=lambda head: (head.order, head.place)), frozenset(deep)


def _drain_end(text: bytes | None) -> int:
    return int(text) if text is not None and _DRAIN_END.fullmatch(text) else 0


def _micros(time: Any) -> int | None:
    """Return the time of a node; `None` if it is away."""
    return None if isinstance(time, Exception) else time_reply_to_micros(time)


def _checked(reply: Any, name: str) -> Any:
    """Return a reply. Raises `StoreCorrupt` if the key of this name has another type, or why its node is away."""
    if isinstance(reply, errors.StoreUnavailable):
        raise reply
    if isinstance(reply, Exception):
        raise errors.StoreCorrupt(f"{errors.StoreCorrupt.default_detail} ({name} has another type)")
    return reply


def _fail(waiting: Sequence[_Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.share.done():
            one.share.set_exception(error)


def _assign(waiting: Sequence[_Waiting], look: Look) -> None:
    """Give the heads to the claims: to each, in their order, the first ones that are left."""
    taken: set[int] = set()
    begin: dict[frozenset[str], int] = {}  # all heads of these queues before it are taken
    for one in waiting:
        if one.share.done():  # cancelled
            continue
        is_plain = not (one.tried or one.insists)
        start = begin.get(one.queues, 0) if is_plain else 0
        mine, has_others = _choose(one, look.heads, range(start, len(look.heads)), taken)
        if mine and is_plain:
            begin[one.queues] = mine[-1] + 1
        taken.update(mine)
        one.share.set_result(Share([look.heads[index] for index in mine], has_others or start > 0, look))


def _choose(one: _Waiting, heads: Sequence[Head], indexes: range, taken: Collection[int]) -> tuple[list[int], bool]:
    """Return the indexes of the heads that a claim gets, and whether others have some that it could use."""
    mine: list[int] = []
    has_others = False
    for index in indexes:
        if heads[index].queue not in one.queues or heads[index].place in one.tried:
            continue
        if index in taken and not one.insists:
            has_others = True
        else:
            mine.append(index)
        if len(mine) == one.max_jobs:
            break
    return mine, has_others
