"""Events of sixteen partitions: who reads which streams, and streams of all jobs that reconnect."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from itertools import chain, count
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from structlog.testing import capture_logs

from service.domain.events import ControlEvent, Event
from service.domain.jobs import Job, JobFilter, Progress
from service.domain.shutdown import Shutdown
from service.store.client import StoreClient
from service.store.events.hub import EventHub, Subscription
from service.store.events.job_watcher import JobWatcher
from service.store.events.positions import START, Position, covers, parse_entry_id, parse_position
from service.store.events.reader import EventReader, Gap
from service.store.events.sources import READ_COUNT
from service.store.events.stream import EventStream, MarkerKind, StreamMarker
from service.store.jobs import JobStateManager
from service.store.partitions import Partitions
from tests.helpers.cluster_clients import clients, node_clients
from tests.helpers.deployments import DEPLOYMENT, reads_events, without_discovery
from tests.helpers.partitions import connect

pytestmark = pytest.mark.partitions(16)

PARTITIONS = Partitions(16)
#: The id of a job in each partition.
IDS = [next(f"j{n}" for n in count() if PARTITIONS.of(f"j{n}") is partition) for partition in PARTITIONS]
#: Seconds within which everything must happen.
TIMEOUT = 20.0

Messages = AsyncGenerator[StreamMarker | Sequence[Event]]


@pytest.fixture
def stream(client: StoreClient, hub: EventHub, shutdown: Shutdown) -> EventStream:
    return EventStream(client, hub, shutdown)


async def stored(redis: Redis) -> list[tuple[str, int, str]]:
    """Return job id, revision and entry id of all events in Redis."""
    found = []
    for partition in PARTITIONS:
        for entry, fields in await redis.xrange(partition.events):
            found.append((fields[b"job_id"].decode(), int(fields[b"revision"]), entry.decode()))
    return found


async def newest(redis: Redis) -> Position:
    """Return the position after all events in Redis."""
    last = [await redis.xrevrange(partition.events, count=1) for partition in PARTITIONS]
    return Position(tuple(parse_entry_id(found[0][0].decode()) if found else START for found in last))


async def marker(messages: Messages) -> StreamMarker:
    item = await asyncio.wait_for(anext(messages), TIMEOUT)
    assert isinstance(item, StreamMarker)
    return item


async def events(messages: Messages, number: int) -> list[Event]:
    """Return the next `number` events of a stream, or more if they come at once."""
    received: list[Event] = []
    async with asyncio.timeout(TIMEOUT):
        while len(received) < number:
            item = await anext(messages)
            assert not isinstance(item, StreamMarker), item
            received += item
    return received


async def read_streams(redis: Redis, during: Callable[[], Coroutine[Any, Any, None]]) -> set[tuple[str, ...]]:
    """Return the streams that each `XREAD` names until `during` has returned; on a cluster those of all polls."""
    seen: set[tuple[str, ...]] = set()
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(node_clients(redis))
        monitors = [await stack.enter_async_context(node.monitor()) for node in nodes]
        noting = [asyncio.create_task(note_streams(monitor, seen)) for monitor in monitors]
        await during()
        await asyncio.sleep(0.2)  # so that the monitors have all of it
        for task in noting:
            task.cancel()
        await asyncio.wait(noting)
    return {tuple(sorted(chain.from_iterable(seen)))} if DEPLOYMENT == "cluster" else seen


def own(connections: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the connections to the database of the store, without those of the shared service."""
    return [one for one in connections if one["db"] == ("0" if DEPLOYMENT == "cluster" else "1")]


async def note_streams(monitor: Any, seen: set[tuple[str, ...]]) -> None:
    """Note the streams that each `XREAD` names, and the one of each poll."""
    while True:
        match (await monitor.next_command())["command"].split():
            case ["XREAD", *words]:
                names = words[words.index("STREAMS") + 1 :]
                seen.add(tuple(names[: len(names) // 2]))
            case ["XRANGE", name, _, "+", *_]:
                seen.add((name,))


class TestReader:
    async def test_a_watcher_of_one_job_reads_one_stream(
        self, client: StoreClient, hub: EventHub, shutdown: Shutdown, jobs: JobStateManager, redis: Redis
    ) -> None:
        await jobs.create_job(IDS[3], 1)
        watcher, statuses = JobWatcher(client, hub, shutdown), []

        async def follow() -> None:
            with watcher.watch(IDS[3]) as watch:
                job = await watcher.get_job(IDS[3])
                assert job
                async for item in watcher.follow(watch, job, None):
                    if isinstance(item, Job):
                        statuses.append(item.status.value)
                        following = {"pending": "running", "running": "completed"}.get(item.status.value)
                        if following:
                            await hub.position()
                            await jobs.update_job_status(IDS[3], following)

        assert await read_streams(redis, follow) == {(PARTITIONS[3].events,)}
        assert statuses == ["pending", "running", "completed"]

    async def test_a_watcher_of_another_partition_is_read_for_at_once_and_wakes_no_other(
        self, hub: EventHub, jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.store.events.reader.BLOCK_MS", 60_000)
        first, second = Subscription(("job", IDS[0])), Subscription(("job", IDS[9]))
        async with asyncio.timeout(TIMEOUT):
            with capture_logs() as lines, hub.subscribe(first):
                await hub.position()
                first.wakeup.clear()
                with hub.subscribe(second):
                    await second.wakeup.wait()  # the gap with which its partition begins
                    second.wakeup.clear()
                    await hub.position()
                    await jobs.create_job(IDS[9], 1)
                    await second.wakeup.wait()
                    assert not first.wakeup.is_set()
                    await jobs.create_job(IDS[0], 1)
                    await first.wakeup.wait()
        assert without_discovery(lines) == [], "no read has ended by the timeout of its connection"

    async def test_a_partition_without_watchers_is_read_no_longer(
        self, hub: EventHub, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.store.events.reader.BLOCK_MS", 50)
        with hub.subscribe(Subscription(("job", IDS[0]))):
            with hub.subscribe(Subscription(("job", None))):
                await hub.position()
                assert {len(names) for names in await read_streams(redis, lambda: asyncio.sleep(0.3))} == {16}
            await asyncio.sleep(0.1)  # the read under way
            assert await read_streams(redis, lambda: asyncio.sleep(0.3)) == {(PARTITIONS[0].events,)}

    async def test_one_connection_to_each_redis_reads_all_partitions(self, hub: EventHub, redis: Redis) -> None:
        with hub.subscribe(Subscription(("job", None))), hub.subscribe(Subscription(("job", IDS[2]))):
            await hub.position()
            readers: list[int] = []
            for _ in range(1000):
                readers = [sum(map(reads_events, own(of_node))) for of_node in await clients(redis)]
                if all(readers):
                    break
                await asyncio.sleep(0.01)
            assert readers == [1] * len(readers)

    async def test_a_trimmed_partition_is_a_gap_there_and_loses_nothing_of_the_others(
        self, client: StoreClient, jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.store.events.reader.BLOCK_MS", 60_000)
        for job_id in IDS:
            await jobs.create_job(job_id, 1)
        reader = EventReader(client)
        assert {item.partition for item in await reader.read() if isinstance(item, Gap)} == {*range(16)}
        async with redis.pipeline() as pipe:  # atomically: more events than one read returns, and the old ones trimmed
            pipe.xtrim(PARTITIONS[5].events, maxlen=0, approximate=False)
            for _ in range(READ_COUNT + 1):
                pipe.xadd(PARTITIONS[5].events, {"event": "drain", "queue": ""})
            await pipe.execute()
        for job_id in IDS:
            if job_id != IDS[5]:
                await jobs.update_job_status(job_id, "failed")
        items: list[Event | ControlEvent | Gap] = []
        with capture_logs() as lines:
            async with asyncio.timeout(TIMEOUT):
                while len([item for item in items if not isinstance(item, ControlEvent)]) < 16:
                    items += await reader.read()
        assert [item.partition for item in items if isinstance(item, Gap)] == [5]
        assert without_discovery(lines) == [], "no read has ended by the timeout of its connection"
        changed = Counter(item.job_id for item in items if isinstance(item, Event))
        assert changed == Counter({*IDS} - {IDS[5]})


class Replica:
    """One of several processes: it keeps few events in memory, and receives each partition late by chance."""

    def __init__(self, pool: BlockingConnectionPool, chance: random.Random) -> None:
        client = connect(pool, partitions=16)
        self.hub = EventHub(client, Shutdown())
        self.stream = EventStream(client, self.hub, Shutdown())
        self._chance = chance
        self._publish = self.hub.publish
        self._held: dict[int, list[Event | Gap]] = defaultdict(list)
        self.hub.publish = self._publish_late  # type: ignore[method-assign]

    def _publish_late(self, items: Sequence[Event | ControlEvent | Gap]) -> None:
        for item in items:
            assert not isinstance(item, ControlEvent)
            self._held[item.partition].append(item)
        has_gap = any(isinstance(item, Gap) for item in items)
        self.release(1.0 if has_gap else 0.5)

    def release(self, probability: float) -> None:
        """Publish the events that were held back, of each partition with a probability."""
        for partition in [*self._held]:
            if self._chance.random() < probability:
                self._publish(self._held.pop(partition))


class Follower:
    """A client of `/v1/events` that breaks its connections and reconnects with the last id."""

    def __init__(self, position: str) -> None:
        self.position = position
        self.received: list[Event] = []

    async def follow(self, stream: EventStream, wanted: int) -> None:
        """Receive `wanted` events over one connection."""
        with stream.subscribe() as subscription:
            messages = stream.follow(subscription, self.position, JobFilter())
            async with aclosing(messages):
                async for message in messages:
                    if isinstance(message, StreamMarker):
                        assert message.kind is not MarkerKind.RESET
                        continue
                    self._receive(message[:wanted])  # the connection breaks in the middle of a batch, too
                    wanted -= len(message)
                    if wanted <= 0:
                        return

    def _receive(self, events: Sequence[Event]) -> None:
        for event in events:
            self.received.append(event)
            self.position = event.id


async def change_jobs(jobs: JobStateManager, chance: random.Random, number: int) -> None:
    """Create jobs, start and complete them."""
    for job_id in (f"job-{one}" for one in range(number)):
        await jobs.create_job(job_id, 1)
        for status in ("running", "completed"):
            await jobs.update_job_status(job_id, status)
            if chance.random() < 0.15:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", range(4))
async def test_a_client_that_reconnects_anywhere_receives_every_event_once_and_each_job_in_order(
    pool: BlockingConnectionPool, jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("service.store.events.hub.BUFFER_SIZE", 30)
    monkeypatch.setattr("service.store.events.stream.BATCH", 20)
    monkeypatch.setattr("service.store.events.reader.BLOCK_MS", 50)
    chance = random.Random(seed)
    await jobs.create_job("first", 1)
    [before] = await stored(redis)
    follower = Follower(str(await newest(redis)))
    async with AsyncExitStack() as stack:
        replicas = [Replica(pool, chance) for _ in range(3)]
        for replica in replicas:
            stack.push_async_callback(replica.hub.aclose)
            stack.enter_context(replica.hub.subscribe(Subscription(("job", None))))
        changing = asyncio.create_task(change_jobs(jobs, chance, 100))
        async with asyncio.timeout(60):
            while not changing.done() or len(follower.received) < 300:
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.choice((0.05, 0.5))):
                        await follower.follow(chance.choice(replicas).stream, chance.randint(0, 60))
                chance.choice(replicas).release(0.5)
        await changing
    received = Counter((event.job_id, event.revision, event.position) for event in follower.received)
    assert received == Counter(await stored(redis)) - Counter([before])
    revisions = defaultdict(list)
    for event in follower.received:
        revisions[event.job_id].append(event.revision)
    assert {tuple(found) for found in revisions.values()} == {(1, 2, 3)}


class TestResuming:
    @pytest.mark.parametrize("foreign", ["5-5", "nonsense", "", str(Position((START,) * 8))])
    async def test_an_id_that_is_not_of_sixteen_partitions_gets_reset(
        self, stream: EventStream, jobs: JobStateManager, foreign: str
    ) -> None:
        await jobs.create_job(IDS[0], 1)
        with stream.subscribe() as subscription:
            messages = stream.follow(subscription, foreign, JobFilter())
            async with aclosing(messages):
                started, reset = await marker(messages), await marker(messages)
                assert (started.kind, reset.kind) == (MarkerKind.STARTED, MarkerKind.RESET)
                assert parse_position(reset.position, 16) is not None
                await jobs.create_job(IDS[1], 1)
                assert [event.job_id for event in await events(messages, 1)] == [IDS[1]]

    @pytest.mark.parametrize("number", [0, 7, 15])
    async def test_a_stream_gets_reset_if_its_place_in_one_partition_is_trimmed(
        self, stream: EventStream, jobs: JobStateManager, redis: Redis, number: int
    ) -> None:
        for job_id in IDS:
            await jobs.create_job(job_id, 1)
        position = str(await newest(redis))
        for job_id in IDS:
            await jobs.update_job_status(job_id, "failed")
        with stream.subscribe() as subscription:
            messages = stream.follow(subscription, position, JobFilter())
            async with aclosing(messages):
                assert (await marker(messages)).kind is MarkerKind.STARTED
                assert {event.job_id for event in await events(messages, 16)} == {*IDS}
        await redis.xtrim(PARTITIONS[number].events, maxlen=1, approximate=False)
        with stream.subscribe() as subscription:
            messages = stream.follow(subscription, position, JobFilter())
            async with aclosing(messages):
                assert (await marker(messages)).kind is MarkerKind.STARTED
                assert (await marker(messages)).kind is MarkerKind.RESET

    async def test_since_before_the_oldest_event_of_one_partition_gets_reset(
        self, stream: EventStream, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.store.events.stream.EVENTS_KEPT", 3)
        for number, expected in ((1, []), (2, []), (3, [MarkerKind.RESET])):
            await redis.xadd(PARTITIONS[4].events, {"event": "drain"}, id=f"{number}-0")
            with stream.subscribe() as subscription:
                _, is_complete = await stream._start(await stream._hub.position(), None, 0)
                assert is_complete == (not expected)
                messages = stream.follow(subscription, None, JobFilter(), since=0)
                async with aclosing(messages):
                    assert (await marker(messages)).kind is MarkerKind.STARTED
                    assert [(await marker(messages)).kind for _ in expected] == expected

    async def test_since_starts_every_partition_at_a_time_and_orders_the_events_by_time(
        self, stream: EventStream, jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.store.events.stream.BATCH", 16)  # one event of each partition at once
        for job_id in IDS:
            await jobs.create_job(job_id, 1)
        await asyncio.sleep(0.005)
        seconds, micros = await redis.time()
        await asyncio.sleep(0.005)
        expected = []
        for number in (0, 0, 0, 5, 5, 9, *range(16), 0, 5):
            ids = (f"n{n}" for n in count())
            expected.append(next(one for one in ids if one not in expected and PARTITIONS.of(one).number == number))
            await jobs.create_job(expected[-1], 1)
            await asyncio.sleep(0.002)
        with stream.subscribe() as subscription:
            messages = stream.follow(subscription, None, JobFilter(), since=seconds * 1_000_000 + micros)
            async with aclosing(messages):
                assert (await marker(messages)).kind is MarkerKind.STARTED
                received = await events(messages, len(expected))
        assert [event.job_id for event in received] == expected

    async def test_a_stream_continues_with_new_events_if_older_ones_are_trimmed_while_it_reads_them(
        self, stream: EventStream, hub: EventHub
    ) -> None:
        hub.recent.on_gap(7, "5-0")
        with stream.subscribe() as subscription:
            subscription.position = Position((START,) * 16)
            assert await stream._read_history(subscription) == []
            assert covers(subscription.position.entries, hub.recent.start.entries)

    async def test_every_id_resumes_after_its_event(
        self, stream: EventStream, jobs: JobStateManager, redis: Redis
    ) -> None:
        position = str(await newest(redis))
        for current in range(3):
            for job_id in IDS:
                if current == 0:
                    await jobs.create_job(job_id, 1)
                else:
                    await jobs.update_job_status(job_id, "running", progress=Progress(current))
        number = len(await stored(redis))

        async def after(event_id: str, wanted: int) -> list[Event]:
            with stream.subscribe() as subscription:
                messages = stream.follow(subscription, event_id, JobFilter())
                async with aclosing(messages):
                    assert (await marker(messages)).kind is MarkerKind.STARTED
                    return await events(messages, wanted) if wanted else []

        all_events = await after(position, number)
        assert len(all_events) == number
        for index, event in enumerate(all_events):
            rest = await after(event.id, number - index - 1)
            assert sorted(one.position for one in rest) == sorted(one.position for one in all_events[index + 1 :])
