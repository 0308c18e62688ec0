"""Claims over sixteen partitions: their order, repetitions, caps, and those that wait."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain import errors
from service.domain.jobs import Claim, Job
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store import scripts
from service.store.claims import MAX_CLAIM_BYTES, ClaimRequest
from service.store.client import StoreClient
from service.store.events.claim_waiter import ClaimWaiter, PendingClaim
from service.store.events.hub import EventHub
from service.store.fingerprints import change_id_for
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import NullObserver
from service.store.partitions import Partitions
from service.store.queues import QueueManager
from service.store.scripts import Script
from tests.helpers.cluster_clients import command_calls
from tests.helpers.partitions import connect

pytestmark = pytest.mark.partitions(16)

PARTITIONS = Partitions(16)
DAY = timedelta(days=1)


def ids_in(number: int, count: int) -> list[str]:
    """Return ids of jobs in a partition."""
    found = (f"j{n}" for n in itertools.count() if PARTITIONS.of(f"j{n}").number == number)
    return [*itertools.islice(found, count)]


class Counting(NullObserver):
    """Counts the calls of Redis by their names."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        self.calls[call] += 1


@pytest.fixture
def observer() -> Counting:
    return Counting()


@pytest.fixture  # not that of `jobs` and `queues`, whose calls are not counted
def client(pool: BlockingConnectionPool, redis: Redis, observer: Counting) -> StoreClient:
    return connect(pool, observer, partitions=16)


@pytest.fixture
def leases(client: StoreClient) -> LeaseManager:
    return LeaseManager(client, ttl=DAY)


@pytest.fixture
def processes(pool: BlockingConnectionPool, redis: Redis) -> list[LeaseManager]:
    """Managers that share nothing, as those of several processes."""
    return [LeaseManager(connect(pool, partitions=16), ttl=DAY) for _ in range(4)]


async def create(jobs: JobStateManager, count: int, **fields: Any) -> list[str]:
    """Create jobs one after another and return their ids."""
    names = [f"{fields.get('queue', 'job')}-{number}" for number in range(count)]
    for name in names:
        await jobs.create_job(name, 1, **fields)
    return names


async def claim_all(leases: LeaseManager, *queues: str) -> list[str]:
    """Claim one job after another until there is none."""
    found = []
    while claim := await leases.claim_job(queues or ["default"], "w"):
        found.append(claim.job.job_id)
    return found


async def have_expired(jobs: JobStateManager, job_ids: list[str]) -> None:
    """Wait until these jobs have expired."""
    async with asyncio.timeout(10):
        while any([await jobs.get_job(job_id) for job_id in job_ids]):
            pass


def ids(claims: list[Claim]) -> list[str]:
    return [claim.job.job_id for claim in claims]


async def running(jobs: JobStateManager) -> int:
    return (await jobs.get_stats()).statuses[Status.RUNNING]


async def test_one_worker_gets_all_jobs_in_the_order_of_their_creation(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    created = await create(jobs, 60)
    assert await claim_all(leases) == created


async def test_the_order_is_that_over_all_queues_of_a_claim(jobs: JobStateManager, leases: LeaseManager) -> None:
    for number in range(30):
        await jobs.create_job(f"j{number}", 1, queue="abc"[number % 3])
    assert await claim_all(leases, "c", "a") == [f"j{number}" for number in range(30) if number % 3 != 1]


async def test_a_claim_of_one_worker_costs_one_look_and_one_script(
    jobs: JobStateManager, leases: LeaseManager, observer: Counting
) -> None:
    await create(jobs, 20)
    observer.calls.clear()
    assert len(await claim_all(leases)) == 20
    assert observer.calls == {"look": 21, "claim": 20}


async def test_workers_of_one_process_share_looks_and_get_jobs_near_their_places(
    jobs: JobStateManager, leases: LeaseManager, observer: Counting
) -> None:
    created = await create(jobs, 320)
    observer.calls.clear()
    taken: list[str] = []

    async def work() -> None:
        while claim := await leases.claim_job(["default"], "w"):
            taken.append(claim.job.job_id)

    await asyncio.gather(*(work() for _ in range(16)))

    assert sorted(taken) == sorted(created)
    assert max(abs(taken.index(job_id) - place) for place, job_id in enumerate(created)) <= 50
    assert observer.calls["claim"] <= 360
    assert observer.calls["look"] <= 120


async def test_no_job_is_given_twice_in_a_race_of_64_workers(
    jobs: JobStateManager, processes: list[LeaseManager]
) -> None:
    created = await create(jobs, 200)
    taken = await asyncio.gather(*(claim_all(processes[number % 4]) for number in range(64)))
    assert sorted(itertools.chain(*taken)) == sorted(created)


async def test_every_job_is_given_where_more_claims_come_than_there_are_jobs(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    created = await create(jobs, 10)
    claims = await asyncio.gather(*(leases.claim_job(["default"], f"w{number}") for number in range(64)))
    assert sorted(claim.job.job_id for claim in claims if claim) == sorted(created)


async def test_a_claim_gets_the_job_that_another_claim_was_sent_to_and_did_not_take(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await create(jobs, 2)
    assert await leases.claim_job(["default"], "w", claim_key="k")
    refused, claim = await asyncio.gather(
        leases.claim_job(["default"], "other", claim_key="k"),
        leases.claim_job(["default"], "w"),
        return_exceptions=True,
    )
    assert isinstance(refused, errors.IdempotencyKeyReused)
    assert isinstance(claim, Claim)
    assert claim.job.job_id == "job-1"


async def test_claims_that_share_a_look_get_different_heads_unless_they_insist(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await create(jobs, 2)
    assert leases.looker is not None
    shares = await asyncio.gather(
        *(leases.looker.look(names, 1) for names in (["default"], ["default", "other"], ["default"])),
        leases.looker.look(["default"], 2, insists=True),
    )
    places = [PARTITIONS.of(f"job-{number}").number for number in range(2)]
    assert [[head.partition.number for head in share.heads] for share in shares] == [
        *([place] for place in places),
        *([], places),
    ]
    assert [share.has_others for share in shares] == [False, True, True, False]


async def test_a_claim_passes_partitions_with_expired_jobs_alone(
    pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    brief = JobStateManager(connect(pool, partitions=16), ttl=timedelta(milliseconds=20))
    expired = await create(brief, 30)
    await jobs.create_job("last", 1)
    await have_expired(jobs, expired)
    assert await claim_all(leases) == ["last"]
    await jobs.sweep()


async def test_delays_that_are_over_are_ended_by_a_claim(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    created = []
    for number in range(20):
        await jobs.create_job(f"delayed-{number}", 1, delay_seconds=1)
        await jobs.create_job(f"due-{number}", 1)
        created += [f"delayed-{number}", f"due-{number}"]
    claims, next_due = await leases.try_claim(["other"], "w", lease_seconds=30, claim_key=None)
    assert claims == []
    async with asyncio.timeout(10):
        while next_due is not None:
            await asyncio.sleep(next_due)
            _, next_due = await leases.try_claim(["other"], "w", lease_seconds=30, claim_key=None)

    assert await claim_all(leases) == created


async def test_the_next_delay_is_the_earliest_of_all_partitions(jobs: JobStateManager, leases: LeaseManager) -> None:
    for number in range(16):
        await jobs.create_job(ids_in(number, 1)[0], 1, delay_seconds=1000 - 50 * number)
    _, next_due = await leases.try_claim(["default"], "w", lease_seconds=30, claim_key=None)
    assert next_due is not None
    assert 200 < next_due <= 250


async def test_a_paused_queue_and_a_drain_give_nothing(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await create(jobs, 5, queue="paused")
    await queues.configure_queue("paused", paused=True)
    [open_one] = await create(jobs, 1, queue="open")
    assert await claim_all(leases, "paused", "open") == [open_one]
    await queues.start_drain(60)
    for names in (["paused"], ["open"], ["none"]):
        with pytest.raises(errors.Draining):
            await leases.claim_job(names, "w")
    await queues.end_drain()
    await queues.configure_queue("paused", paused=None)
    assert len(await claim_all(leases, "paused")) == 5


# Repetitions


async def test_a_repetition_gives_the_same_job_also_during_a_drain(
    jobs: JobStateManager, leases: LeaseManager, processes: list[LeaseManager], queues: QueueManager
) -> None:
    await create(jobs, 20)
    first = await leases.claim_job(["default"], "w", claim_key="k")
    assert first is not None
    assert await processes[0].claim_job(["default"], "w", claim_key="k") == first
    with pytest.raises(errors.IdempotencyKeyReused):
        await leases.claim_job(["default"], "other", claim_key="k")
    await queues.start_drain(60)
    assert await processes[1].claim_job(["default"], "w", claim_key="k") == first
    assert await running(jobs) == 1


async def test_a_repetition_after_the_end_of_its_job_is_a_new_claim(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    created = await create(jobs, 20)
    taken = []
    while claim := await leases.claim_job(["default"], "w", claim_key="k"):
        assert await leases.claim_job(["default"], "w", claim_key="k") == claim
        taken.append(claim.job.job_id)
        await jobs.update_job_status(claim.job.job_id, "completed", lease_token=claim.lease.token)
    assert taken == created


async def test_a_claim_that_got_no_job_is_not_remembered(jobs: JobStateManager, leases: LeaseManager) -> None:
    assert await leases.claim_job(["default"], "w", claim_key="k") is None
    created = await create(jobs, 3)
    claim = await leases.claim_job(["default"], "other", claim_key="k")
    assert claim is not None
    assert claim.job.job_id == created[0]


#: Where a request is cut off: the script, which of its runs, and whether it still ran.
CUTS = [(scripts.AIM, 1), (scripts.CLAIM, 1), (scripts.CLAIM, 2), (scripts.CLAIM, 4)]


@pytest.mark.parametrize("has_run", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("script", "run"), CUTS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("max_jobs", [None, 8])
async def test_a_claim_that_was_cut_off_holds_no_other_jobs_than_its_repetition_gives(
    jobs: JobStateManager,
    leases: LeaseManager,
    processes: list[LeaseManager],
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    run: int,
    has_run: bool,
    max_jobs: int | None,
) -> None:
    await create(jobs, 40)
    send, runs = leases._client.run_script, 0

    async def cut(sent: Script, *args: Any) -> Any:
        nonlocal runs
        runs += sent is script
        if sent is script and runs >= run:
            if has_run and runs == run:
                await send(sent, *args)
            raise errors.StoreTimeout
        return await send(sent, *args)

    monkeypatch.setattr(leases._client, "run_script", cut)

    def claim(leases: LeaseManager) -> Awaitable[Any]:
        return leases.try_claim(["default"], "w", lease_seconds=30, claim_key="k", max_jobs=max_jobs)

    partial: list[Claim] = []
    with contextlib.suppress(errors.StoreTimeout):
        partial, _ = await claim(leases)
    again, _ = await claim(processes[0])

    assert set(ids(partial)) <= set(ids(again))
    assert len(again) == (max_jobs or 1)
    assert await running(jobs) == len(again)
    assert await claim(processes[1]) == (again, None)
    for one in again:
        assert not (await processes[1].heartbeat(one.job.job_id, one.lease.token)).cancel_requested
    assert await running(jobs) == len(again)


async def test_a_script_that_comes_after_its_repetition_has_moved_on_claims_nothing(
    jobs: JobStateManager, leases: LeaseManager, processes: list[LeaseManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ids_in(3, 1)[0], ids_in(9, 1)[0]
    await jobs.create_job(first, 1)
    send, late, arrived = leases._client.run_script, asyncio.Event(), asyncio.Event()

    async def delay(script: Script, *args: Any) -> Any:
        if script is scripts.CLAIM:
            arrived.set()
            await late.wait()
        return await send(script, *args)

    monkeypatch.setattr(leases._client, "run_script", delay)
    slow = asyncio.create_task(leases.claim_job(["default"], "w", claim_key="k"))
    await arrived.wait()
    assert await processes[0].claim_job(["default"], "another") is not None, "the job that the plan was made for"
    await jobs.create_job(second, 1)
    claim = await processes[1].claim_job(["default"], "w", claim_key="k")
    assert claim is not None
    assert claim.job.job_id == second
    await jobs.create_job(ids_in(3, 2)[1], 1)
    late.set()

    assert await slow == claim, "it finds what its repetition got"
    assert await running(jobs) == 2


# `max_running`


@pytest.mark.parametrize("max_jobs", [1, 7])
async def test_max_running_is_never_exceeded_by_64_workers_of_four_processes(
    jobs: JobStateManager, processes: list[LeaseManager], queues: QueueManager, max_jobs: int
) -> None:
    await create(jobs, 150, queue="capped")
    await queues.configure_queue("capped", max_running=5)
    done: list[Job] = []

    async def work(leases: LeaseManager) -> None:
        while len(done) < 150:
            claims = await leases.claim_jobs(["capped"], "w", max_jobs=max_jobs)
            for claim in claims:
                token = claim.lease.token
                done.append(await jobs.update_job_status(claim.job.job_id, "completed", lease_token=token))
            if not claims:
                await asyncio.sleep(0.01)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(processes[number % 4]) for number in range(64)))

    # Redis writes these times in its scripts. All nodes have the clock of this machine.
    ends = [(job.finished_at, -1) for job in done]
    steps = sorted([*((job.started_at, 1) for job in done), *ends])
    most = max(itertools.accumulate(step for _, step in steps))
    assert 1 <= most <= 5
    assert (await jobs.get_stats()).statuses[Status.COMPLETED] == 150


async def test_a_full_queue_lets_jobs_of_other_queues_pass(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, observer: Counting
) -> None:
    await create(jobs, 10, queue="capped")
    opened = await create(jobs, 10, queue="open")
    await queues.configure_queue("capped", max_running=2)
    assert await claim_all(leases, "capped", "open") == ["capped-0", "capped-1", *opened]
    observer.calls.clear()
    assert await leases.claim_job(["capped"], "w") is None
    assert observer.calls == {"look": 1}, "a look sees that it is full"


@pytest.mark.usefixtures("only_caller")
async def test_a_queue_is_counted_only_while_it_has_a_limit(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    async def counts_of_a_look() -> int:
        assert await leases.claim_job(["capped"], "w") is None  # the settings may be new to this look
        await redis.config_resetstat()
        assert await leases.claim_job(["capped"], "w") is None
        return (await command_calls(redis))["zcard"]

    await queues.configure_queue("capped", max_running=1)
    await create(jobs, 1, queue="capped")
    assert await leases.claim_job(["capped"], "w")
    assert await counts_of_a_look() == 2 * 16  # with and without a lease
    await queues.configure_queue("capped", max_running=None)
    assert await counts_of_a_look() == 0


async def test_a_batch_counts_each_job_of_a_capped_queue(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await create(jobs, 30, queue="capped")
    await create(jobs, 4, queue="open")
    await queues.configure_queue("capped", max_running=7)
    claims = await leases.claim_jobs(["capped", "open"], "w", max_jobs=40)
    assert Counter(claim.job.queue for claim in claims) == {"capped": 7, "open": 4}


async def test_a_gate_that_another_process_left_taken_keeps_no_other_queue(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    await create(jobs, 3, queue="capped")
    opened = await create(jobs, 3, queue="open")
    await queues.configure_queue("capped", max_running=2)
    gate = PARTITIONS.home_of("capped").gate("capped")
    await redis.set(gate, "another", px=60_000)
    assert await claim_all(leases, "capped", "open") == opened
    assert await redis.get(gate) == b"another"
    await redis.delete(gate)
    assert await claim_all(leases, "capped") == ["capped-0", "capped-1"]
    assert not await redis.exists(gate)


async def test_a_gate_stays_taken_for_a_while_after_a_claim_without_a_reply(
    jobs: JobStateManager,
    leases: LeaseManager,
    queues: QueueManager,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await create(jobs, 3, queue="capped")
    await queues.configure_queue("capped", max_running=2)
    send = leases._client.run_script

    async def lose(script: Script, *args: Any) -> Any:
        if script is scripts.CLAIM:
            raise errors.StoreTimeout
        return await send(script, *args)

    monkeypatch.setattr(leases._client, "run_script", lose)
    with pytest.raises(errors.StoreTimeout):
        await leases.claim_job(["capped"], "w")
    assert 1000 < await redis.pttl(PARTITIONS.home_of("capped").gate("capped")) <= 2000


@pytest.mark.parametrize("facts", [{}, {"capped": 0}, {"capped": 0, ":until": 1}, {":until": 9 * 10**15}])
async def test_a_script_that_does_not_know_the_running_jobs_of_others_gives_none_of_a_capped_queue(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, facts: dict[str, int]
) -> None:
    [job_id] = await create(jobs, 1, queue="capped")
    await queues.configure_queue("capped", max_running=2)
    request = ClaimRequest.of(["capped"], "w", 30, None, None)
    partition = PARTITIONS.of(job_id)
    assert (await leases._script.run(request, partition, facts=facts)).claims == []
    known = {"capped": 2, ":until": 9 * 10**15}
    assert (await leases._script.run(request, partition, facts=known)).claims == []
    assert ids((await leases._script.run(request, partition, facts={**known, "capped": 1})).claims) == [job_id]


# Several jobs


async def test_a_batch_has_the_oldest_jobs_with_a_token_each(jobs: JobStateManager, leases: LeaseManager) -> None:
    created = await create(jobs, 130)
    claims = await leases.claim_jobs(["default"], "w", max_jobs=20)
    assert ids(claims) == created[:20]
    assert len({claim.lease.token for claim in claims}) == 20
    rest = await leases.claim_jobs(["default"], "w", max_jobs=100)
    assert len(rest) == 100
    assert len(await leases.claim_jobs(["default"], "w", max_jobs=100)) == 10


async def test_a_batch_takes_all_jobs_of_one_partition(jobs: JobStateManager, leases: LeaseManager) -> None:
    created = ids_in(5, 60)
    for job_id in created:
        await jobs.create_job(job_id, 1)
    assert ids(await leases.claim_jobs(["default"], "w", max_jobs=100)) == created


async def test_a_batch_has_no_more_jobs_than_it_asked_for(jobs: JobStateManager, leases: LeaseManager) -> None:
    for job_id in (*ids_in(5, 60), *ids_in(6, 60)):
        await jobs.create_job(job_id, 1)
    assert len(await leases.claim_jobs(["default"], "w", max_jobs=100)) == 100
    assert await running(jobs) == 100


async def test_a_batch_ends_at_8_mib_over_all_partitions(jobs: JobStateManager, leases: LeaseManager) -> None:
    for number in range(6):
        await jobs.create_job(ids_in(number, 1)[0], "x" * (3 * 1024 * 1024))
    sizes = []
    while claims := await leases.claim_jobs(["default"], "w", max_jobs=10):
        sizes.append(len(claims))
    assert sizes == [2, 2, 2]
    await jobs.create_job(ids_in(1, 2)[1], "x" * (MAX_CLAIM_BYTES + 1))
    assert len(await leases.claim_jobs(["default"], "w", max_jobs=10)) == 1


async def test_a_batch_asks_each_partition_once(
    jobs: JobStateManager, leases: LeaseManager, observer: Counting
) -> None:
    await create(jobs, 100)
    observer.calls.clear()
    assert len(await leases.claim_jobs(["default"], "w", max_jobs=100)) == 100
    assert observer.calls["look"] == 1
    assert observer.calls["claim"] <= 16


# Keys that are not ours


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("keys", [(None, None, None), ("a", "b", "c")])
async def test_a_partition_with_a_key_of_another_program_does_not_stop_the_others(
    keys: tuple[str | None, ...], jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    broken, fine = ids_in(2, 2), ids_in(8, 2)
    for job_id in (*broken, *fine):
        await jobs.create_job(job_id, 1)
    name = PARTITIONS[2].by_created("default", "running")
    await redis.set(name, "foreign")
    claims = [await leases.claim_job(["default"], "w", claim_key=key) for key in keys[:2]]
    assert [claim and claim.job.job_id for claim in claims] == fine
    with pytest.raises(errors.StoreCorrupt, match="by_created"):
        await leases.claim_job(["default"], "w", claim_key=keys[2])
    await redis.delete(name)
    claim = await leases.claim_job(["default"], "w", claim_key=keys[2])
    assert claim
    assert [claim.job.job_id, *await claim_all(leases)] == broken


@pytest.mark.corrupts_keys
async def test_a_claim_with_a_key_stays_with_a_partition_where_it_may_still_get_a_job(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    """The script was refused before it left the number of its plan. It may run a second time when the key is gone."""
    [broken], [fine] = ids_in(2, 1), ids_in(8, 1)
    for job_id in (broken, fine):
        await jobs.create_job(job_id, 1)
    await redis.set(PARTITIONS[2].queues, "foreign")
    with pytest.raises(errors.StoreCorrupt):
        await leases.claim_job(["default"], "w", claim_key="a")
    await redis.delete(PARTITIONS[2].queues)
    claim = await leases.claim_job(["default"], "w", claim_key="a")
    assert claim
    assert claim.job.job_id == broken


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("keys", [(None, None), ("a", "b")])
async def test_a_queue_that_cannot_be_counted_does_not_stop_the_others_of_a_claim(
    keys: tuple[str | None, str | None], jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    limited, other = ids_in(8, 2)
    await jobs.create_job(limited, 1, queue="limited")
    await jobs.create_job(other, 1, queue="other")
    await queues.configure_queue("limited", max_running=5)
    name = PARTITIONS[2].by_created("limited", "running")
    await redis.set(name, "foreign")
    claim = await leases.claim_job(["limited", "other"], "w", claim_key=keys[0])
    assert claim is not None
    assert claim.job.job_id == other
    with pytest.raises(errors.StoreCorrupt):
        await leases.claim_job(["limited", "other"], "w", claim_key=keys[1])
    await redis.delete(name)
    assert await claim_all(leases, "limited") == [limited]


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("keys", [(None, None, None), ("a", "b", "c")])
async def test_a_gate_of_another_type_stops_its_queue_alone_and_is_named(
    keys: tuple[str | None, ...], jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    held = {}
    for name in ("blocked", "capped", "open"):
        [held[name]] = await create(jobs, 1, queue=name)
    for name in ("blocked", "capped"):
        await queues.configure_queue(name, max_running=5)
    gate = PARTITIONS.home_of("blocked").gate("blocked")
    await redis.hset(gate, "foreign", "1")
    for name, key in zip(("capped", "open"), keys, strict=False):
        claim = await leases.claim_job([*held], "w", claim_key=key)
        assert claim is not None
        assert claim.job.job_id == held[name]
    with pytest.raises(errors.StoreCorrupt, match=gate):
        await leases.claim_job([*held], "w", claim_key=keys[2])
    assert await redis.hgetall(gate) == {b"foreign": b"1"}
    await redis.delete(gate)
    claim = await leases.claim_job([*held], "w", claim_key=keys[2])
    assert claim is not None
    assert claim.job.job_id == held["blocked"]


@pytest.mark.corrupts_keys
async def test_an_aim_of_another_type_stops_the_claim_of_this_key_alone_and_is_named(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    created = await create(jobs, 3)
    claim_id = change_id_for("a")
    aim = PARTITIONS.home_of(claim_id).aim(claim_id)
    await redis.hset(aim, "foreign", "1")
    with pytest.raises(errors.StoreCorrupt, match=aim):
        await leases.claim_job(["default"], "w", claim_key="a")
    assert await running(jobs) == 0
    for key, job_id in (("b", created[0]), (None, created[1])):
        claim = await leases.claim_job(["default"], "w", claim_key=key)
        assert claim is not None
        assert claim.job.job_id == job_id
    await redis.delete(aim)
    claim = await leases.claim_job(["default"], "w", claim_key="a")
    assert claim is not None
    assert claim.job.job_id == created[2]


# Claims that wait


@pytest.fixture
async def silent_hub(client: StoreClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EventHub]:
    """A hub that hears of no event."""
    hub = EventHub(client, Shutdown())

    async def read() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(hub._reader, "read", read)
    yield hub
    await hub.aclose()


Wait = Callable[..., "asyncio.Task[list[Claim]]"]


@pytest.fixture
async def wait(leases: LeaseManager, silent_hub: EventHub) -> AsyncIterator[Wait]:
    """Start a claim that waits."""
    waiter, tasks = ClaimWaiter(silent_hub, Shutdown(), leases.looker), []

    def wait(*queues: str) -> "asyncio.Task[list[Claim]]":
        def claim() -> Any:
            return leases.try_claim(queues, "w", lease_seconds=30, claim_key=None)

        tasks.append(asyncio.create_task(waiter.claim(PendingClaim(queues), 20, claim)))
        return tasks[-1]

    yield wait
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def has_waited(observer: Counting) -> None:
    """Wait until some looks were made."""
    before = observer.calls["look"]
    async with asyncio.timeout(10):
        while observer.calls["look"] < before + 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_job_in_any_partition_ends_the_wait_of_a_claim(
    jobs: JobStateManager, wait: Wait, observer: Counting
) -> None:
    for number in range(16):
        [job_id] = ids_in(number, 1)
        claim = wait("default", "other")
        await has_waited(observer)
        await jobs.create_job(job_id, 1)
        assert ids(await asyncio.wait_for(claim, 10)) == [job_id]


async def test_each_of_many_waiting_claims_gets_a_job(jobs: JobStateManager, wait: Wait, observer: Counting) -> None:
    claims = [wait("default") for _ in range(40)]
    await has_waited(observer)
    created = await create(jobs, 40)
    found = await asyncio.wait_for(asyncio.gather(*claims), 10)
    assert sorted(itertools.chain.from_iterable(map(ids, found))) == sorted(created)


async def test_waiting_claims_hear_of_resumed_queues_ended_jobs_and_ended_delays(
    jobs: JobStateManager, wait: Wait, queues: QueueManager, observer: Counting, leases: LeaseManager
) -> None:
    await queues.configure_queue("paused", paused=True)
    await create(jobs, 1, queue="paused")
    claim = wait("paused")
    await has_waited(observer)
    await queues.configure_queue("paused", paused=None)
    assert ids(await asyncio.wait_for(claim, 10)) == ["paused-0"]

    await queues.configure_queue("capped", max_running=1)
    await create(jobs, 2, queue="capped")
    held = await leases.claim_job(["capped"], "w")
    assert held is not None
    claim = wait("capped")
    await has_waited(observer)
    assert not claim.done()
    await jobs.update_job_status("capped-0", "completed", lease_token=held.lease.token)
    assert ids(await asyncio.wait_for(claim, 10)) == ["capped-1"]

    claim = wait("delayed")
    await create(jobs, 1, queue="delayed", delay_seconds=1)
    assert ids(await asyncio.wait_for(claim, 10)) == ["delayed-0"]


async def test_a_drain_ends_the_wait_of_all_claims(wait: Wait, queues: QueueManager, observer: Counting) -> None:
    claims = [wait("default") for _ in range(5)]
    await has_waited(observer)
    await queues.start_drain(60)
    for claim in claims:
        with pytest.raises(errors.Draining):
            await asyncio.wait_for(claim, 10)


@pytest.mark.usefixtures("only_caller")
async def test_the_cost_of_waiting_does_not_depend_on_how_many_claims_wait(
    wait: Wait, observer: Counting, redis: Redis
) -> None:
    async def commands_of_a_look() -> float:
        """Return how many commands Redis runs for each look, over some time."""
        await has_waited(observer)
        observer.calls.clear()
        await redis.config_resetstat()
        started = time.monotonic()
        await has_waited(observer)
        calls, stats = Counter(observer.calls), await command_calls(redis)
        assert set(calls) == {"look"}, "nothing but looks"
        assert calls["look"] <= (time.monotonic() - started) / 0.02 + 2
        asked = sum(stats[name] for name in ("zrange", "hmget", "time"))
        return float(asked / calls["look"])

    wait("default")
    one = await commands_of_a_look()
    for _ in range(199):
        wait("default")
    assert 0.7 * one <= await commands_of_a_look() <= 1.4 * one


async def test_nothing_is_looked_for_once_no_claim_waits(wait: Wait, observer: Counting) -> None:
    claim = wait("default")
    await has_waited(observer)
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    async with asyncio.timeout(10):
        while any(task.get_name() == "queue watch" for task in asyncio.all_tasks()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    observer.calls.clear()
    again = wait("default")
    await has_waited(observer)
    assert not again.done()


async def test_jobs_that_nobody_can_have_wake_a_claim_once_a_second(
    pool: BlockingConnectionPool, jobs: JobStateManager, wait: Wait, observer: Counting
) -> None:
    brief = JobStateManager(connect(pool, partitions=16), ttl=timedelta(milliseconds=20))
    expired = await create(brief, 4)
    await have_expired(jobs, expired)
    wait("default")
    await has_waited(observer)
    observer.calls.clear()
    await asyncio.sleep(0.5)
    assert observer.calls["claim"] <= 8
    await jobs.sweep()
