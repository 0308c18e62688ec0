"""The event reader, job watcher and event stream of one process: no event is lost."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.domain.errors import StoreTimeout
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.jobs import Job, JobFilter, Progress
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.events.hub import BUFFER_SIZE, EventHub, Subscription
from service.store.events.job_watcher import JobWatcher
from service.store.events.positions import START, Position, format_entry_id, parse_entry_id
from service.store.events.reader import EventReader, Gap
from service.store.events.sources import READ_COUNT
from service.store.events.stream import BATCH, EventStream, MarkerKind, StreamMarker
from service.store.jobs import JobStateManager
from service.store.observer import NullObserver
from service.store.pool import create_pool
from tests.helpers.cluster_clients import command_calls
from tests.helpers.deployments import standalone_only, without_discovery
from tests.helpers.partitions import PARTITIONS, connect

Item = Event | ControlEvent | Gap

#: Seconds within which everything must happen.
TIMEOUT = 10.0
#: The record of the job `j`, and the events of its partition.
RECORD, EVENTS = PARTITIONS.of("j").job("j"), PARTITIONS.of("j").events


@pytest.fixture
def watching(client: StoreClient, hub: EventHub, shutdown: Shutdown) -> JobWatcher:
    return JobWatcher(client, hub, shutdown)


@pytest.fixture
def timeline(client: StoreClient, hub: EventHub, shutdown: Shutdown) -> EventStream:
    return EventStream(client, hub, shutdown)


async def followed(watching: JobWatcher, job_id: str = "j") -> list[Job | Event]:
    """Return all that a stream of the job yields: subscribe, read, follow."""
    with watching.watch(job_id) as watch:
        job = await watching.get_job(job_id)
        assert job
        async with asyncio.timeout(TIMEOUT):
            return [item async for item in watching.follow(watch, job, None) if item is not None]


class Interrupted(JobWatcher):
    """Makes a change before or after the n-th read of the job."""

    change: Callable[[], Any]
    at = 0
    before = False
    reads = 0

    async def get_job(self, job_id: str) -> Job | None:
        self.reads += 1
        if self.before and self.reads == self.at:
            await self.change()
        job = await super().get_job(job_id)
        if not self.before and self.reads == self.at:
            await self.change()
            await asyncio.sleep(0.1)  # so that the event arrives before the watcher waits for one
        return job


@pytest.mark.parametrize("before", [True, False], ids=["before a read", "after a read"])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_change_between_any_two_steps_is_yielded(
    client: StoreClient,
    hub: EventHub,
    shutdown: Shutdown,
    jobs: JobStateManager,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    before: bool,
) -> None:
    monkeypatch.setattr(
        "service.store.events.job_watcher.PROGRESS_SETTLE_TIME", 100.0
    )  # so that only events trigger reads
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    watching = Interrupted(client, hub, shutdown)
    watching.change, watching.at, watching.before = lambda: jobs.update_job_status("j", "completed"), at, before

    async def report_progress() -> None:
        for current in range(12):
            await asyncio.sleep(0.3)
            if watching.reads < at:
                await jobs.update_job_status("j", "running", progress=Progress(current))

    reporting = asyncio.create_task(report_progress())
    seen = await followed(watching)
    reporting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reporting
    assert seen[-1].status == "completed"
    assert len({one.version for one in seen}) == len(seen)


async def test_the_final_state_of_a_job_deleted_before_it_was_read_is_yielded(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    job = (await jobs.create_job("j", 1)).job
    with watching.watch("j") as watch:
        following = watching.follow(watch, job, job.version)
        first = asyncio.create_task(anext(following))
        await asyncio.sleep(0.2)
        await jobs.update_job_status("j", "failed")
        await jobs.delete_job("j")
        await jobs.create_job("j", 2)
        async with asyncio.timeout(TIMEOUT):
            items = [await first, *[item async for item in following]]
    states = [(getattr(item, "kind", "record"), item.status, item.revision) for item in items if item is not None]
    assert [status for _, status, revision in states if revision == 2] == ["failed"]
    assert states[-1] in [("deleted", "failed", 3), ("record", "failed", 2)]


async def test_a_job_without_a_record_and_without_an_event_has_ended(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    job = (await jobs.create_job("j", 1)).job
    with watching.watch("j") as watch:
        await redis.delete(RECORD)
        watch.wakeup.set()
        items = [item async for item in watching.follow(watch, job, job.version) if item is not None]
    await redis.flushdb()
    assert [(item.kind, item.version) for item in items] == [("deleted", f"{job.version[:-1]}2")]


async def test_newer_progress_without_an_event_is_yielded(watching: JobWatcher, jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running", progress=Progress(1))

    async def report() -> None:
        await asyncio.sleep(0.2)
        for current in (2, 3, 4):
            await jobs.update_job_status("j", "running", progress=Progress(current))
            await asyncio.sleep(0.2)  # so that each one is read

    reporting = asyncio.create_task(report())
    with watching.watch("j") as watch:
        job = await watching.get_job("j")
        assert job
        async with asyncio.timeout(TIMEOUT):
            async for seen in watching.follow(watch, job, None):
                if isinstance(seen, Job) and seen.progress == Progress(4):
                    break
    await reporting


@pytest.mark.usefixtures("only_caller")
async def test_concurrent_reads_share_round_trips(watching: JobWatcher, jobs: JobStateManager, redis: Redis) -> None:
    for number in range(50):
        await jobs.create_job(f"j{number}", 1)
    before = (await command_calls(redis))["time"]
    found = await asyncio.gather(*(watching.get_job(f"j{number % 50}") for number in range(1000)))
    assert [job.job_id for job in found if job] == [f"j{number % 50}" for number in range(1000)]
    assert (await command_calls(redis))["time"] - before < 20  # each round trip reads the time


async def test_an_unreadable_record_affects_no_other_read(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job("good", 1)
    bad_record = PARTITIONS.of("bad").job("bad")
    await redis.hset(bad_record, mapping={"status": "no such"})
    good, bad = await asyncio.gather(watching.get_job("good"), watching.get_job("bad"), return_exceptions=True)
    await redis.delete(bad_record)
    assert isinstance(good, Job)
    assert "unreadable record" in str(bad)


async def started(following: AsyncGenerator[StreamMarker | Sequence[Event]]) -> StreamMarker:
    marker = await anext(following)
    assert isinstance(marker, StreamMarker)
    assert marker.kind is MarkerKind.STARTED
    return marker


async def test_a_slow_subscriber_is_dropped_and_delays_no_other(
    timeline: EventStream, hub: EventHub, jobs: JobStateManager
) -> None:
    with timeline.subscribe() as one, timeline.subscribe() as other:
        slow, quick = timeline.follow(one, None, JobFilter()), timeline.follow(other, None, JobFilter())
        async with aclosing(slow), aclosing(quick):
            await started(slow)
            await started(quick)
            await jobs.create_job("j", 1)
            assert [event.job_id for event in await anext(slow)] == ["j"]
            assert [event.job_id for event in await asyncio.wait_for(anext(quick), TIMEOUT)] == ["j"]
            hub.publish([_event(number) for number in range(BUFFER_SIZE + 1)])
            last = await anext(slow)
            assert isinstance(last, StreamMarker)
            assert last.kind is MarkerKind.LAGGED
            with pytest.raises(StopAsyncIteration):
                await anext(slow)


async def test_an_event_that_the_client_has_from_another_process_is_not_repeated(
    timeline: EventStream, hub: EventHub, jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[list[Item]] = []
    with timeline.subscribe() as subscription:
        await hub.position()
        monkeypatch.setattr(hub, "publish", held.append)  # this process is late
        await jobs.create_job("seen", 1)
        following = timeline.follow(subscription, await newest_event_id(redis), JobFilter())
        async with aclosing(following):
            await started(following)
            await wait_until(lambda: any(held))
            monkeypatch.undo()
            for items in held:
                hub.publish(items)
            await jobs.create_job("new", 1)
            assert [event.job_id for event in await asyncio.wait_for(anext(following), TIMEOUT)] == ["new"]


async def test_other_tasks_run_while_many_events_are_yielded(timeline: EventStream, hub: EventHub) -> None:
    with timeline.subscribe() as subscription:
        following = timeline.follow(subscription, None, JobFilter())
        async with aclosing(following):
            await started(following)
            hub.publish([_event(number) for number in range(BUFFER_SIZE)])
            ticks = 0

            async def count() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            received: list[Event] = []
            while len(received) < BUFFER_SIZE:
                batch = await anext(following)
                assert not isinstance(batch, StreamMarker)
                assert len(batch) <= BATCH
                received += batch
            counting.cancel()
    assert ticks >= BUFFER_SIZE // BATCH - 1
    assert [replace(event, cursor=None) for event in received] == [_event(number) for number in range(BUFFER_SIZE)]


def _event(number: int) -> Event:
    after = 2_000_000_000_000
    return Event(
        position=f"{after}-{number}",
        kind=EventKind.CHANGED,
        job_id="j",
        status=Status.RUNNING,
        revision=2,
        queue="q",
        created=1,
    )


async def test_the_buffer_is_bounded(hub: EventHub) -> None:
    for start in range(0, 3 * BUFFER_SIZE, 500):
        hub.publish([_event(number) for number in range(start, start + 500)])
    assert len(hub.recent._events) == BUFFER_SIZE
    # With one partition the events have their positions.
    assert len(hub.recent._positions) == (BUFFER_SIZE if len(PARTITIONS) > 1 else 0)


async def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition was not met in time")


async def read_until(reader: EventReader, condition: Callable[[list[Item]], bool]) -> list[Item]:
    """Return all that a reader returns until `condition` is true of it."""
    items: list[Item] = []
    async with asyncio.timeout(TIMEOUT):
        while not condition(items):
            items += await reader.read()
    return items


def gaps_in(items: list[Item]) -> list[str]:
    """Return the positions of the gaps in the partition of the job `j`."""
    number = PARTITIONS.of("j").number
    return [item.position for item in items if isinstance(item, Gap) and item.partition == number]


async def position_of(reader: EventReader) -> str:
    """Return where a reader is in the partition of the job `j`."""
    return format_entry_id((await reader.position())[PARTITIONS.of("j").number])


async def newest_event_id(redis: Redis) -> str:
    """Return the event id of a client that has all events."""
    newest = [await redis.xrevrange(partition.events, count=1) for partition in PARTITIONS]
    return str(Position(tuple(parse_entry_id(found[0][0].decode()) if found else START for found in newest)))


async def test_a_stalled_process_reports_a_gap_when_events_were_trimmed(client: StoreClient, redis: Redis) -> None:
    await redis.xadd(EVENTS, {"event": "drain", "queue": ""}, id="1-1")
    reader = EventReader(client)
    assert gaps_in([*await reader.read()]) == [await position_of(reader)] == ["1-1"]
    async with redis.pipeline() as pipe:  # atomically: more events than one read returns, and the old ones trimmed
        pipe.xtrim(EVENTS, maxlen=0, approximate=False)
        for _ in range(READ_COUNT + 1):
            pipe.xadd(EVENTS, {"event": "drain", "queue": ""})
        await pipe.execute()
    items = await read_until(reader, gaps_in)
    assert gaps_in(items) == [await position_of(reader)]


async def test_foreign_entries_of_the_stream_are_skipped(
    client: StoreClient, redis: Redis, jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.events.reader.BLOCK_MS", 200)
    reader = EventReader(client)
    await reader.read()
    unknown = {"event": "no such", "job_id": "x", "queue": "q"}
    for entry in ({"a": "b"}, unknown, {"event": "changed", "job_id": "x"}):
        await redis.xadd(EVENTS, entry)
    await jobs.create_job("j", 1)
    items = await read_until(reader, bool)
    items += await reader.read()  # in which an event that arrives twice would be seen
    assert [event.job_id for event in items if isinstance(event, Event)] == ["j"]
    assert not [item for item in items if not isinstance(item, Event)]


async def test_the_reader_stops_without_subscribers(
    hub: EventHub, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.events.reader.BLOCK_MS", 50)
    with hub.subscribe(Subscription(("job", "j"))):
        await hub.position()
    await wait_until(lambda: hub._task is not None and hub._task.done())
    gaps = hub.recent.gaps
    with hub.subscribe(Subscription(("job", "j"))):
        await hub.position()
        assert hub.recent.gaps > gaps


async def test_a_record_restored_to_an_older_state_is_yielded_although_its_version_was_seen(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    older = await redis.dump(RECORD)
    await jobs.update_job_status("j", "running", progress=Progress(1))
    seen: list[Job | Event] = []
    has_seen = asyncio.Event()

    async def restore_older() -> None:
        await has_seen.wait()
        await redis.restore(RECORD, 60_000, older, replace=True)
        await jobs.update_job_status("j", "failed")

    restoring = asyncio.create_task(restore_older())
    with watching.watch("j") as watch:
        job = await watching.get_job("j")
        assert job
        async with asyncio.timeout(TIMEOUT):
            async for one in watching.follow(watch, job, None):
                if one is not None:
                    seen.append(one)
                    has_seen.set()
    await restoring
    await redis.flushdb()
    assert seen[0].revision == seen[-1].revision == 3
    assert seen[-1].status == "failed"


async def test_reads_time_out_when_redis_hangs(watching: JobWatcher, jobs: JobStateManager, redis: Redis) -> None:
    await redis.client_pause(5000)
    started = asyncio.get_running_loop().time()
    found = await asyncio.gather(*(watching.get_job(f"j{number}") for number in range(350)), return_exceptions=True)
    assert asyncio.get_running_loop().time() - started < 3.5
    assert all(isinstance(one, StoreTimeout) for one in found)
    await asyncio.sleep(2)


async def test_failed_and_resumed_reads_are_logged_once(hub: EventHub, redis: Redis) -> None:
    await redis.set(EVENTS, "foreign")
    with capture_logs() as lines, hub.subscribe(Subscription(("job", "j"))):
        await asyncio.sleep(2.5)
        await redis.delete(EVENTS)
        await hub.position()
    assert [(line["log_level"], line["event"]) for line in without_discovery(lines)] == [
        ("warning", "event stream read failed"),
        ("info", "event stream read resumed"),
    ]


@standalone_only("only the pool of one Redis takes this option; another deployment refuses it")
async def test_the_protocol_option_of_a_url_is_ignored(store_url: str, jobs: JobStateManager) -> None:
    pool = create_pool(f"{store_url}?protocol=3")
    reader = EventReader(connect(pool, NullObserver()))
    try:
        await reader.read()
        await jobs.create_job("j", 1)
        assert await read_until(reader, bool)
    finally:
        await pool.disconnect()
