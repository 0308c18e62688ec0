"""The subscriptions of a process to events, and the latest events in memory."""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextvars import Context
from typing import Final, Literal, TypeVar

from service.domain.events import ControlEvent, Event, EventKind
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.events.reader import START, EventReader, Gap

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
    """The latest events of all jobs, in order."""

    def __init__(self) -> None:
        #: The events, and their positions in the same order, for the binary search.
        self._events: list[Event] = []
        self._positions: list[tuple[int, int]] = []
        #: All events after this position are in memory.
        self.start = START
        #: How many gaps there were.
        self.gaps = 0

    def add(self, events: Sequence[Event]) -> None:
        """Add events, and drop the oldest ones beyond `BUFFER_SIZE`."""
        self._events += events
        self._positions += [_parse_id(event.position) for event in events]
        if (excess := len(self._events) - BUFFER_SIZE) > 0:
            self.start = self._events[excess - 1].position
            del self._events[:excess], self._positions[:excess]

    def on_gap(self, position: str) -> None:
        """Drop all events and continue after `position`."""
        self._events, self._positions, self.start = [], [], position
        self.gaps += 1

    def after(self, position: str, count: int) -> Sequence[Event] | None:
        """Return up to `count` events after a position, or `None` if some of them are not in memory."""
        if (parsed := _parse_id(position)) < _parse_id(self.start):
            return None
        first = bisect_right(self._positions, parsed)
        return self._events[first : first + count]


class EventHub:
    """Reads events while there are subscriptions, and wakes those that an event concerns.

    An event wakes all subscriptions to its job and to all events. If it may make a job claimable, it wakes the first
    subscription to the queue that is not awake yet. A gap wakes all, and so does the shutdown of the process.
    """

    def __init__(self, client: StoreClient, shutdown: Shutdown) -> None:
        self._client = client
        self._reader = EventReader(client)
        self._task: asyncio.Task[None] | None = None
        #: By topic, in the order of their arrival.
        self._subscriptions: dict[Topic, dict[Subscription, None]] = {}
        self.recent = RecentEvents()
        shutdown.on_begin(self._wake_all)

    @contextlib.contextmanager
    def subscribe(self, subscription: AnySubscription) -> Iterator[AnySubscription]:
        """Wake `subscription` inside the `with` block."""
        for topic in subscription.topics:
            self._subscriptions.setdefault(topic, {})[subscription] = None
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

    async def position(self) -> str:
        """Return the position up to which subscriptions have all events. Raises `StoreUnavailable` within 3 s."""
        return await self._reader.position()

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
            match item:
                case Gap():
                    self.recent.on_gap(item.position)
                    self._wake_all()
                case Event():
                    self._publish_event(item)
                case ControlEvent(None):
                    self.wake(("queue", None))
                case ControlEvent():
                    self.wake_next(("queue", item.queue))
        self.recent.add([item for item in items if isinstance(item, Event)])
        if items:
            self.wake(("job", None))

    def _publish_event(self, event: Event) -> None:
        for subscription in self._subscriptions.get(("job", event.job_id), ()):
            subscription.on_event(event)
        if event.kind is not EventKind.CHANGED or event.status is not Status.RUNNING:
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
            self._reader = EventReader(self._client)

    def _wake_all(self) -> None:
        for topic in self._subscriptions:
            self.wake(topic)


def _parse_id(position: str) -> tuple[int, int]:
    millis, _, sequence = position.partition("-")
    return int(millis), int(sequence)
