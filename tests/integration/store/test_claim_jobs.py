"""Claims of several jobs at once; `test_leases.py` tests what they share with claims of one."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from structlog.testing import capture_logs

from service.domain import errors
from service.domain.jobs import Claim
from service.domain.states import Status
from service.store import scripts
from service.store.claims import MAX_CLAIM_BYTES
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import NullObserver
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, connect, job_key, only_one_partition

ClaimJobs = Callable[..., Awaitable[list[Claim]]]


@pytest.fixture
def claim(leases: LeaseManager) -> ClaimJobs:
    """Claim up to 100 jobs of `default`."""

    def claim(*queues: str, max_jobs: int = 100, **options: Any) -> Awaitable[list[Claim]]:
        return leases.claim_jobs(queues or ["default"], "w", max_jobs=max_jobs, **options)

    return claim


async def create(jobs: JobStateManager, *job_ids: str, **fields: Any) -> None:
    """Create jobs; the queue of `a:1` is `a`."""
    for job_id in job_ids:
        queue = job_id.partition(":")[0] if ":" in job_id else "default"
        await jobs.create_job(job_id.replace(":", "-"), 1, queue=queue, **fields)


async def complete(jobs: JobStateManager, claim: Claim) -> None:
    await jobs.update_job_status(claim.job.job_id, "completed", lease_token=claim.lease.token)


def ids(claims: list[Claim]) -> list[str]:
    return [claim.job.job_id for claim in claims]


async def test_a_claim_gives_the_oldest_jobs_over_all_its_queues(jobs: JobStateManager, claim: ClaimJobs) -> None:
    await create(jobs, "b:1", "a:1", "c:1", "a:2", "a:3", "b:2", "x:1", "a:4")

    assert ids(await claim("a", "b", "c", max_jobs=5)) == ["b-1", "a-1", "c-1", "a-2", "a-3"]
    assert ids(await claim("a", "b", "c", max_jobs=5)) == ["b-2", "a-4"]
    assert await claim("a", "b", "c", max_jobs=5) == []


async def test_one_queue_may_have_all_the_oldest_jobs(jobs: JobStateManager, claim: ClaimJobs) -> None:
    expected = [f"a-{number}" for number in range(100)]
    await create(jobs, *(f"a:{number}" for number in range(100)), "b:1", "c:1", "d:1")

    assert ids(await claim("d", "c", "b", "a")) == expected


async def test_each_job_is_running_under_its_own_lease(jobs: JobStateManager, claim: ClaimJobs) -> None:
    await create(jobs, "a", "b", "c")
    claims = await claim(lease_seconds=60)

    assert len({one.lease.token for one in claims}) == 3
    for one in claims:
        assert one.job == await jobs.get_job(one.job.job_id)
        assert (one.job.status, one.job.worker, one.job.attempt, one.job.lease_seconds) == ("running", "w", 1, 60)
        assert one.job.lease_expires_at == one.lease.expires_at
    with pytest.raises(errors.LeaseLost):
        await jobs.update_job_status("a", "completed", lease_token=claims[1].lease.token)
    for one in claims:
        await complete(jobs, one)


@only_one_partition
async def test_a_claim_is_one_script(jobs: JobStateManager, leases: LeaseManager, monkeypatch: Any) -> None:
    await create(jobs, *(f"a:{number}" for number in range(20)), *(f"b:{number}" for number in range(20)))
    run, sent = leases._client.run_script, []

    async def run_script(script: Any, *args: Any) -> Any:
        sent.append(script)
        return await run(script, *args)

    monkeypatch.setattr(leases._client, "run_script", run_script)

    assert len(await leases.claim_jobs(["a", "b"], "w", max_jobs=30)) == 30
    assert sent == [scripts.CLAIM]


async def test_max_running_counts_each_job(
    jobs: JobStateManager, claim: ClaimJobs, queues: QueueManager, leases: LeaseManager
) -> None:
    await create(jobs, *chain.from_iterable((f"a:{number}", f"b:{number}", f"p:{number}") for number in range(5)))
    await queues.configure_queue("a", max_running=3)
    await queues.configure_queue("p", paused=True)
    await leases.claim_job(["a"], "w")

    claims = await claim("a", "b", "p")

    assert ids(claims) == ["b-0", "a-1", "b-1", "a-2", "b-2", "b-3", "b-4"]
    assert await claim("a", "p") == []
    await complete(jobs, claims[1])
    assert ids(await claim("a", "b", "p")) == ["a-3"]


async def test_concurrent_claims_give_each_job_once_and_meet_max_running_exactly(
    jobs: JobStateManager, claim: ClaimJobs, queues: QueueManager
) -> None:
    await create(jobs, *(f"a:{number}" for number in range(120)))
    await queues.configure_queue("a", max_running=30)

    found = ids(list(chain.from_iterable(await asyncio.gather(*(claim("a", max_jobs=7) for _ in range(12))))))

    assert sorted(found) == sorted({f"a-{number}" for number in range(30)})
    assert await jobs.get_running_job_count() == 30


async def test_a_claim_ends_before_8_mib_of_records(jobs: JobStateManager, claim: ClaimJobs) -> None:
    for number in range(4):
        await jobs.create_job(f"j{number}", "x" * (3 * 1024 * 1024))

    assert ids(await claim()) == ["j0", "j1"]
    assert ids(await claim()) == ["j2", "j3"]


@only_one_partition
async def test_a_job_above_8_mib_is_claimed_alone(jobs: JobStateManager, claim: ClaimJobs) -> None:
    await create(jobs, "small")
    await jobs.create_job("huge", "x" * (MAX_CLAIM_BYTES + 1))
    await create(jobs, "last")

    assert [ids(await claim()) for _ in range(3)] == [["small"], ["huge"], ["last"]]


async def test_a_repetition_gives_the_jobs_that_are_still_held(
    jobs: JobStateManager, claim: ClaimJobs, leases: LeaseManager
) -> None:
    await create(jobs, *"abcdef")
    first = await claim(max_jobs=4, claim_key="k")
    assert await claim(max_jobs=4, claim_key="k") == first

    await complete(jobs, first[0])
    await leases.release_job("b", first[1].lease.token)
    assert await leases.claim_job(["default"], "another")
    assert await claim(max_jobs=4, claim_key="k") == first[2:], "`b` has another lease now"
    assert (await jobs.get_stats()).statuses[Status.PENDING] == 2, "nothing new was claimed"

    for one in first[2:]:
        await complete(jobs, one)
    again = await claim(max_jobs=4, claim_key="k")
    assert ids(again) == ["e", "f"], "none is held, so it is a new claim"
    assert await claim(max_jobs=4, claim_key="k") == again


async def test_a_repetition_is_answered_during_a_drain(
    jobs: JobStateManager, claim: ClaimJobs, queues: QueueManager
) -> None:
    await create(jobs, *"abc")
    first = await claim(max_jobs=2, claim_key="k")
    await queues.start_drain(60)

    assert await claim(max_jobs=2, claim_key="k") == first
    with pytest.raises(errors.Draining):
        await claim(max_jobs=2)


@pytest.mark.corrupts_keys
async def test_a_repetition_skips_a_record_that_cannot_be_read(
    jobs: JobStateManager, claim: ClaimJobs, redis: Redis
) -> None:
    await create(jobs, *"abc")
    first = await claim(claim_key="k")
    await redis.delete(job_key("b"))
    await redis.set(job_key("b"), "foreign")

    assert await claim(claim_key="k") == [first[0], first[2]]


@pytest.mark.parametrize(
    "other",
    [
        lambda leases: leases.claim_jobs(["default"], "w", max_jobs=3, claim_key="k"),
        lambda leases: leases.claim_jobs(["default"], "w", max_jobs=1, claim_key="k"),
        lambda leases: leases.claim_jobs(["default"], "another", max_jobs=2, claim_key="k"),
        lambda leases: leases.claim_jobs(["default"], "w", max_jobs=2, lease_seconds=31, claim_key="k"),
        lambda leases: leases.claim_jobs(["default", "other"], "w", max_jobs=2, claim_key="k"),
        lambda leases: leases.claim_job(["default"], "w", claim_key="k"),
    ],
    ids=["more jobs", "fewer jobs", "worker", "lease", "queues", "a single claim"],
)
async def test_a_key_with_other_content_is_rejected_and_claims_nothing(
    jobs: JobStateManager, leases: LeaseManager, other: Callable[[LeaseManager], Awaitable[Any]]
) -> None:
    await create(jobs, *"abcdef")
    await leases.claim_jobs(["default"], "w", max_jobs=2, claim_key="k")

    with pytest.raises(errors.IdempotencyKeyReused):
        await other(leases)

    assert await jobs.get_running_job_count() == 2


async def test_a_single_claim_and_a_batch_of_one_do_not_share_a_key(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await create(jobs, *"ab")
    await leases.claim_job(["default"], "w", claim_key="k")

    with pytest.raises(errors.IdempotencyKeyReused):
        await leases.claim_jobs(["default"], "w", max_jobs=1, claim_key="k")


@pytest.mark.corrupts_keys
@only_one_partition
async def test_a_record_that_cannot_be_read_is_skipped(jobs: JobStateManager, claim: ClaimJobs, redis: Redis) -> None:
    names = ["string", "no-fields", "attempt", "updated_at", "created_at"]
    await create(jobs, "first", *names, "last")
    for name in names[:2]:
        await redis.delete(job_key(name))
    await redis.set(job_key("string"), "foreign")
    await redis.hset(job_key("no-fields"), "status", "pending")
    await redis.hset(job_key("attempt"), "attempt", "foreign")
    await redis.hset(job_key("updated_at"), "updated_at", "z" * 27)
    await redis.hset(job_key("created_at"), "created_at", "foreign")
    before = [await redis.hgetall(job_key(name)) for name in names[1:]]

    with capture_logs() as log:
        assert ids(await claim()) == ["first", "last"]
        assert await claim() == []
        assert await claim(max_jobs=1) == []

    assert [(line["event"], line["log_level"]) for line in log] == [("claim skipped unreadable job", "error")], "once"
    assert log[0]["job_ids"] == names
    assert [await redis.hgetall(job_key(name)) for name in names[1:]] == before

    await redis.hdel(job_key("attempt"), "attempt")
    with capture_logs() as log:
        assert ids(await claim()) == ["attempt"]
        assert await claim() == []
    assert [line["job_ids"] for line in log] == [[name for name in names if name != "attempt"]], "other ids, once"


@pytest.mark.corrupts_keys
@only_one_partition
async def test_a_queue_whose_jobs_cannot_be_moved_does_not_stop_the_others(
    jobs: JobStateManager, claim: ClaimJobs, redis: Redis
) -> None:
    await create(jobs, "a:1", "a:2", "b:1", "a:3", "b:2")
    await redis.set(PARTITIONS.of("b-1").by_created("b", "running"), "foreign")

    with capture_logs() as log:
        first = await claim("a", "b", claim_key="k")

    assert [line["job_ids"] for line in log] == [["b-1"]], "the others of the queue are not tried"
    assert ids(first) == ["a-1", "a-2", "a-3"]
    assert await claim("a", "b", claim_key="k") == first
    for one in first:
        assert one.job == await jobs.get_job(one.job.job_id)
    with pytest.raises(errors.StoreCorrupt, match=PARTITIONS.of("b-1").by_created("b", "running")):
        await claim("a", "b")
    assert (await jobs.get_job("b-1")).revision == 1

    await redis.delete(PARTITIONS.of("b-1").by_created("b", "running"))
    assert ids(await claim("a", "b")) == ["b-1", "b-2"]


@pytest.mark.corrupts_keys
async def test_a_job_that_the_library_cannot_read_costs_the_others_nothing(
    jobs: JobStateManager, claim: ClaimJobs, redis: Redis
) -> None:
    await create(jobs, *"abc")
    await redis.hset(job_key("b"), "scenario_count", "foreign")

    with capture_logs() as log:
        assert ids(await claim()) == ["a", "c"]
    assert [(line["event"], line["log_level"], line["job_id"]) for line in log] == [
        ("claimed unreadable job", "error", "b")
    ]

    await create(jobs, "d")
    await redis.hset(job_key("d"), "scenario_count", "foreign")
    with pytest.raises(errors.StoreCorrupt, match="job:d"):
        await claim()


async def test_expired_jobs_are_passed_and_delays_that_are_over_are_ended(
    pool: BlockingConnectionPool, jobs: JobStateManager, claim: ClaimJobs
) -> None:
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=1))
    await create(jobs, "first")
    await create(jobs, "delayed", delay_seconds=1)
    await asyncio.gather(*(short_lived.create_job(f"expired-{number}", 1) for number in range(300)))
    await create(jobs, "last")
    await asyncio.sleep(1.1)

    assert ids(await claim(max_jobs=2)) == ["first", "delayed"]
    assert ids(await claim(max_jobs=2)) == ["last"]


@only_one_partition
async def test_a_claim_passes_a_limited_number_of_entries_of_each_queue(
    pool: BlockingConnectionPool, jobs: JobStateManager, claim: ClaimJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.claims.MAX_CLAIM_SCAN", 3)
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=1))
    await create(jobs, "a:1")
    for number in range(3):
        await short_lived.create_job(f"expired-{number}", 1, queue="a")
    await create(jobs, "a:2", "b:1")
    await asyncio.sleep(0.1)

    assert ids(await claim("a", "b")) == ["a-1", "b-1"]
    await jobs.sweep()
    assert ids(await claim("a", "b")) == ["a-2"]


async def test_the_observer_counts_each_job(pool: BlockingConnectionPool, jobs: JobStateManager) -> None:
    changes: Counter[str] = Counter()

    class Counting(NullObserver):
        def on_job_change(self, change: str, jobs: int = 1) -> None:
            changes[change] += jobs

    await create(jobs, *"abc")
    await LeaseManager(connect(pool, Counting()), ttl=timedelta(days=1)).claim_jobs(["default"], "w", max_jobs=9)

    assert changes == {"running": 3}


@pytest.mark.parametrize("max_jobs", [0, -1, 101, True, 1.0, "2"])
async def test_max_jobs_out_of_its_range_is_rejected_by_name(claim: ClaimJobs, max_jobs: Any) -> None:
    with pytest.raises(errors.InvalidValue, match="an integer from 1 to 100") as error:
        await claim(max_jobs=max_jobs)
    assert error.value.field == "max_jobs"
