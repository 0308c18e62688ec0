"""Scripts over many jobs: one job that cannot be moved stops no other one, and is tried again after a minute."""

from typing import Any, Final

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.domain.errors import StoreCorrupt
from service.domain.states import Status
from service.domain.timestamps import format_timestamp
from service.store import scripts
from tests.helpers.consistency import inconsistencies
from tests.helpers.partitions import PARTITIONS, job_key, neighbour_of
from tests.helpers.store_operations import OPERATIONS, Store, dump, make_foreign

#: Each script over many jobs: the kind of index that holds the moments, its units per ms, and how a member begins.
SCRIPTS: Final = {
    "reap": ("leases", 1, "{}"),
    "end delays": ("delays", 1000, "{0}:{0}"),
    "sweep of delayed": ("by_expiry", 1, "{}|"),
}


async def find_entry(redis: Redis, index: str, start: str) -> tuple[bytes, float]:
    """Return the only entry that begins so."""
    entries = await redis.zrange(index, 0, -1, withscores=True)
    [(member, score)] = [
        (bytes(member), float(score)) for member, score in entries if member.startswith(start.encode())
    ]
    return member, score


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_job_with_a_foreign_record_is_skipped_logged_and_put_off_by_a_minute(name: str, store: Store) -> None:
    operation, (kind, unit, start) = OPERATIONS[name], SCRIPTS[name]
    index = PARTITIONS.of("foreign").key(kind)
    assert operation.prepare
    assert operation.is_moved
    for job_id in ("first", "foreign", "last"):
        await operation.prepare(store, job_id)
    kept = await store.redis.dump(job_key("foreign"))
    await make_foreign(store.redis, job_key("foreign"), "hash")

    with capture_logs() as logs:
        await operation.run(store, "")

    assert [await operation.is_moved(store, job_id) for job_id in ("first", "foreign", "last")] == [True, False, True]
    [line] = logs
    assert "foreign" in str(line.get("job_ids") or line["entries"])
    assert [error[:9] for error in line["errors"]] == ["WRONGTYPE"]
    member, put_off = await find_entry(store.redis, index, start.format("foreign"))
    assert put_off / unit == pytest.approx(await store.now() + 60_000, abs=20_000)

    with capture_logs() as logs:
        await operation.run(store, "")
    assert logs == []

    await store.redis.delete(job_key("foreign"))
    if kept:
        await store.redis.restore(job_key("foreign"), 0, kept)
        await store.redis.pexpire(job_key("foreign"), 60_000)
    await store.redis.zadd(index, {member: 1})
    await operation.run(store, "")
    assert await operation.is_moved(store, "foreign")


@pytest.mark.corrupts_keys
async def test_an_error_of_lua_is_logged_as_the_reason(store: Store) -> None:
    """It is a fault of a script: to catch it must not hide it."""
    for job_id in ("broken", "sound"):
        await store.lease(job_id)
        await store.end_lease(job_id)
    await store.redis.hset(job_key("broken"), "lease_expires_at", "x" * 26 + "Z")

    with capture_logs() as logs:
        reaped, _ = await store.leases.reap()

    assert [job.job_id for job in reaped] == ["sound"]
    [line] = [one for one in logs if one["log_level"] == "error"]
    assert line["job_ids"] == ["broken"]
    assert "arithmetic on a nil value" in line["errors"][0]


@pytest.mark.corrupts_keys
async def test_a_failed_move_takes_back_its_additions_alone(store: Store) -> None:
    """The job before it in the same script has committed its own."""
    for job_id in ("first", "foreign", "last"):
        await store.lease(job_id)
        await store.end_lease(job_id)
    await make_foreign(store.redis, PARTITIONS.of("foreign").by_created("foreign", "failed"), "zset")
    before = await dump(store.redis)

    with capture_logs():
        reaped, _ = await store.leases.reap()

    after = await dump(store.redis)
    assert [job.job_id for job in reaped] == sorted(["first", "last"], key=lambda one: PARTITIONS.of(one).number)
    assert after[job_key("foreign")] == before[job_key("foreign")]
    indexes = {PARTITIONS.of(job_id).by_expiry for job_id in ("first", "foreign", "last")}
    kept = {member: score for index in indexes for member, score in before[index][0]}
    now = {member: score for index in indexes for member, score in after[index][0]}
    assert {member.split(b"|")[0] for member, score in now.items() if kept[member] != score} == {b"first", b"last"}
    await store.redis.delete(PARTITIONS.of("foreign").by_created("foreign", "failed"))
    await store.end_lease("foreign")
    assert await inconsistencies(store.redis) == []


@pytest.mark.corrupts_keys
@pytest.mark.parametrize(
    ("kind", "max_running"), [("record", None), ("pending", None), ("running", None), ("running", 5)]
)
async def test_a_claim_of_several_queues_passes_a_job_that_cannot_be_moved(
    store: Store, kind: str, max_running: int | None
) -> None:
    other = neighbour_of("subject")
    for job_id in ("subject", other):
        await store.create(job_id)
    await store.queues.configure_queue("subject", max_running=max_running)
    name = job_key("subject") if kind == "record" else PARTITIONS.of("subject").by_created("subject", kind)
    await make_foreign(store.redis, name, "zset")

    with capture_logs() as logs:
        claim = await store.leases.claim_job(["subject", other], "w")

    assert claim is not None
    assert claim.job.job_id == other
    assert [line["job_ids"] for line in logs] == [["subject"]]
    if kind == "record":
        assert await store.leases.claim_job(["subject", other], "w") is None
    else:
        with pytest.raises(StoreCorrupt, match=name):
            await store.leases.claim_job(["subject", other], "w")


@pytest.mark.corrupts_keys
async def test_foreign_records_at_the_head_of_a_queue_leave_the_next_job_to_the_claim(store: Store) -> None:
    for job_id in ("a", "b", "c", "d"):
        await store.create(job_id, queue="q")
    for job_id in ("a", "c"):
        await make_foreign(store.redis, job_key(job_id), "hash")

    claims: list[Any] = [await store.leases.claim_job(["q"], "w") for _ in range(3)]

    assert [claim and claim.job.job_id for claim in claims] == ["b", "d", None]


async def test_a_delay_that_is_over_with_no_worker_asking_becomes_pending(store: Store) -> None:
    await store.bring_to("delayed", "a")
    assert (await store.leases.end_delays())[1] == pytest.approx(60, abs=20)
    await store.end_delay("a")
    partition = PARTITIONS.of("a")
    events = await store.redis.xlen(partition.events)

    assert (await store.leases.end_delays())[1] is None

    assert await store.redis.zrange(partition.by_created("a", "pending"), 0, -1) == [b"a"]
    assert (await store.jobs.get_stats()).statuses[Status.PENDING] == 1
    [(_, event)] = await store.redis.xrevrange(partition.events, count=1)
    assert (event[b"event"], event[b"queue"]) == (b"queue", b"a"), "it wakes the claims that wait"
    assert await store.redis.xlen(partition.events) == events + 1


@pytest.mark.corrupts_keys
async def test_a_heartbeat_for_a_record_that_is_not_ours_changes_nothing(store: Store) -> None:
    await store.lease("a")
    await store.redis.hdel(job_key("a"), "queue")
    before = await dump(store.redis)

    with pytest.raises(StoreCorrupt):
        await store.longer_leases.heartbeat("a", store.tokens["a"])

    assert await dump(store.redis) == before


@pytest.mark.corrupts_keys
@pytest.mark.parametrize(("ended_ago", "put_off"), [(100, False), (5000, True)])
async def test_the_sweep_leaves_a_record_to_redis_that_expires_just_now(
    store: Store, ended_ago: int, put_off: bool
) -> None:
    """Redis decides by the time at which a script started; a record that is there much longer was changed by hand."""
    await store.create("a")
    ended = await store.now() - ended_ago
    await store.redis.hset(job_key("a"), "expires_at", format_timestamp(ended * 1000))
    await store.redis.persist(job_key("a"))
    member, _ = await find_entry(store.redis, PARTITIONS.of("a").by_expiry, "a|")
    await store.redis.zadd(PARTITIONS.of("a").by_expiry, {member: ended})

    await store.jobs.sweep()

    _, score = await find_entry(store.redis, PARTITIONS.of("a").by_expiry, "a|")
    assert (score > ended + 30_000) == put_off


async def test_an_error_of_lua_in_a_move_takes_back_its_additions(redis: Redis) -> None:
    definitions, _, _ = scripts.REAP.text.partition("for _, id in ipairs(")
    body = """
      local function move()
        add_score(key('leases'), 1, 'a')
        add_score(key('leases'), 2, 'b', '1970-01-01T00:00:01.000000Z')
        local nothing = nil
        return nothing.field
      end
      local stands, failure = attempt(move)
      return { stands and 1 or 0, failure, redis.call('ZRANGE', key('leases'), 0, -1, 'WITHSCORES') }
    """
    stands, failure, entries = await redis.eval(f"{definitions}\n{body}", 1, PARTITIONS.first.root, 2**53)

    assert (stands, entries) == (0, [b"b", b"1000"])
    assert b"index local 'nothing'" in failure
    await redis.delete(PARTITIONS.first.leases)
