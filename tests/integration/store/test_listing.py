import asyncio
import itertools
import random
from typing import Any

import pytest
from msgspec import structs
from redis.asyncio import Redis

from service.domain.errors import InvalidValue
from service.domain.jobs import Job, JobFilter
from service.domain.states import Status
from service.store import listing
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.cluster_clients import command_calls
from tests.helpers.partitions import PARTITIONS, job_key
from tests.integration.store.test_random_histories import expire_lease


async def list_all(jobs: JobStateManager, filters: JobFilter, limit: int = 7) -> list[Job]:
    """Return the jobs of all pages."""
    found: list[Job] = []
    before = None
    while True:
        page = await jobs.list_jobs(filters, limit=limit, before=before)
        found += page.items
        if page.next_before is None:
            return found
        before = page.next_before


async def populate(jobs: JobStateManager, seed: int = 1) -> list[Job]:
    """Create jobs of every kind and return them, newest first."""
    choose = random.Random(seed)
    for number in range(60):
        job_id = f"j{number:02}"
        await jobs.create_job(
            job_id,
            number,
            choose.choice([None, "c1", "c2"]),
            queue=choose.choice(["a", "b", "c"]),
            slate_id=choose.choice([None, "s1", "s2"]),
            delay_seconds=choose.choice([0, 0, 0, 60]),
        )
        for status in choose.choice([[], ["running"], ["running", "completed"], ["failed"], ["cancelled"]]):
            await jobs.update_job_status(job_id, status)
    return (await jobs.get_jobs([f"j{number:02}" for number in reversed(range(60))])).items


def ids(found: list[Job]) -> list[str]:
    return [job.job_id for job in found]


FILTERS = [
    JobFilter(status=status, queue=queue, slate_id=slate_id, correlation_id=correlation_id)
    for status, queue, slate_id, correlation_id in itertools.product(
        [None, Status.PENDING, Status.COMPLETED], [None, "a", "none"], [None, "s1"], [None, "c1"]
    )
]


async def test_every_combination_of_filters_lists_exactly_what_matches_newest_first(jobs: JobStateManager) -> None:
    everything = await populate(jobs)

    for filters in FILTERS:
        matching = [
            job.job_id
            for job in everything
            if (filters.status is None or job.status is filters.status)
            and (filters.queue is None or job.queue == filters.queue)
            and (filters.slate_id is None or job.slate_id == filters.slate_id)
            and (filters.correlation_id is None or job.correlation_id == filters.correlation_id)
        ]
        assert ids(await list_all(jobs, filters)) == matching, filters
        assert ids(await list_all(jobs, filters, limit=200)) == matching, filters


async def test_times_of_creation_bound_a_list_on_both_sides_without_the_bounds(jobs: JobStateManager) -> None:
    everything = await populate(jobs)
    times = [job.created_at for job in everything]

    for oldest, newest in ((40, 10), (59, 0), (30, 30), (20, 21), (10, 40)):
        after, before = times[oldest], times[newest]
        for plain in (JobFilter(), JobFilter(status=Status.PENDING), JobFilter(slate_id="s1"), JobFilter(queue="a")):
            shown = ids(await list_all(jobs, plain))
            inside = [job.job_id for job in everything if after < job.created_at < before and job.job_id in shown]
            filters = structs.replace(plain, created_after=after, created_before=before)
            assert ids(await list_all(jobs, filters)) == inside, filters
            assert ids(await list_all(jobs, filters, limit=200)) == inside, filters


@pytest.mark.parametrize(
    ("after", "before", "count"),
    [
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", 3),
        ("1969-12-31T23:59:59-00:30", None, 3),
        ("9999-12-31T23:59:59Z", None, 0),
        (None, "1969-01-01T00:00:00+14:00", 0),
    ],
)
async def test_any_time_of_creation_may_be_asked_for(
    jobs: JobStateManager, after: str | None, before: str | None, count: int
) -> None:
    for number in range(3):
        await jobs.create_job(f"j{number}", 1, slate_id="s")
    for slate_id in (None, "s"):
        filters = JobFilter(slate_id=slate_id, created_after=after, created_before=before)
        assert len(await list_all(jobs, filters)) == count


@pytest.mark.usefixtures("only_caller")
async def test_a_list_since_a_time_reads_no_older_entries(jobs: JobStateManager, redis: Redis) -> None:
    for number in range(40):
        await jobs.create_job(f"j{number}", 1)
    [newest, second] = (await jobs.list_jobs(JobFilter(), limit=2)).items
    await redis.config_resetstat()
    assert ids(await list_all(jobs, JobFilter(created_after=second.created_at))) == [newest.job_id]
    assert (await command_calls(redis))["hmget"] <= 2 * len(PARTITIONS)


async def test_a_full_last_page_has_no_next_one(jobs: JobStateManager) -> None:
    for number in range(4):
        await jobs.create_job(f"j{number}", 1)

    assert (await jobs.list_jobs(JobFilter(), limit=3)).next_before is not None
    assert (await jobs.list_jobs(JobFilter(), limit=4)).next_before is None


async def test_many_queues_merge_into_one_order(jobs: JobStateManager) -> None:
    await asyncio.gather(*(jobs.create_job(f"j{n}", n, queue=f"q{n % 97}") for n in range(300)))

    found = await list_all(jobs, JobFilter(), limit=50)

    assert len(set(ids(found))) == 300
    assert [job.created_at for job in found] == sorted((job.created_at for job in found), reverse=True)


async def test_unchanged_jobs_are_listed_exactly_once_during_other_changes(
    jobs: JobStateManager,
) -> None:
    for number in range(120):
        await jobs.create_job(f"stays{number}", 1)
        await jobs.create_job(f"moves{number}", 1)
    seen: list[str] = []
    before, step = None, 0
    while True:
        page = await jobs.list_jobs(JobFilter(status=Status.PENDING), limit=10, before=before)
        seen += ids(page.items)
        if page.next_before is None:
            break
        before, step = page.next_before, step + 1
        await jobs.create_job(f"new{step}", 1)
        await jobs.update_job_status(f"moves{step}", "failed")
        await jobs.delete_job(f"moves{step}")
        await jobs.update_job_status(f"moves{119 - step}", "running")

    assert sorted(one for one in seen if one.startswith("stays")) == sorted(f"stays{n}" for n in range(120))
    assert len(seen) == len(set(seen))
    assert not [one for one in seen if one.startswith("new")]


async def test_lists_omit_input_and_result_by_default(jobs: JobStateManager) -> None:
    await jobs.create_job("j", {"a": 1})
    await jobs.update_job_status("j", "running")
    await jobs.update_job_status("j", "completed", 0)

    [lean] = (await jobs.list_jobs(JobFilter())).items
    [full] = (await jobs.list_jobs(JobFilter(), include=["input_params", "result"])).items

    assert (lean.input_params, lean.result) == (None, None)
    assert full.input_params is not None
    assert full.result is not None
    assert (bytes(full.input_params), bytes(full.result)) == (b'{"a":1}', b"0")


async def test_a_page_ends_at_its_byte_limit_but_has_at_least_one_job(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES", 1000)
    for number, size in enumerate([10, 5000, 400, 400, 400]):
        await jobs.create_job(f"j{number}", "x" * size)

    sizes: list[list[str]] = []
    before = None
    while not sizes or before:
        page = await jobs.list_jobs(JobFilter(), before=before, include=["input_params"])
        sizes.append(ids(page.items))
        before = page.next_before

    assert sizes == [["j4", "j3"], ["j2"], ["j1"], ["j0"]]


async def test_a_page_ends_at_its_scan_limit_and_may_be_empty(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGE_SCAN", 5)
    monkeypatch.setattr(listing, "MIN_PARTITION_SCAN", 5)
    await jobs.create_job("wanted", 1, slate_id="s", queue="rare")
    for number in range(12 * len(PARTITIONS)):
        await jobs.create_job(f"j{number}", 1, slate_id="s")

    filters = JobFilter(slate_id="s", queue="rare")
    first = await jobs.list_jobs(filters)

    assert first.items == []
    assert first.next_before is not None
    assert ids(await list_all(jobs, filters)) == ["wanted"]


async def test_values_with_the_same_tag_hash_are_distinguished(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("mine", 1, slate_id="mine")
    await jobs.create_job("other", 1, slate_id="other")
    [member] = [m.decode() for m in await redis.zrange(PARTITIONS.of("mine").tags, 0, -1) if m.endswith(b"mine")]
    tag, _, _ = member.split(":")
    tags = PARTITIONS.of("other").tags
    other = next(m.decode() for m in await redis.zrange(tags, 0, -1) if m.endswith(b"other"))
    forged = f"{tag}:{other.split(':')[1]}:other"
    await redis.zadd(tags, {forged: 0})

    assert ids(await list_all(jobs, JobFilter(slate_id="mine"))) == ["mine"]

    await redis.zrem(tags, forged)


async def test_a_batch_has_existing_jobs_once_in_the_requested_order(jobs: JobStateManager) -> None:
    for name in "abc":
        await jobs.create_job(name, 1)

    batch = await jobs.get_jobs(["c", "x", "a", "c", "y"])

    assert ids(batch.items) == ["c", "a"]
    assert batch.not_found == ["x", "y"]
    assert batch.items[0].input_params is None


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_its_limits(jobs: JobStateManager, count: int) -> None:
    with pytest.raises(InvalidValue, match="1 to 1,000 ids"):
        await jobs.get_jobs(["j"] * count)


async def test_a_thousand_jobs_fit_into_a_batch(jobs: JobStateManager) -> None:
    await asyncio.gather(*(jobs.create_job(f"j{n}", 1) for n in range(500)))

    batch = await jobs.get_jobs([f"j{n}" for n in range(1000)])

    assert (len(batch.items), len(batch.not_found)) == (500, 500)


async def test_counts_are_exact_per_status_and_queue(jobs: JobStateManager) -> None:
    everything = await populate(jobs)

    stats = await jobs.get_stats()

    for status in Status:
        assert stats.statuses[status] == sum(job.status is status for job in everything)
        for queue in "abc":
            expected = sum(job.status is status and job.queue == queue for job in everything)
            assert stats.queues[queue][status] == expected
    assert stats.delayed == sum(job.available_at is not None and job.status is Status.PENDING for job in everything)
    oldest = [job for job in everything if job.status is Status.PENDING][-1]
    assert stats.oldest_pending
    assert (stats.oldest_pending.job_id, stats.oldest_pending.created_at) == (oldest.job_id, oldest.created_at)
    assert (stats.running.leased, stats.running.unleased) == (0, stats.statuses[Status.RUNNING])
    assert await jobs.get_running_job_count() == stats.statuses[Status.RUNNING]


async def test_a_running_count_of_nothing_is_zero(jobs: JobStateManager) -> None:
    assert await jobs.get_running_job_count() == 0
    assert await jobs.get_running_job_count(leased=True) == 0


async def test_live_leases_are_counted_separately(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    for name in "abc":
        await jobs.create_job(name, 1)
    for _ in "ab":
        await leases.claim_job(["default"], "w")
    await expire_lease(redis, "b")
    await jobs.update_job_status("c", "running")

    assert await jobs.get_running_job_count() == 3
    assert await jobs.get_running_job_count(leased=True) == 1
    assert await jobs.get_running_job_count(leased=False) == 2


@pytest.mark.usefixtures("only_caller")
async def test_reading_never_scans_the_keyspace(jobs: JobStateManager, redis: Redis) -> None:
    await populate(jobs)
    await redis.config_resetstat()

    await list_all(jobs, JobFilter())
    await list_all(jobs, JobFilter(slate_id="s1"))
    await jobs.get_stats()
    await jobs.get_running_job_count()
    await jobs.sweep()

    used = set(await command_calls(redis))
    assert "evalsha" in used
    assert not {"keys", "scan", "zscan", "hscan", "randomkey"} & used


async def test_error_messages_count_towards_the_bytes_of_a_page_and_of_a_batch(
    jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES", 1000)
    for number in range(4):
        await jobs.create_job(f"j{number}", 1)
        await jobs.update_job_status(f"j{number}", "failed", error="x" * 400)

    assert ids((await jobs.list_jobs(JobFilter())).items) == ["j3", "j2"]
    assert ids((await jobs.get_jobs(["j0", "x", "j1"])).items) == ["j0", "j1"]
    with pytest.raises(InvalidValue, match="error messages take 1608 bytes"):
        await jobs.get_jobs([f"j{number}" for number in range(4)])


async def test_a_batch_has_the_error_messages_of_its_jobs(jobs: JobStateManager) -> None:
    for name in "abc":
        await jobs.create_job(name, 1)
    await jobs.update_job_status("b", "failed", error={"why": 1})

    found = (await jobs.get_jobs(["a", "b", "c"])).items

    assert [job.error_message and bytes(job.error_message) for job in found] == [None, b'{"why":1}', None]


async def test_a_batch_reads_each_job_atomically(jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(error: int) -> None:
        await jobs.create_job("j", error)
        await jobs.update_job_status("j", "failed", error=error)

    async def read_while_replaced(*commands: Any, **more: Any) -> list[Any]:
        replies = await read(*commands, **more)
        monkeypatch.undo()  # only once
        await jobs.delete_job("j")
        await fail(2)
        return replies

    await fail(1)
    read = jobs._client.read
    monkeypatch.setattr(jobs._client, "read", read_while_replaced)

    [seen] = (await jobs.get_jobs(["j"])).items

    now = await jobs.get_job("j")
    assert now
    assert (seen.created_at, seen.error_message) == (now.created_at, now.error_message)


async def test_an_unreadable_record_does_not_hide_the_others(jobs: JobStateManager, redis: Redis) -> None:
    for name in "abc":
        await jobs.create_job(name, 1)
    await redis.hset(job_key("b"), "attempt", "odd")

    assert ids((await jobs.list_jobs(JobFilter())).items) == ["c", "a"]
    await redis.hdel(job_key("b"), "attempt")


async def test_due_jobs_are_not_counted_as_delayed(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, delay_seconds=60)
    await jobs.create_job("k", 1, delay_seconds=60)
    seconds, _ = await redis.time()
    delays = PARTITIONS.of("k").delays
    score = await redis.zscore(delays, "default:k") or 0
    await redis.zadd(delays, {"default:k": (seconds - 1) * 1_000_000})

    stats = await jobs.get_stats()
    await redis.zadd(delays, {"default:k": score})

    assert (stats.delayed, stats.statuses[Status.PENDING]) == (1, 2)


async def test_a_queue_without_jobs_is_no_longer_read(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, queue="q")
    await jobs.update_job_status("j", "running")
    queue_names = PARTITIONS.of("j").queue_names
    assert await redis.smembers(queue_names) == {b"q"}

    await jobs.cancel_job("j")
    await jobs.delete_job("j")

    assert await redis.scard(queue_names) == 0


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("include", {"filters": JobFilter(), "include": ["everything"]}),
        ("limit", {"filters": JobFilter(), "limit": 201}),
        ("status", {"filters": JobFilter(status="done")}),
        ("queue", {"filters": JobFilter(queue="a:b")}),
        *(
            (field, {"filters": JobFilter(**{field: wrong})})
            for field in ("created_after", "created_before")
            for wrong in ("", "now", "2026-11-29", "2026-11-29T10:00:00", "2026-13-29T10:00:00Z", 5)
        ),
    ],
)
async def test_an_invalid_list_request_is_rejected_with_its_field(
    jobs: JobStateManager, field: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValue) as error:
        await jobs.list_jobs(**arguments)

    assert error.value.field == field
