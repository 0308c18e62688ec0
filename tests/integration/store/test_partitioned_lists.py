"""Lists over several partitions: pages are merged, and large fields are read for a page alone."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job, JobFilter
from service.domain.states import Status
from service.store import listing
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.partitions import Partitions
from tests.helpers.cluster_clients import command_calls
from tests.helpers.consistency import inconsistencies
from tests.helpers.deployments import not_on_cluster
from tests.helpers.partitions import connect as open_client

Connect = Callable[[int], JobStateManager]
of_one_partition = not_on_cluster("a cluster has several partitions")


@pytest.fixture
async def connect(pool: BlockingConnectionPool, redis: Redis) -> AsyncIterator[Connect]:
    """A function that returns the jobs of a database with so many partitions."""
    await redis.flushdb()  # with the number of partitions that a start on a cluster wrote
    counts: list[int] = []

    def connect(count: int) -> JobStateManager:
        counts.append(count)
        return JobStateManager(open_client(pool, partitions=count), ttl=timedelta(days=1))

    yield connect
    assert await inconsistencies(redis, Partitions(counts[-1])) == []
    await redis.flushdb()  # the other fixtures check the number of partitions that the suite runs with


@pytest.fixture
def jobs(connect: Connect) -> JobStateManager:
    return connect(16)


def ids(found: Sequence[Job]) -> list[str]:
    return [job.job_id for job in found]


async def pages_of(jobs: JobStateManager, filters: JobFilter, limit: int, **options: Any) -> AsyncIterator[list[Job]]:
    """Yield the pages of a list. Each must be newest first, and start below the one before."""
    before = None
    for number in count():
        page = await jobs.list_jobs(filters, limit=limit, before=before, **options)
        assert len(page.items) <= limit
        yield page.items
        if page.next_before is None:
            return
        assert before is None or page.next_before < before, number
        before = page.next_before


async def all_of(jobs: JobStateManager, filters: JobFilter, limit: int = 200, **options: Any) -> list[Job]:
    return [job async for page in pages_of(jobs, filters, limit, **options) for job in page]


def options_of(choose: random.Random) -> dict[str, Any]:
    """Return labels and a queue for a new job; most jobs have common ones."""
    return {
        **{"queue": choose.choice(["a", "a", "b", "c"]), "slate_id": choose.choice([None, "s1", "s1", "s2"])},
        **{"correlation_id": choose.choice([None, "c1", "c2"]), "delay_seconds": choose.choice([0, 0, 0, 60])},
    }


async def change(jobs: JobStateManager, choose: random.Random, job_id: str) -> None:
    for status in choose.choice([[], ["running"], ["running", "completed"], ["failed"], ["cancelled"]]):
        await jobs.update_job_status(job_id, status)


def matches(job: Job, filters: JobFilter) -> bool:
    wanted = {name: getattr(filters, name) for name in filters.__struct_fields__}
    return all(value in (None, ()) or getattr(job, name) == value for name, value in wanted.items())


FILTERS = [
    JobFilter(status=status, queue=queue, slate_id=slate_id, correlation_id=correlation_id)
    for status, queue, slate_id, correlation_id in itertools.product(
        [None, Status.PENDING, Status.CANCELLED], [None, "b"], [None, "s1"], [None, "c1"]
    )
]


@pytest.mark.parametrize("number_of_partitions", [pytest.param(1, marks=of_one_partition), 4, 16, 64])
async def test_jobs_that_stay_are_listed_exactly_once_while_others_are_created_and_changed(
    connect: Connect, number_of_partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, choose = connect(number_of_partitions), random.Random(number_of_partitions)
    staying, moving = [f"stays{n}" for n in range(150)], [f"moves{n}" for n in range(150)]
    for job_id in sorted([*staying, *moving], key=lambda _: choose.random()):
        await jobs.create_job(job_id, 1, **options_of(choose))
        await change(jobs, choose, job_id)
    stays = {job.job_id: job for job in (await jobs.get_jobs(staying)).items}

    async def disturb() -> None:
        """Create, change and delete others, so that they change lists and leave them while pages are read."""
        for number in count():
            job_id = choose.choice([*moving, f"new{number % 200}"])
            job = await jobs.get_job(job_id)
            if job is None:
                await jobs.create_job(job_id, 1, **options_of(choose))
            elif job.is_final:
                await jobs.delete_job(job_id)
            else:
                await jobs.update_job_status(job_id, "cancelled")

    disturbing = asyncio.create_task(disturb())
    for filters in FILTERS:
        limit = choose.choice([3, 10, 50, 200])
        monkeypatch.setattr(listing, "MAX_PAGE_SCAN", choose.choice([20, 100, 1000]))
        monkeypatch.setattr(listing, "MIN_PARTITION_SCAN", choose.choice([1, 5, 50]))
        seen = ids(await all_of(jobs, filters, limit, include=choose.choice([[], ["input_params"]])))

        expected = sorted((job for job in stays.values() if matches(job, filters)), key=lambda job: job.created_at)
        assert [one for one in seen if one in stays] == ids(expected)[::-1], filters
        assert len(set(seen)) == len(seen), filters
    assert not disturbing.done()
    disturbing.cancel()
    await asyncio.wait({disturbing})


async def scripts_run(redis: Redis) -> int:
    return (await command_calls(redis))["evalsha"]


@pytest.mark.usefixtures("only_caller")
async def test_a_page_over_64_partitions_takes_little_more_than_a_script_for_each(
    connect: Connect, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = connect(64)
    names = [sha256(str(number).encode()).hexdigest()[:20] for number in range(1000)]
    for start in range(0, 1000, 50):  # so that those of each time are on all nodes
        await asyncio.gather(*(jobs.create_job(name, 1) for name in names[start : start + 50]))
    trips = 0

    async def gather(calls: Any) -> list[Any]:
        nonlocal trips
        trips += 1
        return await original(calls)

    original = listing.gather
    monkeypatch.setattr(listing, "gather", gather)
    await jobs.list_jobs(JobFilter())  # loads the script
    trips, before = 0, await scripts_run(redis)

    found = [ids(page) async for page in pages_of(jobs, JobFilter(), 50)]

    assert len({job_id for page in found for job_id in page}) == 1000
    scripts = await scripts_run(redis) - before
    assert len(found) == 20
    assert 64 < scripts / 20 < 67
    assert 1 < trips / 20 < 2


@pytest.mark.usefixtures("only_caller")
@of_one_partition
async def test_one_partition_needs_one_script_for_a_page_with_large_fields(connect: Connect, redis: Redis) -> None:
    jobs = connect(1)
    for number in range(20):
        await jobs.create_job(f"j{number}", "x" * 100)
        await jobs.update_job_status(f"j{number}", "failed", error="broken")
    await jobs.list_jobs(JobFilter())
    await redis.config_resetstat()

    [page] = [page async for page in pages_of(jobs, JobFilter(), 20, include=["input_params"])]

    stats = await command_calls(redis)
    assert len(page) == 20
    assert all(job.input_params and job.error_message for job in page)
    assert (stats["evalsha"], stats["hmget"]) == (1, 40)  # in the script


async def test_large_fields_are_read_for_the_jobs_of_the_page_alone(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        await jobs.create_job(f"j{number}", {"n": number})
        if number % 2:
            await jobs.update_job_status(f"j{number}", "failed", error=number)
    read: list[list[str]] = []

    async def record(client: StoreClient, job_ids: list[str], fields: Sequence[str]) -> Any:
        read.append(job_ids)
        return await read_jobs(client, job_ids, fields)

    read_jobs = listing.read_jobs
    monkeypatch.setattr(listing, "read_jobs", record)

    page = (await jobs.list_jobs(JobFilter(), limit=10, include=["input_params"])).items
    assert ids(page) == [f"j{number}" for number in range(99, 89, -1)]
    assert [job.input_params and bytes(job.input_params) for job in page] == [
        b'{"n":%d}' % number for number in range(99, 89, -1)
    ]
    assert [job.error_message and bytes(job.error_message) for job in page[:2]] == [b"99", None]

    with_errors = (await jobs.list_jobs(JobFilter(), limit=10)).items
    assert [job.error_message and bytes(job.error_message) for job in with_errors[:2]] == [b"99", None]
    assert len((await jobs.list_jobs(JobFilter(status=Status.PENDING), limit=10)).items) == 10
    assert read == [ids(page), ids(page)[::2]]


async def test_pages_end_at_their_byte_limit_over_all_partitions(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES", 1000)
    sizes = [10, 5000, 400, 400, 400, *[90] * 20]
    for number, size in enumerate(sizes):
        await jobs.create_job(f"j{number}", "x" * size)

    pages = [
        [int(one[1:]) for one in ids(page)] async for page in pages_of(jobs, JobFilter(), 200, include=["input_params"])
    ]

    assert pages == [[*range(24, 14, -1)], [*range(14, 4, -1)], [4, 3], [2], [1], [0]]


async def test_a_page_of_eight_mebibytes_is_read_whole(jobs: JobStateManager) -> None:
    for number in range(20):
        await jobs.create_job(f"j{number}", "x" * (1024 * 1024 - 2))

    pages = [page async for page in pages_of(jobs, JobFilter(), 200, include=["input_params"])]

    assert [len(page) for page in pages] == [8, 8, 4]
    assert sorted(job_id for page in pages for job_id in ids(page)) == sorted(f"j{number}" for number in range(20))


async def test_error_messages_alone_end_a_page_too(jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES", 1000)
    for number in range(4):
        await jobs.create_job(f"j{number}", 1)
        await jobs.update_job_status(f"j{number}", "failed", error="x" * 400)

    pages = [ids(page) async for page in pages_of(jobs, JobFilter(), 200)]

    assert pages == [["j3", "j2"], ["j1", "j0"]]


async def test_a_job_that_changes_while_a_page_is_read_is_whole_or_absent(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stays", "gone", "again", "completes"):
        await jobs.create_job(name, name)
    await jobs.update_job_status("completes", "running")

    async def change_then_read(*arguments: Any) -> Any:
        monkeypatch.undo()
        for name in ("gone", "again"):
            await jobs.update_job_status(name, "failed")
            await jobs.delete_job(name)
        await jobs.create_job("again", "another")
        await jobs.update_job_status("completes", "completed", {"a": 1})
        return await read_jobs(*arguments)

    read_jobs = listing.read_jobs
    monkeypatch.setattr(listing, "read_jobs", change_then_read)
    page = await jobs.list_jobs(JobFilter(), include=["input_params", "result"])

    assert ids(page.items) == ["completes", "stays"]
    completed = page.items[0]
    assert (completed.status, completed.result and bytes(completed.result)) == (Status.COMPLETED, b'{"a":1}')


async def test_a_job_that_leaves_the_status_of_the_filter_while_a_page_is_read_is_absent(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        await jobs.create_job(name, name)

    async def change_then_read(*arguments: Any) -> Any:
        monkeypatch.undo()
        await jobs.update_job_status("a", "running")
        return await read_jobs(*arguments)

    read_jobs = listing.read_jobs
    monkeypatch.setattr(listing, "read_jobs", change_then_read)
    page = await jobs.list_jobs(JobFilter(status=Status.PENDING), include=["input_params"])

    assert ids(page.items) == ["b"]


@pytest.mark.parametrize("include", [[], ["input_params"]])
async def test_an_unreadable_record_does_not_end_a_list(
    jobs: JobStateManager, redis: Redis, include: list[str]
) -> None:
    for number in range(30):
        await jobs.create_job(f"j{number}", 1)
    records = [Partitions(16).of(f"j{number}").job(f"j{number}") for number in (3, 17, 29)]
    for record in records:
        await redis.hset(record, "attempt", "odd")

    found = await all_of(jobs, JobFilter(), 5, include=include)

    assert ids(found) == [f"j{number}" for number in reversed(range(30)) if number not in (3, 17, 29)]
    for record in records:
        await redis.hdel(record, "attempt")


@pytest.mark.corrupts_keys
async def test_a_list_is_refused_if_one_partition_cannot_be_read(jobs: JobStateManager, redis: Redis) -> None:
    await asyncio.gather(*(jobs.create_job(f"j{number}", 1) for number in range(50)))
    name = Partitions(16)[5].queue_names
    await redis.delete(name)
    await redis.set(name, "foreign")

    with pytest.raises(StoreCorrupt):
        await jobs.list_jobs(JobFilter())

    await redis.flushdb()


async def test_the_oldest_job_is_that_of_all_partitions(jobs: JobStateManager) -> None:
    created = [f"j{number}" for number in range(40)]
    for job_id in created:
        await jobs.create_job(job_id, 1, queue=f"q-{job_id}")
    for job_id in created[:35]:
        oldest = (await jobs.get_stats()).oldest_pending
        assert oldest is not None
        assert (oldest.job_id, oldest.queue) == (job_id, f"q-{job_id}")
        await jobs.update_job_status(job_id, "running")

    running = (await jobs.get_drain_status(None)).oldest
    assert running is not None
    assert running.job_id == "j0"
