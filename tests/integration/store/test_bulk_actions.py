"""Bulk actions: which jobs they match, what they do with each, and how they go on step by step."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.background.bulk_runner import BulkRunner
from service.domain import errors
from service.domain.actor import actor
from service.domain.bulk import (
    ENDED_STATES,
    BulkAction,
    BulkActionNotFound,
    BulkKind,
    BulkState,
    NewBulkAction,
    UnexpectedCount,
)
from service.domain.jobs import Job, JobFilter
from service.domain.states import Status
from service.domain.tags import label_tag
from service.store.bulk_actions import BulkActions
from service.store.bulk_records import EXAMPLES, KEPT_MS, StoredAction
from service.store.bulk_steps import SCAN_FACTOR, BulkSteps
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import Partition
from tests.helpers.partitions import PARTITIONS, job_key

WEEK = timedelta(days=7)
IDS = [f"j{number}" for number in range(12)]


@pytest.fixture
def actions(store_client: StoreClient, redis: Redis) -> BulkActions:
    return BulkActions(store_client)


@pytest.fixture
def steps(store_client: StoreClient, redis: Redis) -> BulkSteps:
    return BulkSteps(store_client, ttl=WEEK)


Finish = Callable[[BulkAction], Any]


@pytest.fixture
def finish(actions: BulkActions, steps: BulkSteps) -> Finish:
    """Carry out an action, and return it as it has ended."""
    runner = BulkRunner(steps)

    async def finish(action: BulkAction) -> BulkAction:
        while action.state not in ENDED_STATES:
            await runner.run_once()
            action = await actions.get_action(action.action_id)
        return action

    return finish


@pytest.fixture
def do(actions: BulkActions, finish: Finish) -> Callable[..., Any]:
    """Start an action and carry it out."""

    async def do(kind: str, dry_run: bool = False, expect: int | None = None, **filters: Any) -> BulkAction:
        new = NewBulkAction(kind=BulkKind(kind), filters=JobFilter(**filters), dry_run=dry_run, expect=expect)
        action, _ = await actions.start_action(new)
        ended: BulkAction = await finish(action)
        return ended

    return do


async def fail(jobs: JobStateManager, *job_ids: str, **options: Any) -> None:
    """Create jobs and let them fail."""
    for job_id in job_ids:
        await jobs.create_job(job_id, 1, **options)
        await jobs.update_job_status(job_id, "failed", error="broken")


async def read(jobs: JobStateManager, *job_ids: str) -> list[Job]:
    found = [await jobs.get_job(job_id) for job_id in job_ids]
    return [job for job in found if job]


async def statuses(jobs: JobStateManager, *job_ids: str) -> list[str]:
    return [job.status for job in await read(jobs, *job_ids)]


async def retries_of(jobs: JobStateManager, job_id: str) -> int:
    history = await jobs.get_history(job_id)
    assert history
    return [entry.change for entry in history.items].count("retried")


async def step(steps: BulkSteps, action_id: str, most: int = 1) -> bool:
    """Take one step in one partition, and return whether the action may go on."""
    stored = await steps.take(action_id)
    if stored is None:
        return False
    action = stored.decode()
    left = steps.unfinished(stored, action)
    if left:
        await steps.step(stored, action, left[0], most)
    else:
        await steps.move_on(stored, action)
    return True


async def taken(steps: BulkSteps, action_id: str) -> tuple[StoredAction, BulkAction, Partition]:
    """Take an action that runs, and return it with a partition in which it has not ended."""
    stored = await steps.take(action_id)
    assert stored
    return stored, stored.decode(), steps.unfinished(stored, stored.decode())[0]


async def count(steps: BulkSteps, action_id: str) -> None:
    """Carry out the first pass."""
    stored = await steps.take(action_id)
    while stored and stored.decode().state is BulkState.COUNTING:
        await step(steps, action_id, 100)
        stored = await steps.take(action_id)


async def test_an_action_that_was_started_is_counting_with_what_was_asked_for(actions: BulkActions) -> None:
    filters = JobFilter(status=Status.FAILED, queue="q", labels=("team:blue",), created_after="2026-01-01T00:00:00Z")
    new = NewBulkAction(kind=BulkKind.RETRY, filters=filters, dry_run=True, expect=3)
    token = actor.set("ops")
    try:
        action, replayed = await actions.start_action(new)
    finally:
        actor.reset(token)
    assert not replayed
    assert (action.kind, action.filters, action.dry_run, action.expect) == (BulkKind.RETRY, filters, True, 3)
    assert (action.state, action.matched, action.done, action.by) == (BulkState.COUNTING, 0, 0, "ops")
    assert (action.refused, action.examples, action.finished_at) == ({}, [], None)
    assert await actions.get_action(action.action_id) == action
    assert await actions.list_actions() == [action]


@pytest.mark.parametrize(
    "filters",
    [
        {"status": "failed"},
        {"queue": "mine"},
        {"slate_id": "s"},
        {"correlation_id": "c"},
        {"labels": ("team:blue",)},
        {"labels": ("team:blue", "tenant:acme")},
        {"labels": ("team:blue",), "status": "failed", "queue": "mine", "slate_id": "s", "correlation_id": "c"},
    ],
    ids=lambda filters: " ".join(filters) + " s" * (len(filters.get("labels", ())) > 1),
)
async def test_the_jobs_that_match_all_filters_are_retried(
    jobs: JobStateManager, do: Callable[..., Any], filters: dict[str, Any]
) -> None:
    own = {"queue": "mine", "slate_id": "s", "correlation_id": "c", "labels": {"team": "blue", "tenant": "acme"}}
    await fail(jobs, *IDS, **own)
    other = {"queue": "other", "slate_id": "t", "correlation_id": "d", "labels": {"team": "red"}}
    await jobs.create_job("other", 1, **other)
    await jobs.update_job_status("other", "cancelled")

    action = await do("retry", **filters)

    assert (action.state, action.matched, action.done, action.refused) == (BulkState.DONE, 12, 12, {})
    assert action.finished_at
    assert await statuses(jobs, *IDS, "other") == ["pending"] * 12 + ["cancelled"]


async def test_times_of_creation_bound_the_jobs_on_both_sides(jobs: JobStateManager, do: Callable[..., Any]) -> None:
    created = [(await jobs.create_job(job_id, 1)).job.created_at for job_id in IDS]
    action = await do("cancel", created_after=created[2], created_before=created[9])
    assert (action.matched, action.done) == (6, 6)
    cancelled = [job.job_id for job in await read(jobs, *IDS) if job.status is Status.CANCELLED]
    assert cancelled == IDS[3:9]


async def test_a_label_with_the_same_hash_does_not_match(
    jobs: JobStateManager, do: Callable[..., Any], redis: Redis
) -> None:
    await jobs.create_job("mine", 1, labels={"tenant": "acme"})
    await jobs.create_job("other", 1, labels={"tenant": "other"})
    tags, name = PARTITIONS.of("other").tags, job_key("other")
    [member] = [one.decode() for one in await redis.zrange(tags, 0, -1) if one.endswith(b":other")][:1]
    own, forged = label_tag("tenant:other"), label_tag("tenant:acme")
    held = (await redis.hget(name, "_tags")).decode()
    labelled = [one.decode() for one in await redis.zrange(tags, 0, -1) if one.decode().startswith(own)]
    await redis.zadd(tags, {labelled[0].replace(own, forged): 0})
    await redis.hset(name, "_tags", held.replace(own, forged))

    action = await do("cancel", labels=("tenant:acme",))

    assert member
    assert (action.matched, action.done) == (1, 1)
    assert await statuses(jobs, "mine", "other") == ["cancelled", "pending"]
    await redis.zrem(tags, labelled[0].replace(own, forged))
    await redis.hset(name, "_tags", held)


async def test_jobs_that_are_created_after_the_start_never_match(
    jobs: JobStateManager, actions: BulkActions, steps: BulkSteps, finish: Finish, redis: Redis
) -> None:
    for job_id in IDS:
        await jobs.create_job(job_id, 1)
    action, _ = await actions.start_action(
        NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(status=Status.PENDING))
    )
    for partition in PARTITIONS:  # so the next creation is later, even if the time of Redis goes back
        assert await redis.hget(partition.meta, "clock") == await redis.hget(partition.bulk(action.action_id), "until")
    await jobs.create_job("later", 1)
    await count(steps, action.action_id)
    await jobs.create_job("even-later", 1)
    ended = await finish(action)
    assert (ended.matched, ended.done) == (12, 12)
    assert await statuses(jobs, "later", "even-later") == ["pending", "pending"]


async def test_a_clock_that_was_ahead_changes_nothing_of_what_matches(
    jobs: JobStateManager, actions: BulkActions, finish: Finish, redis: Redis
) -> None:
    ahead = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1_000_000)
    for partition in PARTITIONS:
        await redis.hset(partition.meta, "clock", ahead)
    await jobs.create_job("before", 1)
    action, _ = await actions.start_action(
        NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(status=Status.PENDING))
    )
    await jobs.create_job("after", 1)
    assert (await finish(action)).done == 1
    assert await statuses(jobs, "before", "after") == ["cancelled", "pending"]


async def test_the_oldest_jobs_come_first_and_each_once(
    jobs: JobStateManager, actions: BulkActions, steps: BulkSteps
) -> None:
    await fail(jobs, *IDS)
    filters = JobFilter(status=Status.FAILED)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=filters))
    await count(steps, action.action_id)
    seen: list[str] = []
    while await step(steps, action.action_id):
        retried = [job.job_id for job in await read(jobs, *IDS) if job.status is Status.PENDING]
        seen += retried
        for job_id in retried:  # fails again, and matches again
            await jobs.update_job_status(job_id, "failed", error="again")
    ended = await actions.get_action(action.action_id)
    assert (ended.state, ended.matched, ended.done) == (BulkState.DONE, 12, 12)
    assert sorted(seen) == sorted(IDS)
    for partition in PARTITIONS:
        mine = [job_id for job_id in IDS if PARTITIONS.of(job_id) is partition]
        assert [job_id for job_id in seen if job_id in mine] == mine
    assert [await retries_of(jobs, job_id) for job_id in IDS] == [1] * 12


async def test_a_step_has_a_limit_of_jobs_and_of_entries(
    jobs: JobStateManager, actions: BulkActions, steps: BulkSteps
) -> None:
    job_ids = [f"n{number}" for number in range(200)]
    mine = [job_id for job_id in job_ids if PARTITIONS.of(job_id) is PARTITIONS.of("n0")]
    for job_id in mine:
        await jobs.create_job(job_id, 1, slate_id="s" if job_id == mine[-1] else None, labels={"a": "b"})
    limited = min(len(mine) - 1, 5)
    cancel, _ = await actions.start_action(NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(labels=("a:b",))))
    await count(steps, cancel.action_id)
    running, action, _ = await taken(steps, cancel.action_id)
    assert not await steps.step(running, action, PARTITIONS.of("n0"), limited)
    assert (await actions.get_action(cancel.action_id)).done == limited

    filters = JobFilter(status=Status.FAILED, labels=("a:b",))  # all jobs are walked, and none matches
    found, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=filters))
    stored = await steps.take(found.action_id)
    assert stored
    ends = [await steps.step(stored, stored.decode(), PARTITIONS.of("n0"), 1) for _ in range(len(mine))]
    assert ends.index(True) == (len(mine) - 1) // SCAN_FACTOR


async def test_jobs_with_which_it_cannot_be_carried_out_are_refused_and_named(
    jobs: JobStateManager, do: Callable[..., Any], redis: Redis
) -> None:
    for job_id in IDS:
        await jobs.create_job(job_id, 1, queue="q")
    await fail(jobs, "failed", queue="q")

    retry = await do("retry", queue="q")
    assert (retry.matched, retry.done, retry.refused) == (13, 1, {errors.IllegalTransition: 12})
    assert len(retry.examples) == EXAMPLES
    assert {job_id for job_id, _ in retry.examples} < set(IDS)
    assert {error for _, error in retry.examples} == {errors.IllegalTransition}
    for partition in PARTITIONS:
        named = await redis.hget(partition.bulk(retry.action_id), "examples") or b""
        assert len(named.split()) <= EXAMPLES

    await fail(jobs, "again", queue="q")
    delete = await do("delete", queue="q")
    assert (delete.matched, delete.done, delete.refused) == (14, 1, {errors.JobNotFinal: 13})
    assert await jobs.get_job("again") is None


async def test_a_leased_job_is_asked_to_stop_and_a_cancelled_one_stays_as_it_is(
    jobs: JobStateManager, leases: LeaseManager, do: Callable[..., Any]
) -> None:
    await jobs.create_job("leased", 1, queue="q")
    assert await leases.claim_job(["q"], "w")
    for job_id in ("running", "cancelled", "completed"):
        await jobs.create_job(job_id, 1, queue="q")
    for job_id, status in (("running", "running"), ("cancelled", "cancelled"), ("completed", "running")):
        await jobs.update_job_status(job_id, status)
    await jobs.update_job_status("completed", "completed", result=1)
    before = await jobs.get_job("cancelled")

    action = await do("cancel", queue="q")

    assert (action.done, action.refused) == (3, {errors.IllegalTransition: 1})
    assert await statuses(jobs, "leased", "running") == ["running", "cancelled"]
    [leased] = await read(jobs, "leased")
    assert leased.cancel_requested_at
    assert await jobs.get_job("cancelled") == before
    repeated = await do("cancel", queue="q")
    assert (repeated.done, (await read(jobs, "leased"))) == (3, [leased])


async def test_deleted_jobs_leave_nothing_behind(jobs: JobStateManager, do: Callable[..., Any], redis: Redis) -> None:
    await fail(jobs, *IDS, labels={"team": "blue"}, slate_id="s")
    assert (await do("delete", labels=("team:blue",))).done == 12
    assert await read(jobs, *IDS) == []
    for partition in PARTITIONS:
        assert await redis.exists(partition.by_expiry, partition.tags, partition.queue_names) == 0


async def test_a_retried_job_has_its_start_timeout_anew_and_refuses_the_end_of_the_attempt_before(
    jobs: JobStateManager, do: Callable[..., Any]
) -> None:
    await jobs.create_job("j", 1, start_timeout_seconds=100)
    await jobs.update_job_status("j", "failed", error="broken", change_id="end")
    assert (await do("retry", status="failed")).done == 1
    [job] = await read(jobs, "j")
    assert job.start_deadline_at
    assert (job.status, job.error_message, job.failures) == ("pending", None, 0)
    await jobs.update_job_status("j", "failed", error="again", change_id="second-end")
    assert (await do("retry", status="failed")).done == 1
    for error, change_id in (("broken", "end"), ("again", "second-end")):
        with pytest.raises(errors.IllegalTransition, match="before the job was retried"):
            await jobs.update_job_status("j", "failed", error=error, change_id=change_id)


async def test_a_dry_run_only_counts(jobs: JobStateManager, do: Callable[..., Any]) -> None:
    await fail(jobs, *IDS)
    before = await read(jobs, *IDS)
    action = await do("delete", dry_run=True, status="failed")
    assert (action.state, action.matched, action.done) == (BulkState.DONE, 12, 0)
    assert await read(jobs, *IDS) == before


async def test_another_count_than_expected_changes_nothing(jobs: JobStateManager, do: Callable[..., Any]) -> None:
    await fail(jobs, *IDS)
    before = await read(jobs, *IDS)
    for expect in (0, 11, 13):
        action = await do("retry", expect=expect, status="failed")
        assert (action.state, action.matched, action.done) == (BulkState.ABORTED, 12, 0)
        assert isinstance(action.problem, UnexpectedCount)
        assert action.finished_at
    assert await read(jobs, *IDS) == before
    action = await do("retry", expect=12, status="failed")
    assert (action.state, action.done, action.problem) == (BulkState.DONE, 12, None)


async def test_an_aborted_action_changes_nothing_more_even_in_a_process_that_goes_on(
    jobs: JobStateManager, actions: BulkActions, steps: BulkSteps
) -> None:
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    await count(steps, action.action_id)
    stored, running, partition = await taken(steps, action.action_id)
    await steps.step(stored, running, partition, 1)
    before = await read(jobs, *IDS)

    aborted = await actions.abort_action(action.action_id)

    assert (aborted.state, aborted.matched, aborted.done) == (BulkState.ABORTED, 12, 1)
    assert aborted.finished_at
    assert aborted.problem is None
    assert await steps.find_active() == []
    for one in PARTITIONS:
        assert await steps.step(stored, running, one, 100)
    assert await steps.take(action.action_id) is None
    assert await read(jobs, *IDS) == before
    assert await actions.abort_action(action.action_id) == aborted


async def test_an_action_that_has_ended_is_not_aborted(actions: BulkActions, do: Callable[..., Any]) -> None:
    action = await do("cancel", queue="none")
    assert action.state is BulkState.DONE
    assert await actions.abort_action(action.action_id) == action


async def test_a_process_whose_knowledge_is_old_moves_no_action_on(actions: BulkActions, steps: BulkSteps) -> None:
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(queue="q")))
    stored = await steps.take(action.action_id)
    assert stored
    while await step(steps, action.action_id):
        pass  # it ends, with nothing to do
    ended = await actions.get_action(action.action_id)
    assert ended.state is BulkState.DONE
    for state in (BulkState.COUNTING, BulkState.RUNNING):
        assert await steps.move_on(stored, structs.replace(action, state=state)) is state
    assert await actions.get_action(action.action_id) == ended


async def test_a_pass_that_is_not_at_its_end_any_more_goes_on(
    jobs: JobStateManager, actions: BulkActions, steps: BulkSteps, finish: Finish, redis: Redis
) -> None:
    """As after a failover that has lost the last steps."""
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    await count(steps, action.action_id)
    stored, running, _ = await taken(steps, action.action_id)
    assert await steps.move_on(stored, running) is BulkState.RUNNING
    assert (await actions.get_action(action.action_id)).state is BulkState.RUNNING
    assert (await finish(action)).done == 12


async def test_the_end_of_a_pass_is_awaited_on_disk_in_every_partition(
    actions: BulkActions, store_client: StoreClient, steps: BulkSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(queue="q")))
    fsync = Fsync()
    monkeypatch.setattr(store_client, "_fsync", fsync)
    for _ in range(2):  # the passes
        while (stored := await steps.take(action.action_id)) and steps.unfinished(stored, stored.decode()):
            await step(steps, action.action_id)
        assert fsync.waits == 0
        await step(steps, action.action_id)
        assert fsync.waits == len(PARTITIONS)
        fsync.waits = 0
    assert (await actions.get_action(action.action_id)).state is BulkState.DONE


class Fsync:
    """Counts how often a change is awaited."""

    waits = 0

    async def wait(self) -> None:
        self.waits += 1


@pytest.mark.partitions(16)
async def test_an_action_of_which_redis_has_lost_a_part_is_aborted(
    jobs: JobStateManager, actions: BulkActions, store_client: StoreClient, finish: Finish, redis: Redis
) -> None:
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    home = store_client.partitions.of(action.action_id)
    await redis.delete(next(one for one in store_client.partitions if one is not home).bulk(action.action_id))
    ended = await finish(action)
    assert (ended.state, ended.done) == (BulkState.ABORTED, 0)
    assert isinstance(ended.problem, errors.StoreCorrupt)


async def test_an_abort_that_was_lost_at_home_is_completed(
    jobs: JobStateManager, actions: BulkActions, finish: Finish, redis: Redis
) -> None:
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    await redis.hset(PARTITIONS[-1].bulk(action.action_id), "stopped", "1")
    ended = await finish(action)
    assert (ended.state, ended.done, ended.problem) == (BulkState.ABORTED, 0, None)


@pytest.mark.corrupts_keys
async def test_a_key_that_is_not_ours_delays_the_action_and_costs_no_job(
    jobs: JobStateManager, actions: BulkActions, steps: BulkSteps, finish: Finish, redis: Redis
) -> None:
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    await count(steps, action.action_id)
    stored, running, partition = await taken(steps, action.action_id)
    await redis.rename(partition.by_expiry, partition.key("claim", "saved"))
    await redis.set(partition.by_expiry, "of another program")
    with pytest.raises(errors.StoreCorrupt, match="by_expiry"):
        await steps.step(stored, running, partition, 100)
    held = await actions.get_action(action.action_id)
    assert (held.done, held.refused) == (0, {})
    await redis.rename(partition.key("claim", "saved"), partition.by_expiry)
    ended = await finish(action)
    assert (ended.done, ended.refused) == (12, {})


@pytest.mark.corrupts_keys
async def test_an_unreadable_action_hides_no_other(
    actions: BulkActions, steps: BulkSteps, do: Callable[..., Any], redis: Redis
) -> None:
    readable = await do("cancel", queue="q")
    started = [
        (await actions.start_action(NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(queue="q"))))[0].action_id
        for _ in range(3)
    ]
    await redis.hset(PARTITIONS.of(started[0]).bulk(started[0]), "filter", '{"colour":"red"}')
    await redis.hset(PARTITIONS.of(started[1]).bulk(started[1]), "action", "paint")
    foreign = PARTITIONS.of(started[2]).bulk(started[2])
    await redis.delete(foreign)
    await redis.set(foreign, "of another program")
    for action_id in started:
        with pytest.raises(errors.StoreCorrupt):
            await actions.get_action(action_id)
    with capture_logs() as log:
        assert await actions.list_actions() == [readable]
    assert {line["event"] for line in log} == {"list skipped unreadable bulk action"}


@pytest.mark.corrupts_keys
async def test_a_key_of_another_type_hides_no_actions_of_other_partitions(
    actions: BulkActions, steps: BulkSteps, redis: Redis
) -> None:
    started = [
        (await actions.start_action(NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(queue="q"))))[0].action_id
        for _ in range(20)
    ]
    lost = PARTITIONS.of(started[0])
    await redis.delete(lost.bulk_active)
    await redis.set(lost.bulk_active, "of another program")
    assert sorted(await steps.find_active()) == sorted(one for one in started if PARTITIONS.of(one) is not lost)


async def test_another_process_goes_on_once_the_first_one_is_silent(
    jobs: JobStateManager,
    actions: BulkActions,
    store_client: StoreClient,
    steps: BulkSteps,
    finish: Finish,
    redis: Redis,
) -> None:
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    first = BulkSteps(store_client, ttl=WEEK)
    await count(first, action.action_id)
    while not (await actions.get_action(action.action_id)).done:
        await step(first, action.action_id)
    assert await steps.take(action.action_id) is None, "it is held"
    assert (await actions.get_action(action.action_id)).done < 12

    await redis.zadd(PARTITIONS.of(action.action_id).bulk_active, {action.action_id: 1})  # the time is over

    ended = await finish(action)
    assert (ended.matched, ended.done, ended.refused) == (12, 12, {})
    assert [await retries_of(jobs, job_id) for job_id in IDS] == [1] * 12
    assert await first.take(action.action_id) is None


async def test_two_processes_at_once_change_each_job_once(
    jobs: JobStateManager, actions: BulkActions, store_client: StoreClient, steps: BulkSteps, finish: Finish
) -> None:
    await fail(jobs, *IDS)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED)))
    await count(steps, action.action_id)
    others = (steps, BulkSteps(store_client, ttl=WEEK))
    stored, running, _ = await taken(steps, action.action_id)
    for partition in PARTITIONS:  # both with what they knew before
        while not all(await asyncio.gather(*(one.step(stored, running, partition, 1) for one in others))):
            pass
    ended = await finish(action)
    assert (ended.state, ended.matched, ended.done, ended.refused) == (BulkState.DONE, 12, 12, {})
    assert [await retries_of(jobs, job_id) for job_id in IDS] == [1] * 12


async def test_an_equal_request_with_the_same_key_starts_one_action(
    jobs: JobStateManager, actions: BulkActions, finish: Finish
) -> None:
    await fail(jobs, *IDS)
    new = NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED))
    action, replayed = await actions.start_action(new, "key")
    assert (await actions.start_action(new, "key"), replayed) == ((action, True), False)
    ended = await finish(action)
    assert await actions.start_action(new, "key") == (ended, True)
    assert await actions.list_actions() == [ended]
    for other in (
        NewBulkAction(kind=BulkKind.CANCEL, filters=new.filters),
        NewBulkAction(kind=new.kind, filters=JobFilter(status=Status.CANCELLED)),
        NewBulkAction(kind=new.kind, filters=new.filters, dry_run=True),
        NewBulkAction(kind=new.kind, filters=new.filters, expect=1),
    ):
        with pytest.raises(errors.IdempotencyKeyReused):
            await actions.start_action(other, "key")


async def test_a_start_that_was_interrupted_is_no_action_until_it_is_repeated(
    jobs: JobStateManager, actions: BulkActions, finish: Finish, redis: Redis
) -> None:
    await fail(jobs, *IDS)
    new = NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED))
    action, _ = await actions.start_action(new, "key")
    home = PARTITIONS.of(action.action_id)
    await redis.delete(home.bulk(action.action_id), home.bulk_active, home.bulk_actions)  # the home comes last
    with pytest.raises(BulkActionNotFound):
        await actions.get_action(action.action_id)
    await jobs.create_job("later", 1)
    await jobs.update_job_status("later", "failed")

    again, replayed = await actions.start_action(new, "key")

    assert not replayed
    assert (await finish(again)).done in (12, 13)


async def test_the_history_names_the_key_that_started_the_action(
    jobs: JobStateManager, actions: BulkActions, finish: Finish
) -> None:
    await fail(jobs, "j")
    token = actor.set("ops")
    try:
        action, _ = await actions.start_action(
            NewBulkAction(kind=BulkKind.RETRY, filters=JobFilter(status=Status.FAILED))
        )
    finally:
        actor.reset(token)
    await finish(action)
    history = await jobs.get_history("j")
    assert history
    assert [(entry.change, entry.by) for entry in history.items][1:] == [("failed", None), ("retried", "ops")]


@pytest.mark.corrupts_keys
async def test_a_job_that_cannot_be_read_keeps_no_other_from_it(
    jobs: JobStateManager, do: Callable[..., Any], redis: Redis
) -> None:
    await fail(jobs, *IDS)
    await redis.hset(job_key("j3"), "revision", "many")
    with capture_logs() as log:
        action = await do("retry", status="failed")
    assert (action.matched, action.done, action.refused) == (12, 11, {errors.StoreCorrupt: 1})
    assert action.examples == [("j3", errors.StoreCorrupt)]
    [line] = [line for line in log if line["event"] == "bulk action met unreadable keys"]
    assert line["job_ids"] == ["j3"]


async def test_an_action_is_kept_for_a_day_after_its_last_change(do: Callable[..., Any], redis: Redis) -> None:
    action = await do("cancel", queue="none")
    home = PARTITIONS.of(action.action_id)
    names = [home.bulk_actions, *(partition.bulk(action.action_id) for partition in PARTITIONS)]
    for name in names:
        assert KEPT_MS - 60_000 < await redis.pttl(name) <= KEPT_MS
    assert await redis.exists(home.bulk_active) == 0


async def test_the_newest_actions_are_listed_first(actions: BulkActions, do: Callable[..., Any]) -> None:
    started = [await do("cancel", queue=f"q{number}") for number in range(5)]
    assert [one.action_id for one in await actions.list_actions()] == [one.action_id for one in reversed(started)]


@pytest.mark.parametrize(
    ("filters", "expect", "field"),
    [
        ({}, None, "filter"),
        ({"queue": "a b"}, None, "filter.queue"),
        ({"labels": ("none",)}, None, "filter.label"),
        ({"created_after": "today"}, None, "filter.created_after"),
        ({"queue": "q"}, -1, "expect"),
    ],
)
async def test_a_wrong_value_is_named(
    actions: BulkActions, filters: dict[str, Any], expect: int | None, field: str
) -> None:
    with pytest.raises(errors.InvalidValue) as caught:
        await actions.start_action(NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(**filters), expect=expect))
    assert caught.value.field == field
    assert await actions.list_actions() == []


async def test_an_unknown_action_is_not_found(actions: BulkActions) -> None:
    with pytest.raises(BulkActionNotFound):
        await actions.get_action("nothing")
    with pytest.raises(BulkActionNotFound):
        await actions.abort_action("nothing")
