"""Which subscriptions an event wakes, and which events are in memory; without Redis."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from contextvars import ContextVar

import pytest
from msgspec.structs import replace

from service.domain.errors import StoreUnavailable
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.jobs import JobFilter
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.events.claim_waiter import PendingClaim
from service.store.events.hub import BUFFER_SIZE, EventHub, RecentEvents, Subscription
from service.store.events.job_watcher import JobWatcher
from service.store.events.positions import START, EntryId, Position
from service.store.events.reader import EventReader, Gap
from service.store.events.stream import EventStream, StreamMarker
from service.store.observer import NullObserver
from service.store.pool import create_pool

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def event(number: int = 1, job_id: str = "j", queue: str = "q", status: Status = Status.PENDING) -> Event:
    return Event(
        position=f"{number}-0",
        kind=EventKind.CHANGED,
        job_id=job_id,
        status=status,
        revision=1,
        queue=queue,
        created=1,
    )


@pytest.fixture
def client() -> StoreClient:
    """A client of no server."""
    return StoreClient(create_pool("redis://127.0.0.1:1/0"), NullObserver())


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown()


@pytest.fixture
async def hub(client: StoreClient, shutdown: Shutdown, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EventHub]:
    """A hub that gets events only from the test."""

    async def read_nothing(reader: EventReader) -> Sequence[Event]:
        await asyncio.sleep(60)
        return ()

    monkeypatch.setattr(EventReader, "read", read_nothing)
    hub = EventHub(client, shutdown)
    yield hub
    await hub.aclose()


class Waiters:
    """Two claims of the queue `q`, and others, in the order of their arrival."""

    def __init__(self, hub: EventHub, stack: ExitStack) -> None:
        self.subscriptions: dict[str, Subscription] = {
            "first": PendingClaim(["q", "r"]),
            "second": PendingClaim(["q"]),
            "other queue": PendingClaim(["other"]),
            "job": Subscription(("job", "j")),
            "same job": Subscription(("job", "j")),
            "other job": Subscription(("job", "other")),
            "stream": Subscription(("job", None)),
        }
        for subscription in self.subscriptions.values():
            stack.enter_context(hub.subscribe(subscription))

    @property
    def awake(self) -> list[str]:
        return [name for name, subscription in self.subscriptions.items() if subscription.wakeup.is_set()]


@pytest.fixture
async def waiters(hub: EventHub) -> AsyncIterator[Waiters]:
    with ExitStack() as stack:
        yield Waiters(hub, stack)


async def test_an_event_wakes_one_claim_and_all_that_watch_its_job(hub: EventHub, waiters: Waiters) -> None:
    hub.publish([event()])
    assert waiters.awake == ["first", "job", "same job", "stream"]
    hub.publish([event()])
    assert waiters.awake == ["first", "second", "job", "same job", "stream"]


async def test_an_event_of_a_foreign_job_and_queue_wakes_only_streams(hub: EventHub, waiters: Waiters) -> None:
    hub.publish([event(job_id="foreign", queue="foreign")])
    assert waiters.awake == ["stream"]


async def test_a_read_without_events_wakes_nobody(hub: EventHub, waiters: Waiters) -> None:
    hub.publish([])
    assert waiters.awake == []


async def test_a_job_that_was_claimed_wakes_no_claim(hub: EventHub, waiters: Waiters) -> None:
    hub.publish([event(status=Status.RUNNING)])
    assert waiters.awake == ["job", "same job", "stream"]


async def test_new_settings_of_a_queue_wake_one_claim_and_a_drain_wakes_all(hub: EventHub, waiters: Waiters) -> None:
    hub.publish([ControlEvent("q")])
    assert [name for name in waiters.awake if name != "stream"] == ["first"]
    hub.publish([ControlEvent(None)])
    assert [name for name in waiters.awake if name != "stream"] == ["first", "second", "other queue"]


async def test_a_gap_wakes_all(hub: EventHub, waiters: Waiters) -> None:
    hub.publish([Gap("1-0")])
    assert waiters.awake == [*waiters.subscriptions]


async def test_the_shutdown_wakes_all(shutdown: Shutdown, waiters: Waiters) -> None:
    shutdown.begin("SIGTERM")
    assert waiters.awake == [*waiters.subscriptions]


async def test_nothing_is_kept_of_subscriptions_that_have_ended(hub: EventHub) -> None:
    with ExitStack() as stack:
        Waiters(hub, stack)
    assert hub._subscriptions == {}


async def test_closing_repeats_a_cancellation_that_a_read_has_swallowed(
    client: StoreClient, shutdown: Shutdown, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallowed = 0

    async def read(reader: EventReader) -> Sequence[Event]:
        nonlocal swallowed
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed += 1
            if swallowed > 1:
                raise
        return ()

    monkeypatch.setattr(EventReader, "read", read)
    hub = EventHub(client, shutdown)
    with hub.subscribe(Subscription(("job", "j"))):
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await hub.aclose()
    assert swallowed == 2


async def test_reads_belong_to_no_request(
    client: StoreClient, shutdown: Shutdown, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    async def record(*args: object) -> Sequence[Event]:
        seen.append(request_id.get())
        raise StoreUnavailable("no server")

    async def read(reader: EventReader) -> Sequence[Event]:
        seen.append(request_id.get())
        await asyncio.sleep(60)
        return ()

    monkeypatch.setattr(EventReader, "read", read)
    monkeypatch.setattr("service.store.queries.JobReader.get_summaries", record)
    hub = EventHub(client, shutdown)
    request_id.set("r")
    with JobWatcher(client, hub, shutdown).watch("j"):
        with suppress(StoreUnavailable):
            await JobWatcher(client, hub, shutdown).get_job("j")
        await hub.aclose()
    assert seen == [None, None]


async def test_filtered_events_do_not_delay_the_keep_alive_of_a_stream(
    client: StoreClient, hub: EventHub, shutdown: Shutdown, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(subscription: Subscription, seconds: float) -> bool:
        waits.append(seconds)
        hub.publish([event(len(waits))])
        return True

    async def position(reader: EventReader) -> tuple[EntryId, ...]:
        return (START,)

    monkeypatch.setattr(Subscription, "wait", wait)
    monkeypatch.setattr(EventReader, "position", position)
    monkeypatch.setattr("service.store.events.stream.KEEP_ALIVE_INTERVAL", 0.01)
    stream = EventStream(client, hub, shutdown)
    with stream.subscribe() as subscription:
        following = stream.follow(subscription, None, JobFilter(queue="other"))
        async with aclosing(following):
            markers = [await anext(following) for _ in range(2)]
    assert [marker.kind for marker in markers if isinstance(marker, StreamMarker)] == ["started", "keep_alive"]
    assert len(waits) > 1
    assert waits == sorted(set(waits), reverse=True)


def positions_of(found: tuple[Sequence[Event], Position] | None) -> list[str] | None:
    return None if found is None else [one.position for one in found[0]]


def at(number: int, sequence: int = 0) -> Position:
    return Position(((number, sequence),))


def test_recent_events_are_found_by_position_while_they_are_in_memory() -> None:
    recent = RecentEvents()
    recent.on_gap(0, "5-0")
    recent.add([event(number) for number in range(6, 10)])
    assert recent.after(at(4, 9), 10) is None
    assert positions_of(recent.after(at(5), 2)) == ["6-0", "7-0"]
    assert positions_of(recent.after(at(8), 2)) == ["9-0"]
    assert positions_of(recent.after(at(9), 2)) == []
    recent.add([event(number) for number in range(10, 10 + BUFFER_SIZE)])
    assert recent.after(at(8, 9), 1) is None
    found = recent.after(at(9), 1)
    assert found is not None
    assert found[0] == [event(10)]


def test_recent_events_continue_after_the_position_of_the_last_ones() -> None:
    recent = RecentEvents()
    recent.on_gap(0, "5-0")
    recent.add([event(number) for number in range(6, 10)])
    found = recent.after(recent.start, 2)
    assert positions_of(found) == ["6-0", "7-0"]
    assert found is not None
    found = recent.after(found[1], 3)
    assert positions_of(found) == ["8-0", "9-0"]
    assert found is not None
    end = found[1]
    recent.add([event(number) for number in range(10, 10 + BUFFER_SIZE)])
    assert positions_of(recent.after(end, 2)) == ["10-0", "11-0"]
    recent.add([event(10 + BUFFER_SIZE)])
    assert recent.after(end, 2) is None


def test_a_client_that_is_ahead_in_one_partition_gets_each_event_once_with_ids_of_its_own() -> None:
    recent = RecentEvents(partitions=2)
    events = [replace(event(number), partition=partition) for number, partition in ((1, 0), (1, 1), (2, 1), (2, 0))]
    recent.add(events)
    found = recent.after(Position(((0, 0), (2, 0))), 3)
    assert found is not None
    assert [(one.position, one.partition, one.id) for one in found[0]] == [
        ("1-0", 0, str(Position(((1, 0), (2, 0))))),
    ]
    found = recent.after(found[1], 10)
    assert found is not None
    assert [(one.position, one.partition, one.id) for one in found[0]] == [("2-0", 0, str(Position(((2, 0), (2, 0)))))]
    recent.add([replace(event(3), partition=1)])
    found = recent.after(found[1], 10)
    assert found is not None
    assert [one.id for one in found[0]] == [str(Position(((2, 0), (3, 0))))]
    assert recent.after(Position(((0, 0), (0, 0))), 10) is not None


def test_events_before_a_gap_are_forgotten() -> None:
    recent = RecentEvents()
    recent.add([event(1), event(2)])
    before = recent.end(((2, 0),))
    recent.on_gap(0, "3-0")
    assert recent.after(before, 10) is None
    assert (recent.after(at(1), 10), positions_of(recent.after(at(3), 10)), recent.gaps) == (None, [], 1)
