"""The subscriptions of a process to events, and the latest events in memory."""

import asyncio
import contextlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextvars import Context
from typing import Final, Literal, TypeVar

from service.domain.events import ControlEvent, Event, EventKind
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.events.positions import START, EntryId, Position, covers, moved, parse_entry_id, with_cursor
from service.store.events.reader import EventReader, Gap
from service.store.partition import Partition

#: How many events the process keeps for all streams. A stream that lags behind by more ends.
BUFFER_SIZE: Final = 2000

#: Seconds after which a subscriber without news gets a keep-alive, and a watched job is read again.
KEEP_ALIVE_INTERVAL: Final = 15.0

#: What an event is about: the job with this id, or any claimable job of this queue. `None` stands for all.
Topic = tuple[Literal["job", "queue"], str | None]


class Subscription:
    """A request that waits for events of its topics."""

    def __init__(self, *topics: Topic) -> None:
        self.topics = topics
        #: Set when there is something to do.
        self.wakeup = asyncio.Event()
        self.is_disconnected = False

    def disconnect(self) -> None:
        """End the wait, because the client has disconnected."""
        self.is_disconnected = True
        self.wakeup.set()

    def on_event(self, event: Event) -> None:
        """Receive an event of the job."""
        self.wakeup.set()

    async def wait(self, seconds: float) -> bool:
        """Return whether there was a wake-up since the last call, at the latest after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wakeup.wait()
        was_woken = self.wakeup.is_set()
        self.wakeup.clear()
        return was_woken


AnySubscription = TypeVar("AnySubscription", bound=Subscription)


class RecentEvents:
    """The latest events of all partitions, in the order of their arrival."""

    def __init__(self, partitions: int = 1) -> None:
        self._events: list[Event] = []
        #: The entries of the position after each event. Empty with one partition, where the event has its position.
        self._positions: list[tuple[EntryId, ...]] = []
        #: How many events and gaps there were before those in memory.
        self._dropped = 0
        #: All events after this position are in memory.
        self.start = Position((START,) * partitions, 0)
        #: How many gaps there were.
        self.gaps = 0

    def add(self, events: Sequence[Event]) -> None:
        """Add events, and drop the oldest ones beyond `BUFFER_SIZE`."""
        if len(self.start.entries) == 1:
            self._events += events
        else:
            self._add_with_cursors(events)
        if (excess := len(self._events) - BUFFER_SIZE) > 0:
            self.start = self._position_at(excess)
            self._dropped += excess
            del self._events[:excess], self._positions[:excess]

    def _add_with_cursors(self, events: Sequence[Event]) -> None:
        entries = self._last_entries()
        for event in events:
            entries[event.partition] = parse_entry_id(event.position)
            self._positions.append(tuple(entries))
            self._events.append(with_cursor(event, Position(self._positions[-1])))

    def _last_entries(self) -> list[EntryId]:
        return [*(self._entries_after(-1) if self._events else self.start.entries)]

    def _entries_after(self, index: int) -> tuple[EntryId, ...]:
        """Return the entries of the position after an event in memory."""
        return self._positions[index] if self._positions else (parse_entry_id(self._events[index].position),)

    def on_gap(self, partition: int, position: str) -> None:
        """Drop all events and continue after `position` in a partition."""
        entries = self._last_entries()
        entries[partition] = parse_entry_id(position)
        self._dropped += len(self._events) + 1
        self._events, self._positions, self.start = [], [], Position(tuple(entries), self._dropped)
        self.gaps += 1

    def end(self, entries: tuple[EntryId, ...]) -> Position:
        """Return the position after all events in memory, at the entries that were read last."""
        return Position(entries, self._dropped + len(self._events))

    def after(self, position: Position, count: int) -> tuple[Sequence[Event], Position] | None:
        """Return up to `count` events after a position, and the position after them.

        Returns `None` if some events after it are not in memory.
        """
        if position.number is None:
            return self._after_foreign(position, count) if covers(position.entries, self.start.entries) else None
        if (first := position.number - self._dropped) < 0:
            return None
        events = self._events[first : first + count]
        return events, self._position_at(first + len(events)) if events else position

    def _position_at(self, index: int) -> Position:
        """Return the position after the events in memory before `index`."""
        return Position(self._entries_after(index - 1), self._dropped + index)

    def _after_foreign(self, position: Position, count: int) -> tuple[Sequence[Event], Position]:
        """Return events after a position of another process, which may be ahead of this one in some partitions."""
        every = range(len(self._events))
        first = bisect_left(every, True, key=lambda index: not covers(position.entries, self._entries_after(index)))
        events = []
        for index in every[first : first + count]:
            event, reached = self._events[index], self._entries_after(index)
            if (entry := reached[event.partition]) > position.entries[event.partition]:
                position = moved(position, event.partition, entry)
                events.append(with_cursor(event, position))
            if position.entries == reached:
                position = self._position_at(index + 1)
        return events, position


class EventHub:
    """Reads events while there are subscriptions, and wakes those that an event concerns.

    An event wakes all subscriptions to its job and to all events. If it may make a job claimable, it wakes the first
    subscription to the queue that is not awake yet. A gap wakes all, and so does the shutdown of the process.
    """

    def __init__(self, client: StoreClient, shutdown: Shutdown) -> None:
        self._client = client
        self._partitions = client.partitions
        self._reader = EventReader(client, self._wanted_partitions)
        #: How many topics there are in each partition; under `None`, those in all of them.
        self._topics: Counter[Partition | None] = Counter()
        self._task: asyncio.Task[None] | None = None
        #: By topic, in the order of their arrival.
        self._subscriptions: dict[Topic, dict[Subscription, None]] = {}
        self.recent = RecentEvents(len(client.partitions))
        shutdown.on_begin(self._wake_all)

    @contextlib.contextmanager
    def subscribe(self, subscription: AnySubscription) -> Iterator[AnySubscription]:
        """Wake `subscription` inside the `with` block."""
        for topic in subscription.topics:
            if topic not in self._subscriptions:
                self._subscriptions[topic] = {}
                self._topics[self._partition_of(topic)] += 1
            self._subscriptions[topic][subscription] = None
        self._reader.include_wanted()
        if self._task is None or self._task.done():
            # In an empty context: the task belongs to no request.
            self._task = asyncio.create_task(self._run(), name="events", context=Context())
        try:
            yield subscription
        finally:
            for topic in subscription.topics:
                del self._subscriptions[topic][subscription]
                if not self._subscriptions[topic]:
                    del self._subscriptions[topic]
                    self._topics[self._partition_of(topic)] -= 1

    def _partition_of(self, topic: Topic) -> Partition | None:
        """Return the partition whose events a topic needs; `None` stands for all."""
        kind, name = topic
        return self._partitions.of(name) if kind == "job" and name is not None else None

    def _wanted_partitions(self) -> Sequence[Partition]:
        """Return the partitions that there are subscriptions to."""
        if self._topics[None] or len(self._partitions) == 1:
            return self._partitions
        return [partition for partition in self._partitions if self._topics[partition]]

    async def position(self) -> Position:
        """Return the position up to which subscriptions have all events. Raises `StoreUnavailable` within 3 s."""
        return self.recent.end(await self._reader.position())

    def wake(self, topic: Topic) -> None:
        """Wake all subscriptions to a topic."""
        for subscription in self._subscriptions.get(topic, ()):
            subscription.wakeup.set()

    def wake_next(self, topic: Topic) -> bool:
        """Wake the first subscription to a topic that is not awake yet. Return whether there was one."""
        for subscription in self._subscriptions.get(topic, ()):
            if not subscription.wakeup.is_set():
                subscription.wakeup.set()
                return True
        return False

    def publish(self, items: Sequence[Event | ControlEvent | Gap]) -> None:
        """Store events and wake the subscriptions that they concern."""
        for item in items:
            if isinstance(item, Event):
                self._publish_event(item)
            elif isinstance(item, Gap):
                self._on_gap(item)
            elif item.queue is None:
                self.wake(("queue", None))
            else:
                self.wake_next(("queue", item.queue))
        self.recent.add([item for item in items if isinstance(item, Event)])
        if items:
            self.wake(("job", None))

    def _on_gap(self, gap: Gap) -> None:
        self.recent.on_gap(gap.partition, gap.position)
        for topic in self._subscriptions:
            partition = self._partition_of(topic)
            if partition is None or partition.number == gap.partition:
                self.wake(topic)

    def _publish_event(self, event: Event) -> None:
        if subscriptions := self._subscriptions.get(("job", event.job_id)):
            for subscription in subscriptions:
                subscription.on_event(event)
        if event.status is not Status.RUNNING or event.kind is not EventKind.CHANGED:
            self.wake_next(("queue", event.queue))

    async def aclose(self) -> None:
        """Stop reading."""
        while self._task is not None and not self._task.done():
            self._task.cancel()  # again, in case redis-py swallowed the cancellation
            await asyncio.wait([self._task], timeout=1)

    async def _run(self) -> None:
        try:
            while self._subscriptions:
                items = await self._reader.read()
                self.publish(items)
        finally:
            self._reader = EventReader(self._client, self._wanted_partitions)

    def _wake_all(self) -> None:
        for topic in self._subscriptions:
            self.wake(topic)
