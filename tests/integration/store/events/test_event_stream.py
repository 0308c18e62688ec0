"""Watching inside one process: no wake-up is lost, whatever happens between two steps."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from structlog.testing import capture_logs

from service.domain.errors import StoreTimeout
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.jobs import Job, JobFilter, Progress
from service.domain.states import Status
from service.store import keys
from service.store.events import reader as feeds
from service.store.events.job_watcher import JobWatcher
from service.store.events.reader import READ_COUNT, EventReader
from service.store.events.stream import BATCH, BUFFER_SIZE, EventStream, MarkerKind, StreamMarker
from service.store.jobs import JobStateManager
from service.store.pool import create_pool

SOON = 10.0


@pytest.fixture
def watching(pool: BlockingConnectionPool, feed: EventReader) -> JobWatcher:
    return JobWatcher(pool, feed)


@pytest.fixture
def timeline(pool: BlockingConnectionPool, feed: EventReader) -> EventStream:
    return EventStream(pool, feed)


async def seen_of(watching: JobWatcher, job_id: str = "j") -> list[Job | Event]:
    """Watch as a stream does: hear, read, follow."""
    with watching.watch(job_id) as watch:
        job = await watching.get_job(job_id)
        assert job
        async with asyncio.timeout(SOON):
            return [seen async for seen in watching.follow(watch, job, None) if seen is not None]


class Interrupted(JobWatcher):
    """Lets something happen before, or after, the record is read for the n-th time."""

    change: Callable[[], Any]
    at = 0
    before = False
    looks = 0

    async def look(self, job_id: str) -> Job | None:
        self.looks += 1
        if self.before and self.looks == self.at:
            await self.change()
        job = await super().get_job(job_id)
        if not self.before and self.looks == self.at:
            await self.change()
            await asyncio.sleep(0.1)  # so that its event has come before there is anybody who waits
        return job


@pytest.mark.parametrize("before", [True, False], ids=["before a look", "after a look"])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_change_between_any_two_steps_is_yielded(
    pool: BlockingConnectionPool,
    feed: EventReader,
    jobs: JobStateManager,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    before: bool,
) -> None:
    monkeypatch.setattr(
        "service.store.events.job_watcher.PROGRESS_SETTLE_TIME", 100.0
    )  # so that events alone say when to look
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    watching = Interrupted(pool, feed)
    watching.change, watching.at, watching.before = lambda: jobs.update_job_status("j", "completed"), at, before

    async def go_on() -> None:
        for current in range(12):
            await asyncio.sleep(0.3)
            if watching.looks < at:
                await jobs.update_job_status("j", "running", progress=Progress(current))

    going_on = asyncio.create_task(go_on())
    seen = await seen_of(watching)
    going_on.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await going_on
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
        async with asyncio.timeout(SOON):
            said = [await first, *[one async for one in following]]
    told = [(getattr(one, "kind", "record"), one.status, one.revision) for one in said if one is not None]
    assert [status for _, status, revision in told if revision == 2] == ["failed"]
    assert told[-1] in [("deleted", "failed", 3), ("record", "failed", 2)]


async def test_a_job_without_a_record_and_without_an_event_has_ended(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    job = (await jobs.create_job("j", 1)).job
    with watching.watch("j") as watch:
        await redis.delete("job:j")
        watch.wake()
        said = [one async for one in watching.follow(watch, job, job.version) if one is not None]
    await redis.flushdb()
    assert [(one.kind, one.version) for one in said] == [("deleted", f"{job.version[:-1]}2")]


async def test_newer_progress_without_an_event_is_yielded(watching: JobWatcher, jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running", progress=Progress(1))

    async def report() -> None:
        await asyncio.sleep(0.2)
        for current in (2, 3, 4):
            await jobs.update_job_status("j", "running", progress=Progress(current))
            await asyncio.sleep(0.2)  # so that each is looked for by itself

    reporting = asyncio.create_task(report())
    with watching.watch("j") as watch:
        job = await watching.get_job("j")
        assert job
        async with asyncio.timeout(SOON):
            async for seen in watching.follow(watch, job, None):
                if isinstance(seen, Job) and seen.progress == Progress(4):
                    break
    await reporting


async def test_concurrent_reads_share_round_trips(watching: JobWatcher, jobs: JobStateManager, redis: Redis) -> None:
    for number in range(50):
        await jobs.create_job(f"j{number}", 1)
    before = (await redis.info("commandstats"))["cmdstat_time"]["calls"]
    found = await asyncio.gather(*(watching.get_job(f"j{number % 50}") for number in range(1000)))
    assert [job.job_id for job in found if job] == [f"j{number % 50}" for number in range(1000)]
    assert (await redis.info("commandstats"))["cmdstat_time"]["calls"] - before < 20  # some by others


async def test_an_unreadable_record_affects_no_other_read(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job("good", 1)
    await redis.hset("job:bad", mapping={"status": "no such"})
    good, bad = await asyncio.gather(watching.get_job("good"), watching.get_job("bad"), return_exceptions=True)
    await redis.delete("job:bad")
    assert isinstance(good, Job)
    assert "not a record of ours" in str(bad)


async def hello_of(following: AsyncGenerator[StreamMarker | Sequence[Event]]) -> StreamMarker:
    hello = await anext(following)
    assert isinstance(hello, StreamMarker)
    assert hello.kind is MarkerKind.STARTED
    return hello


async def test_a_slow_subscriber_is_dropped_and_delays_no_other(timeline: EventStream, jobs: JobStateManager) -> None:
    with timeline.subscribed():
        slow, quick = timeline.follow(None, JobFilter()), timeline.follow(None, JobFilter())
        async with aclosing(slow), aclosing(quick):
            await hello_of(slow)
            await hello_of(quick)
            await jobs.create_job("j", 1)
            assert [event.job_id for event in await anext(slow)] == ["j"]
            assert [event.job_id for event in await asyncio.wait_for(anext(quick), SOON)] == ["j"]
            timeline.on_events([_event(number) for number in range(BUFFER_SIZE + 1)])
            last = await anext(slow)
            assert isinstance(last, StreamMarker)
            assert last.kind is MarkerKind.LAGGED
            with pytest.raises(StopAsyncIteration):
                await anext(slow)


async def test_other_tasks_run_while_many_events_are_yielded(timeline: EventStream) -> None:
    with timeline.subscribed():
        following = timeline.follow(None, JobFilter())
        async with aclosing(following):
            await hello_of(following)
            timeline.on_events([_event(number) for number in range(BUFFER_SIZE)])
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            told: list[Event] = []
            while len(told) < BUFFER_SIZE:
                batch = await anext(following)
                assert not isinstance(batch, StreamMarker)
                assert len(batch) <= BATCH
                told += batch
            counting.cancel()
    assert turns >= BUFFER_SIZE // BATCH - 1
    assert told == [_event(number) for number in range(BUFFER_SIZE)]


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


async def test_the_buffer_is_bounded(timeline: EventStream) -> None:
    for start in range(0, 3 * BUFFER_SIZE, 500):
        timeline.on_events([_event(number) for number in range(start, start + 500)])
    assert len(timeline._events) == len(timeline._positions) == BUFFER_SIZE


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Event | ControlEvent] = []
        self.positions: list[str] = []

    def hear(self, events: Any) -> None:
        self.heard += events

    def look_again(self, position: str) -> None:
        self.positions.append(position)


async def settled(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


async def test_a_stalled_process_reports_a_gap_when_events_were_trimmed(feed: EventReader, redis: Redis) -> None:
    await redis.xadd(keys.EVENTS, {"event": "drain", "queue": ""}, id="1-1")
    ear = Ear()
    feed.add(ear)
    await feed.position()
    assert ear.positions == ["1-1"]
    async with redis.pipeline() as pipe:  # at once: longer than is read at one time, and the beginning is cut off
        pipe.xtrim(keys.EVENTS, maxlen=0, approximate=False)
        for _ in range(READ_COUNT + 1):
            pipe.xadd(keys.EVENTS, {"event": "drain", "queue": ""})
        await pipe.execute()
    await settled(lambda: len(ear.positions) == 2)
    feed.remove(ear)


async def test_foreign_entries_of_the_stream_are_skipped(
    feed: EventReader, redis: Redis, jobs: JobStateManager
) -> None:
    ear = Ear()
    feed.add(ear)
    await feed.position()
    for entry in ({"a": "b"}, {"event": "no such", "job_id": "x"}, {"event": "changed", "job_id": "x"}):
        await redis.xadd(keys.EVENTS, entry)
    await jobs.create_job("j", 1)
    await settled(lambda: bool(ear.heard))
    await asyncio.sleep(0.2)  # nothing is heard twice
    assert [event.job_id for event in ear.heard if isinstance(event, Event)] == ["j"]
    feed.remove(ear)


async def test_the_reader_stops_without_subscribers(
    feed: EventReader, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BLOCK_MS", 50)
    ear = Ear()
    feed.add(ear)
    await feed.position()
    feed.remove(ear)
    await settled(lambda: feed._task is None)
    again = Ear()
    feed.add(again)
    await feed.position()
    assert again.positions
    feed.remove(again)


async def test_a_record_restored_to_an_older_state_is_yielded_although_its_version_was_seen(
    watching: JobWatcher, jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    older = await redis.dump("job:j")
    await jobs.update_job_status("j", "running", progress=Progress(1))
    seen: list[Job | Event] = []
    has_seen = asyncio.Event()

    async def rewind() -> None:
        await has_seen.wait()
        await redis.restore("job:j", 60_000, older, replace=True)
        await jobs.update_job_status("j", "failed")

    rewinding = asyncio.create_task(rewind())
    with watching.watch("j") as watch:
        job = await watching.get_job("j")
        assert job
        async with asyncio.timeout(SOON):
            async for one in watching.follow(watch, job, None):
                if one is not None:
                    seen.append(one)
                    has_seen.set()
    await rewinding
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


async def test_failed_and_resumed_reads_are_logged_once(feed: EventReader, redis: Redis) -> None:
    ear = Ear()
    await redis.set(keys.EVENTS, "foreign")
    with capture_logs() as lines:
        feed.add(ear)
        await asyncio.sleep(2.5)
        await redis.delete(keys.EVENTS)
        await feed.position()
        feed.remove(ear)
    assert [(line["log_level"], line["event"].split(";")[0]) for line in lines] == [
        ("warning", "event stream read failed"),
        ("info", "the events of Redis are read again"),
    ]


async def test_the_protocol_option_of_a_url_is_ignored(store_url: str, jobs: JobStateManager) -> None:
    pool = create_pool(f"{store_url}?protocol=3")
    feed, ear = EventReader(pool), Ear()
    feed.add(ear)
    try:
        await feed.position()
        await jobs.create_job("j", 1)
        await settled(lambda: bool(ear.heard))
    finally:
        await feed.aclose()
        await pool.disconnect()
