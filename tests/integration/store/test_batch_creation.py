"""Creation of many jobs: each by itself, by scripts of limited length."""

from typing import Any

import pytest
from redis.asyncio import Redis

from service.domain import errors
from service.domain.jobs import CreateResult, NewJob
from service.store import batch_creation, scripts
from service.store.creation import Creation
from service.store.jobs import JobStateManager
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, id_in


def creations(*job_ids: str, **fields: Any) -> list[Creation]:
    return [Creation(job_id, NewJob(input_params=job_id, **fields)) for job_id in job_ids]


def in_first(count: int) -> list[str]:
    """Return ids of jobs in one partition."""
    return [id_in(PARTITIONS.first, f"j{number}") for number in range(count)]


@pytest.fixture
def sent(jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of jobs of each script."""
    run, sent = jobs._client.run_script, list[int]()

    async def run_script(script: Any, partition: Any, args: Any, *keys: Any) -> Any:
        if script is scripts.CREATE_MANY:
            sent.append(len(args) - 3)
        return await run(script, partition, args, *keys)

    monkeypatch.setattr(jobs._client, "run_script", run_script)
    return sent


async def test_a_script_creates_at_most_a_hundred_jobs(jobs: JobStateManager, sent: list[int]) -> None:
    results = await jobs.create_jobs(creations(*in_first(250)))
    assert all(isinstance(one, CreateResult) and not one.replayed for one in results)
    assert sorted(sent) == [50, 100, 100]
    assert [one.job.job_id for one in results if isinstance(one, CreateResult)] == in_first(250)


async def test_a_script_takes_at_most_a_mebibyte_unless_one_job_has_more(
    jobs: JobStateManager, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_creation, "BATCH_BYTES", 2000)
    sizes = [900, 900, 900, 5000, 100, 100]
    many = [Creation(job_id, NewJob(input_params="x" * size)) for job_id, size in zip(in_first(6), sizes, strict=True)]
    assert len(await jobs.create_jobs(many)) == 6
    assert sorted(sent) == [1, 1, 1, 1, 2]


async def test_jobs_are_created_in_their_order_within_a_partition(jobs: JobStateManager) -> None:
    results = await jobs.create_jobs(creations(*in_first(30)))
    times = [one.job.created_at for one in results if isinstance(one, CreateResult)]
    assert times == sorted(set(times))


async def test_the_repetition_of_a_script_whose_reply_was_lost_creates_nothing(jobs: JobStateManager) -> None:
    many = creations(*in_first(3))
    first, second = await jobs.create_jobs(many), await jobs.create_jobs(many)
    assert first == second, "the very same request is not a replay"
    again = await jobs.create_jobs(creations(*in_first(3)))
    assert [one.replayed for one in again if isinstance(one, CreateResult)] == [True] * 3


async def test_a_drain_is_the_problem_of_each_job(jobs: JobStateManager, queues: QueueManager) -> None:
    await jobs.create_jobs(creations(*in_first(1)))
    await queues.start_drain(60)
    results = await jobs.create_jobs(creations(*in_first(2)))
    assert isinstance(results[0], CreateResult)
    assert isinstance(results[1], errors.Draining)
    assert 0 < results[1].retry_after <= 60


@pytest.mark.corrupts_keys
async def test_a_job_that_cannot_be_created_leaves_nothing_and_keeps_no_other(
    jobs: JobStateManager, redis: Redis
) -> None:
    first, second, third = in_first(3)
    await redis.set(PARTITIONS.first.by_created("broken", "pending"), "foreign")
    many = [
        *creations(first),
        *creations(second, queue="broken", slate_id="s", labels={"a": "b"}),
        *creations(third),
    ]

    results = await jobs.create_jobs(many)

    assert [type(one) for one in results] == [CreateResult, errors.StoreCorrupt, CreateResult]
    assert await jobs.get_job(second) is None
    assert [await jobs.get_job(job_id) is not None for job_id in (first, third)] == [True, True]
    assert await redis.zcard(PARTITIONS.first.by_expiry) == 2
    assert await redis.zcard(PARTITIONS.first.tags) == 0
    assert await redis.xlen(PARTITIONS.first.events) == 2


async def test_a_wrong_field_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(errors.InvalidValue, match="queue"):
        creations("a", queue="a b")
    with pytest.raises(errors.InvalidValue, match="job_id"):
        creations("a b")
