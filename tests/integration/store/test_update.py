import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain.errors import (
    IdempotencyKeyReused,
    IllegalTransition,
    InvalidValue,
    JobNotFinal,
    JobNotFound,
    PreconditionFailed,
    StoreCorrupt,
)
from service.domain.jobs import Job, Progress
from service.domain.states import FINAL_STATUSES, TRANSITIONS, Status
from service.domain.timestamps import parse_timestamp
from service.store.auto_pipeline import AutoPipeline
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import NullObserver
from tests.helpers.partitions import PARTITIONS, connect, job_key, key_names, neighbour_of

#: That of the job of these tests.
PARTITION = PARTITIONS.of("j")


async def bring_to(jobs: JobStateManager, status: Status, job_id: str = "j") -> Job:
    """Create a job and move it to `status`."""
    job = (await jobs.create_job(job_id, 1, "c", slate_id="s")).job
    if status in {Status.RUNNING, Status.COMPLETED}:
        job = await jobs.update_job_status(job_id, Status.RUNNING)
    if status in FINAL_STATUSES:
        job = await jobs.update_job_status(job_id, status)
    return job


@pytest.mark.parametrize(("source", "target"), list(itertools.product(Status, Status)))
async def test_exactly_the_transitions_of_the_table_are_accepted(
    jobs: JobStateManager, redis: Redis, source: Status, target: Status
) -> None:
    before = await bring_to(jobs, source)
    fields, events = await redis.hgetall(job_key("j")), await redis.xlen(PARTITION.events)
    progress = Progress(1) if target is Status.RUNNING else None
    error = "why" if target in {Status.FAILED, Status.CANCELLED} else None
    result = 1 if target is Status.COMPLETED else None

    if target in TRANSITIONS[source]:
        after = await jobs.update_job_status("j", target, result, error, progress=progress)
        assert (after.status, after.revision) == (target, before.revision + 1)
        assert after.updated_at > before.updated_at
        assert after.expires_at >= before.expires_at
        assert await redis.xlen(PARTITION.events) == events + 1
    else:
        with pytest.raises(IllegalTransition) as rejection:
            await jobs.update_job_status("j", target, result, error, progress=progress)
        assert (rejection.value.current_status, rejection.value.revision) == (source, before.revision)
        assert await redis.hgetall(job_key("j")) == fields
        assert await redis.xlen(PARTITION.events) == events


async def test_timestamps_and_attempt_over_the_life_of_a_job(jobs: JobStateManager) -> None:
    created = (await jobs.create_job("j", 1)).job
    assert (created.attempt, created.started_at, created.finished_at) == (0, None, None)

    running = await jobs.update_job_status("j", "running")
    assert (running.attempt, running.started_at, running.finished_at) == (1, running.updated_at, None)

    progressed = await jobs.update_job_status("j", "running", progress=Progress(1, 2, "half"))
    assert (progressed.attempt, progressed.started_at) == (1, running.started_at)

    done = await jobs.update_job_status("j", "completed", {})
    assert (done.started_at, done.finished_at) == (running.started_at, done.updated_at)
    assert done.progress == Progress(1, 2, "half")


async def test_a_running_job_is_not_started_twice(jobs: JobStateManager) -> None:
    await bring_to(jobs, Status.RUNNING)

    with pytest.raises(IllegalTransition, match="already running"):
        await jobs.update_job_status("j", "running")


async def test_progress_equal_to_the_stored_one_is_rejected(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running", progress=Progress(0))

    with pytest.raises(IllegalTransition):
        await jobs.update_job_status("j", "running", progress=Progress(0))


async def test_progress_events_are_at_most_one_a_second_and_the_record_has_the_newest(
    jobs: JobStateManager, redis: Redis
) -> None:
    await bring_to(jobs, Status.RUNNING)
    before = await redis.xlen(PARTITION.events)

    started = asyncio.get_running_loop().time()
    for current in range(50):
        job = await jobs.update_job_status("j", "running", progress=Progress(current))
    took = asyncio.get_running_loop().time() - started

    assert job.revision == 52
    assert job.progress == Progress(49)
    assert await redis.xlen(PARTITION.events) - before in range(1, int(took) + 2)
    done = await jobs.update_job_status("j", "completed")
    [(_, event)] = await redis.xrevrange(PARTITION.events, count=1)
    assert (event[b"status"], event[b"revision"]) == (b"completed", str(done.revision).encode())


@pytest.mark.parametrize("value", [b"{}", b"0", b"[]", b"false", b'""', b"null", b'{"z":1,"a":1.50}'])
async def test_results_and_errors_are_stored_unchanged(jobs: JobStateManager, value: bytes) -> None:
    await bring_to(jobs, Status.RUNNING, "done")
    await bring_to(jobs, Status.RUNNING, "broken")
    await jobs.update_job_status("done", "completed", Raw(value))
    await jobs.update_job_status("broken", "failed", error=Raw(value))

    done, broken = await jobs.get_job("done"), await jobs.get_job("broken")

    assert done
    assert done.result is not None
    assert broken
    assert broken.error_message is not None
    assert (bytes(done.result), bytes(broken.error_message)) == (value, value)
    assert (done.error_message, broken.result) == (None, None)


async def test_an_absent_result_stays_absent(jobs: JobStateManager, redis: Redis) -> None:
    await bring_to(jobs, Status.COMPLETED)

    assert not await redis.hexists(job_key("j"), "result")
    job = await jobs.get_job("j")
    assert job
    assert job.result is None


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("status", {"status": "done"}),
        ("result", {"status": "failed", "result": 1}),
        ("result", {"status": "running", "result": Raw(b"null")}),
        ("error_message", {"status": "completed", "error": "x"}),
        ("progress.current", {"status": "running", "progress": Progress(-1)}),
        ("progress.total", {"status": "running", "progress": Progress(1, -1)}),
        ("progress.message", {"status": "running", "progress": Progress(1, 2, "\x1b[31m")}),
        ("scenario_count", {"status": "running", "scenario_count": -1}),
        ("Idempotency-Key", {"status": "running", "change_id": "two words"}),
    ],
)
async def test_an_invalid_value_is_named_and_nothing_is_changed(
    jobs: JobStateManager, redis: Redis, field: str, arguments: dict[str, Any]
) -> None:
    await jobs.create_job("j", 1)
    fields = await redis.hgetall(job_key("j"))

    with pytest.raises(InvalidValue) as rejection:
        await jobs.update_job_status("j", **arguments)

    assert rejection.value.field == field
    assert await redis.hgetall(job_key("j")) == fields


async def test_an_update_does_not_create_a_missing_job(jobs: JobStateManager, redis: Redis) -> None:
    with pytest.raises(JobNotFound):
        await jobs.update_job_status("nobody", "running")
    with pytest.raises(JobNotFound):
        await jobs.cancel_job("nobody")
    with pytest.raises(JobNotFound):
        await jobs.delete_job("nobody")

    assert await key_names(redis) == set()


async def test_a_repeated_change_id_changes_nothing(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    first = await jobs.update_job_status("j", "running", progress=Progress(1), change_id="k")
    events = await redis.xlen(PARTITION.events)

    again = await jobs.update_job_status("j", "running", progress=Progress(1), change_id="k")

    assert again.revision == first.revision
    assert await redis.xlen(PARTITION.events) == events


async def test_a_reused_change_id_with_other_content_is_rejected(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running", change_id="k")

    with pytest.raises(IdempotencyKeyReused):
        await jobs.update_job_status("j", "running", progress=Progress(1), change_id="k")


async def test_the_key_of_a_creation_can_be_used_for_an_update(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)

    assert (await jobs.update_job_status("j", "running", change_id="k")).revision == 2


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_repeating_a_final_status_with_equal_content_changes_nothing(
    jobs: JobStateManager, redis: Redis, status: str
) -> None:
    content: dict[str, Any] = {"result": {"a": 1}} if status == "completed" else {"error": "why"}
    await bring_to(jobs, Status.RUNNING)
    await jobs.update_job_status("j", status, **content)
    fields, events = await redis.hgetall(job_key("j")), await redis.xlen(PARTITION.events)

    await jobs.update_job_status("j", status, **content)

    assert await redis.hgetall(job_key("j")) == fields
    assert await redis.xlen(PARTITION.events) == events
    with pytest.raises(IllegalTransition):
        await jobs.update_job_status("j", status, **{name: "other" for name in content})
    with pytest.raises(IllegalTransition):
        await jobs.update_job_status("j", status)


async def test_an_update_of_another_version_is_rejected(jobs: JobStateManager, redis: Redis) -> None:
    created = (await jobs.create_job("j", 1)).job
    running = await jobs.update_job_status("j", "running", if_match=["0-1", created.version])
    fields = await redis.hgetall(job_key("j"))

    with pytest.raises(PreconditionFailed) as rejection:
        await jobs.update_job_status("j", "completed", if_match=[created.version])

    assert (rejection.value.current_status, rejection.value.revision) == (Status.RUNNING, 2)
    assert await redis.hgetall(job_key("j")) == fields
    with pytest.raises(PreconditionFailed):
        await jobs.update_job_status("j", "completed", if_match=[""])
    with pytest.raises(PreconditionFailed):
        await jobs.cancel_job("j", if_match=[created.version])
    assert (await jobs.update_job_status("j", "completed", if_match=[running.version])).revision == 3


async def test_checks_run_in_the_order_of_the_contract(jobs: JobStateManager) -> None:
    with pytest.raises(JobNotFound):  # before the condition
        await jobs.update_job_status("j", "running", if_match=["0-1"])
    await bring_to(jobs, Status.RUNNING)
    await jobs.update_job_status("j", "completed", 1, change_id="k")

    with pytest.raises(IdempotencyKeyReused):  # before the condition and the transition
        await jobs.update_job_status("j", "failed", change_id="k", if_match=["0-1"])
    same = await jobs.update_job_status(
        "j", "completed", 1, if_match=["0-1"]
    )  # a repeated final status before the condition
    assert same.revision == 3
    with pytest.raises(PreconditionFailed):  # the condition before the transition
        await jobs.update_job_status("j", "running", if_match=["0-1"])


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
async def test_an_unfinished_job_is_cancelled(jobs: JobStateManager, status: Status) -> None:
    before = await bring_to(jobs, status)

    cancelled = await jobs.cancel_job("j")

    assert (cancelled.status, cancelled.revision) == (Status.CANCELLED, before.revision + 1)


async def test_cancelling_a_cancelled_job_changes_nothing(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    first = await jobs.update_job_status("j", "cancelled", error="too late")

    again = await jobs.cancel_job("j")

    assert again.revision == first.revision


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
async def test_a_finished_job_is_not_cancelled(jobs: JobStateManager, status: Status) -> None:
    await bring_to(jobs, status)

    with pytest.raises(IllegalTransition):
        await jobs.cancel_job("j")


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
async def test_a_finished_job_is_deleted_with_its_index_entries(
    jobs: JobStateManager, redis: Redis, status: Status
) -> None:
    job = await bring_to(jobs, status)

    await jobs.delete_job("j")

    assert await jobs.get_job("j") is None
    assert await key_names(redis) <= {
        PARTITION.meta,
        PARTITION.events,
        PARTITION.deletions,
    }
    [(_, event)] = await redis.xrevrange(PARTITION.events, count=1)
    assert (event[b"event"], event[b"status"]) == (b"deleted", status.encode())
    assert event[b"revision"] == str(job.revision + 1).encode()
    with pytest.raises(JobNotFound):
        await jobs.delete_job("j")


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
async def test_an_unfinished_job_is_not_deleted(jobs: JobStateManager, redis: Redis, status: Status) -> None:
    await bring_to(jobs, status)
    fields = await redis.hgetall(job_key("j"))

    with pytest.raises(JobNotFinal):
        await jobs.delete_job("j")

    assert await redis.hgetall(job_key("j")) == fields


async def test_a_deletion_of_another_version_is_rejected(jobs: JobStateManager) -> None:
    job = await bring_to(jobs, Status.FAILED)

    with pytest.raises(PreconditionFailed):
        await jobs.delete_job("j", if_match=["0-1"])

    await jobs.delete_job("j", if_match=[job.version])


async def test_a_retried_deletion_does_not_touch_a_new_job_with_the_same_id(jobs: JobStateManager) -> None:
    await bring_to(jobs, Status.FAILED)
    await jobs.delete_job("j", change_id="k")
    another = await bring_to(jobs, Status.COMPLETED)

    await jobs.delete_job("j", change_id="k")

    found = await jobs.get_job("j")
    assert found
    assert found.created_at == another.created_at


@pytest.mark.parametrize("end", ["change", "cancel", "release"])
async def test_a_retried_update_does_not_touch_a_new_job_with_the_same_id(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, end: str
) -> None:
    async def end_it(token: str | None = None) -> None:
        match end:
            case "change":
                await jobs.update_job_status("j", "failed", change_id="k", lease_token=token)
            case "cancel":
                await jobs.cancel_job("j", change_id="k", lease_token=token)
            case "release":
                await leases.release_job("j", token, error=1, change_id="k")

    await jobs.create_job("j", 1)
    claim = await leases.claim_job(["default"], "w")
    assert claim
    await end_it(claim.lease.token)
    await jobs.delete_job("j")
    await jobs.create_job("j", 2)
    claim = await leases.claim_job(["default"], "w")
    assert claim

    with pytest.raises(JobNotFound):
        await end_it(claim.lease.token)

    job = await jobs.get_job("j")
    assert job
    assert (job.status, job.revision) == (Status.RUNNING, 2)
    await redis.set(PARTITION.deletions, "foreign")
    await end_it(claim.lease.token)
    await redis.delete(PARTITION.deletions)


async def test_a_retried_deletion_succeeds(jobs: JobStateManager) -> None:
    await bring_to(jobs, Status.FAILED)
    await jobs.delete_job("j", change_id="k")

    await jobs.delete_job("j", change_id="k")

    with pytest.raises(JobNotFound):
        await jobs.delete_job("j", change_id="other")


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("name", [PARTITION.by_created("default", "unleased"), PARTITION.by_expiry, PARTITION.events])
async def test_an_index_of_unexpected_type_is_named_and_the_update_writes_nothing(
    jobs: JobStateManager, redis: Redis, name: str
) -> None:
    await jobs.create_job("j", 1)
    await redis.delete(name)
    await redis.set(name, "foreign")
    before = {key: await redis.dump(key) for key in await redis.keys()}

    with pytest.raises(StoreCorrupt, match=name):
        await jobs.update_job_status("j", "running")

    assert {key: await redis.dump(key) for key in await redis.keys()} == before


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("delay", [0, 60])
async def test_an_update_that_cannot_leave_an_index_names_it_and_stands(
    jobs: JobStateManager, redis: Redis, delay: int
) -> None:
    await jobs.create_job("j", 1, delay_seconds=delay)
    for name in [PARTITION.delays] if delay else [PARTITION.by_created("default", "pending")]:
        await redis.delete(name)
        await redis.set(name, "foreign")

        with pytest.raises(StoreCorrupt, match=name):
            await jobs.update_job_status("j", "running", change_id="k")

        changed = await jobs.get_job("j")
        assert changed
        assert (changed.status, changed.revision) == (Status.RUNNING, 2)
        assert await jobs.update_job_status("j", "running", change_id="k") == changed
        assert await redis.get(name) == b"foreign"
        assert await redis.zscore(PARTITION.by_created("default", "delayed"), "j") is None


async def test_a_delayed_job_leaves_the_delay_index_when_it_starts(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, delay_seconds=60)

    await jobs.update_job_status("j", "running")

    assert await redis.zcard(PARTITION.delays) == 0
    stats = await jobs.get_stats()
    assert (stats.delayed, stats.statuses[Status.PENDING], stats.statuses[Status.RUNNING]) == (0, 0, 1)


async def test_every_update_restarts_the_retention(jobs: JobStateManager, redis: Redis) -> None:
    first = (await jobs.create_job("j", 1)).job
    assert await redis.pexpire(job_key("j"), 1000)

    changed = await jobs.update_job_status("j", "running")

    assert changed.expires_at >= first.expires_at
    assert await redis.pexpiretime(job_key("j")) == parse_timestamp(changed.expires_at) // 1000


async def test_time_never_goes_back_within_a_record(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    ahead = "2100-01-01T00:00:00.000000Z"
    await redis.hset(job_key("j"), "updated_at", ahead)

    changed = await jobs.update_job_status("j", "running")

    assert changed.updated_at >= ahead
    assert changed.started_at == changed.updated_at


async def test_200_concurrent_writers_leave_one_legal_history(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    await asyncio.gather(
        *(jobs.ping() for _ in range(64))
    )  # open the connections first: otherwise the writers run one by one
    wishes = ["running", "completed", "failed", "cancelled"] * 50

    async def write(number: int, status: str) -> tuple[str, Job] | None:
        try:
            progress = Progress(number) if status == "running" else None
            return status, await jobs.update_job_status("j", status, progress=progress)
        except IllegalTransition:
            return None

    accepted = [one for one in await asyncio.gather(*map(write, range(200), wishes)) if one]

    events = [event for _, event in await redis.xrange(PARTITION.events)]
    history = [(event[b"status"].decode(), int(event[b"revision"])) for event in events]
    revisions = sorted({job.revision for _, job in accepted})
    last = await jobs.get_job("j")
    assert last
    assert revisions == list(range(2, last.revision + 1))
    assert [revision for _, revision in history] == sorted({revision for _, revision in history})
    for (before, _), (after, _) in itertools.pairwise(history):
        assert Status(after) in TRANSITIONS[Status(before)]
    assert history[-1] == (last.status, last.revision)
    assert last.is_final
    assert len({status for status, _ in accepted if Status(status) in FINAL_STATUSES}) == 1


async def test_a_flushed_script_is_loaded_again(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("a", 1)
    await redis.script_flush()

    await jobs.create_job("b", 1)

    assert await jobs.get_job("b") is not None


async def test_each_change_is_one_evalsha(jobs: JobStateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    warm = neighbour_of("j")
    await jobs.create_job(warm, 1)
    await jobs.update_job_status(warm, "failed")
    await jobs.delete_job(warm)
    sent: list[Any] = []
    ask = AutoPipeline.ask

    async def record(pipeline: AutoPipeline, *commands: tuple[Any, ...], until: float) -> list[Any]:
        sent.extend(name for name, *_ in commands)
        return await ask(pipeline, *commands, until=until)

    monkeypatch.setattr(AutoPipeline, "ask", record)
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    await jobs.update_job_status("j", "completed", 1)
    await jobs.delete_job("j")

    assert sent == ["EVALSHA"] * 4


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("field", ["queue", "created_at", "updated_at", "expires_at", "revision", "attempt"])
async def test_an_unreadable_hash_is_not_changed(jobs: JobStateManager, redis: Redis, field: str) -> None:
    await jobs.create_job("j", 1)
    await redis.hset(job_key("j"), field, "odd") if field != "queue" else await redis.hdel(job_key("j"), field)
    fields = await redis.hgetall(job_key("j"))

    with pytest.raises(StoreCorrupt, match="job:j"):
        await jobs.update_job_status("j", "running")
    assert await redis.hgetall(job_key("j")) == fields
    assert await redis.zscore(PARTITION.by_created("default", "pending"), "j") is not None


@pytest.mark.parametrize("end", ["completed", "failed", "released", "broken off", "cancelled by its holder"])
async def test_an_update_returns_the_record_that_it_stores(
    jobs: JobStateManager, leases: LeaseManager, end: str
) -> None:
    """The scripts update the record that they have read, and do not read it again."""

    async def assert_stored(job: Job) -> None:
        assert job == await jobs.get_job("j")

    await assert_stored(
        (await jobs.create_job("j", {"a": None}, "c", slate_id="s", max_attempts=3, retry_delay_seconds=9)).job
    )
    claim = await leases.claim_job(["default"], "w", claim_key="once")
    assert claim is not None
    token = claim.lease.token
    await assert_stored(claim.job)
    again = await leases.claim_job(["default"], "w", claim_key="once")
    assert again is not None
    await assert_stored(again.job)
    for current in (1, 2):
        progress = Progress(current, 7, "é")
        await assert_stored(await jobs.update_job_status("j", Status.RUNNING, progress=progress, lease_token=token))
    await assert_stored(await jobs.cancel_job("j"))
    match end:
        case "completed":
            await assert_stored(await jobs.update_job_status("j", end, result={}, scenario_count=5, lease_token=token))
            await assert_stored(await jobs.update_job_status("j", end, result={}, scenario_count=5, lease_token=token))
        case "failed":
            await assert_stored(await jobs.update_job_status("j", end, error=[1], lease_token=token))
        case "released":
            await assert_stored(await leases.release_job("j", token, delay_seconds=5, change_id="once"))
            await assert_stored(await leases.release_job("j", token, delay_seconds=5, change_id="once"))
        case "broken off":
            await assert_stored(await leases.release_job("j", token, error="why"))
        case _:
            await assert_stored(await jobs.cancel_job("j", lease_token=token))
            await assert_stored(await jobs.cancel_job("j"))


async def test_the_observer_receives_the_kind_of_each_change(pool: BlockingConnectionPool, redis: Redis) -> None:
    changes: list[str] = []

    class Recording(NullObserver):
        def on_job_change(self, change: str, jobs: int = 1) -> None:
            changes.append(change)

    client = connect(pool, Recording())
    jobs, leases = JobStateManager(client, ttl=timedelta(days=1)), LeaseManager(client, ttl=timedelta(days=1))
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    for current in (1, 2):
        await jobs.update_job_status("j", "running", progress=Progress(current))
    for _ in range(2):  # the second time it is unchanged
        await jobs.update_job_status("j", "failed", error="why")
    await jobs.create_job("leased", 1)
    claim = await leases.claim_job(["default"], "w")
    assert claim is not None
    for _ in range(2):
        await jobs.cancel_job("leased")
    await jobs.cancel_job("leased", lease_token=claim.lease.token)

    assert changes[:5] == ["created", "running", "progress", "progress", "failed"]
    assert changes[5:] == ["created", "running", "cancel-requested", "cancelled"]


async def test_fields_of_other_programs_may_hold_any_bytes(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    """A script sends the whole record back, also the fields that are not shown."""
    name, foreign = b"\xff name", b"\xfe value"
    await jobs.create_job("j", 1)
    await redis.hset(job_key("j"), name, foreign)

    assert (await jobs.create_job("j", 1)).replayed
    claim = await leases.claim_job(["default"], "w")
    assert claim is not None
    token = claim.lease.token
    released = await leases.release_job("j", token, change_id="release")
    assert await leases.release_job("j", token, change_id="release") == released
    assert (await jobs.update_job_status("j", Status.RUNNING)).status is Status.RUNNING
    assert (await jobs.update_job_status("j", Status.COMPLETED, 2)).status is Status.COMPLETED

    assert await redis.hget(job_key("j"), name) == foreign
