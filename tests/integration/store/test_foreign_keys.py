"""A key of another type at each of our keys, under each operation.

An operation that needs the key is refused and has changed nothing. Where only a removal from an index fails, the change
stands, and its repetition finds it made. A script over many jobs skips the job that needs the key, and no other one.
"""

from typing import Final

import pytest
from redis.asyncio import ConnectionPool, Redis
from structlog.testing import capture_logs

from service.store.fingerprints import change_id_for, digest
from service.store.partition import STATUS_OF_STATE, TYPES
from tests.helpers.consistency import doctor_issues, inconsistencies
from tests.helpers.partitions import PARTITIONS, job_key, neighbour_of
from tests.helpers.store_operations import LIMIT, OPERATIONS, Store, dump, is_refused, make_foreign

pytestmark = pytest.mark.corrupts_keys

#: A job in the same partition.
OTHER: Final = neighbour_of("subject")
#: It is refused, and no key has changed.
REFUSED: Final = "refused"
#: It is refused, but its change stands: its repetition with the same change id is not refused.
STANDS: Final = "stands"
#: A script over many jobs leaves this one for later, and logs that.
SKIPPED: Final = "skipped"
#: It is refused, but its first part stands, and no other key has changed: a claim has chosen partitions, or ended the
#: delays that are over; a setting was made whose reply counts jobs, or that another partition refuses.
PARTLY: Final = "stands in part"
WORKS: Final = "works"
#: The keys of the first part.
FIRST_PARTS: Final = {
    "claim": {"aim", "claim"},
    "claim with time-outs": {"aim", "claim"},
    "claim of a prioritized job": {"aim", "claim"},
    "claim after a delay": {"by_created:pending", "by_created:delayed", "delays", "events", "aim", "claim"},
    "claim from a limited queue": {"aim", "claim", "gate"},
    "configure queue": {"queues", "events"},
    "drain": {"meta", "events"},
}

#: Keys that belong to one job or queue; the others are shared by all.
OF_ONE: Final = {
    *("record", "claim", "aim", "gate", "rate_limit", "by_priority"),
    *(f"by_created:{state}" for state in STATUS_OF_STATE),
}
#: Operations that look at the lists of all queues.
OF_ALL_QUEUES: Final = {"count of running", "stats", "list", "list of queues", "drain"}
#: Operations that write to all partitions.
OF_ALL_PARTITIONS: Final = {"configure queue", "drain"}
LISTS: Final = " ".join(f"by_created:{state}" for state in STATUS_OF_STATE)
#: The lists that every claim reads or adds to.
CLAIMED: Final = "by_created:pending by_created:running by_priority"
#: No operation on a job uses them; `test_bulk_actions.py` has them.
OF_BULK_ACTIONS: Final = {"bulk", "bulk_actions", "bulk_active"}
KEYS: Final = (
    *("record", *LISTS.split(), *(kind for kind in TYPES if kind not in {"by_created", *OF_BULK_ACTIONS})),
    *(("first-meta", "first-queues", "first-events") if len(PARTITIONS) > 1 else ()),
)
#: Under each operation the keys that it does not do without; it works with a foreign type at any other.
EXPECTED: Final = {
    "create": {REFUSED: "record by_created:pending by_expiry meta queue_names events"},
    "create by a batch": {REFUSED: "record by_created:pending by_expiry meta queue_names events"},
    "create delayed": {REFUSED: "record by_created:delayed by_expiry delays meta queue_names events"},
    "create with a priority": {REFUSED: "record by_created:prioritized by_priority by_expiry meta queue_names events"},
    "create tagged": {REFUSED: "record by_created:pending by_expiry tags meta queue_names events"},
    "create with time-outs": {REFUSED: "record by_created:pending by_expiry timers meta queue_names events"},
    "claim": {
        SKIPPED: "record",
        REFUSED: f"{CLAIMED} by_expiry delays leases claim meta queues events",
    },
    "claim with time-outs": {
        SKIPPED: "record",
        REFUSED: f"{CLAIMED} by_expiry delays timers leases claim meta queues events",
    },
    "claim of a prioritized job": {
        SKIPPED: "record",
        STANDS: "by_created:prioritized",
        REFUSED: f"{CLAIMED} by_expiry delays leases claim meta queues events",
    },
    "claim after a delay": {
        SKIPPED: "record events",
        PARTLY: f"{CLAIMED} by_expiry leases queues",
        STANDS: "by_created:delayed",
        REFUSED: "delays claim meta",
    },
    "claim from a limited queue": {
        SKIPPED: "record",
        REFUSED: f"{CLAIMED} by_created:unleased by_expiry delays leases claim meta queues events",
    },
    "heartbeat": {REFUSED: "record leases"},
    "heartbeat with progress": {REFUSED: "record by_expiry leases events"},
    "heartbeat that extends the retention": {REFUSED: "record by_expiry leases"},
    "complete with a run time-out": {
        REFUSED: "record by_created:completed by_expiry events",
        STANDS: "by_created:running timers leases",
    },
    "cancel with a start time-out": {
        REFUSED: "record by_created:cancelled by_expiry events",
        STANDS: "by_created:pending timers",
    },
    "release with a run time-out": {
        REFUSED: "record by_created:pending by_expiry events",
        STANDS: "by_created:running timers leases",
    },
    "retry with time-outs": {
        REFUSED: "record by_created:pending by_expiry timers events",
        STANDS: "by_created:failed",
    },
    "progress": {REFUSED: "record by_expiry leases events"},
    "complete": {
        REFUSED: "record by_created:completed by_expiry events",
        STANDS: "by_created:running leases",
    },
    "fail": {
        REFUSED: "record by_created:failed by_expiry events",
        STANDS: "by_created:running leases",
    },
    "start without a lease": {
        REFUSED: "record by_created:unleased by_expiry events",
        STANDS: "by_created:pending",
    },
    "complete without a lease": {
        REFUSED: "record by_created:completed by_expiry events",
        STANDS: "by_created:unleased",
    },
    "retry": {
        REFUSED: "record by_created:pending by_expiry events",
        STANDS: "by_created:failed",
    },
    "retry with a priority": {
        REFUSED: "record by_created:prioritized by_priority by_expiry events",
        STANDS: "by_created:failed",
    },
    "retry later": {
        REFUSED: "record by_created:delayed by_expiry delays events",
        STANDS: "by_created:cancelled",
    },
    "cancel": {
        REFUSED: "record by_created:cancelled by_expiry events",
        STANDS: "by_created:pending",
    },
    "cancel prioritized": {
        REFUSED: "record by_created:cancelled by_expiry events",
        STANDS: "by_created:prioritized by_priority",
    },
    "cancel delayed": {
        REFUSED: "record by_created:cancelled by_expiry events",
        STANDS: "by_created:delayed delays",
    },
    "cancel requested": {REFUSED: "record by_expiry leases events"},
    "release": {
        REFUSED: "record by_created:pending by_expiry events",
        STANDS: "by_created:running leases",
    },
    "release after a failure": {
        REFUSED: "record by_created:delayed by_expiry delays events",
        STANDS: "by_created:running leases",
    },
    "delete": {
        REFUSED: "record deletions events",
        STANDS: "by_created:completed by_expiry tags queue_names",
    },
    "reap": {
        SKIPPED: "record by_created:failed by_expiry events",
        STANDS: "by_created:running",
        REFUSED: "leases",
    },
    "run time-out": {
        SKIPPED: "record by_created:failed by_expiry events",
        STANDS: "by_created:running leases",
        REFUSED: "timers",
    },
    "run time-out without a lease": {
        SKIPPED: "record by_created:failed by_expiry events",
        STANDS: "by_created:unleased",
        REFUSED: "timers",
    },
    "start time-out": {
        SKIPPED: "record by_created:failed by_expiry events",
        STANDS: "by_created:pending",
        REFUSED: "timers",
    },
    "end delays": {
        SKIPPED: "record by_created:pending events",
        STANDS: "by_created:delayed",
        REFUSED: "delays",
    },
    "end delays of prioritized jobs": {
        SKIPPED: "record by_created:prioritized by_priority events",
        STANDS: "by_created:delayed",
        REFUSED: "delays",
    },
    "sweep of pending": {
        SKIPPED: "record by_created:pending by_created:completed by_created:failed by_created:cancelled events",
        REFUSED: "by_expiry",
        STANDS: "tags timers queue_names",
    },
    "sweep of delayed": {
        SKIPPED: "record by_created:pending by_created:running by_created:delayed "
        "by_created:completed by_created:failed by_created:cancelled events",
        REFUSED: "by_expiry",
        STANDS: "tags delays timers queue_names",
    },
    "sweep of prioritized": {
        SKIPPED: "record by_created:pending by_created:running by_created:delayed by_created:prioritized "
        "by_created:completed by_created:failed by_created:cancelled events",
        REFUSED: "by_expiry",
        STANDS: "tags by_priority timers queue_names",
    },
    "sweep of running": {
        SKIPPED: "record by_created:pending by_created:running "
        "by_created:completed by_created:failed by_created:cancelled events",
        REFUSED: "by_expiry",
        STANDS: "tags timers leases queue_names",
    },
    "sweep of pending with time-outs": {
        SKIPPED: "record by_created:pending by_created:completed by_created:failed by_created:cancelled events",
        REFUSED: "by_expiry",
        STANDS: "tags timers queue_names",
    },
    "sweep of running with time-outs": {
        SKIPPED: "record by_created:pending by_created:running "
        "by_created:completed by_created:failed by_created:cancelled events",
        REFUSED: "by_expiry",
        STANDS: "tags timers leases queue_names",
    },
    "sweep of completed": {
        SKIPPED: "record by_created:completed events",
        REFUSED: "by_expiry",
        STANDS: "tags queue_names",
    },
    "count of running": {REFUSED: "by_created:running by_created:unleased by_expiry delays leases queue_names"},
    "read of a queue": {REFUSED: f"{LISTS} by_priority by_expiry delays leases queues"},
    "stats": {REFUSED: f"{LISTS} by_expiry delays leases queue_names"},
    "list": {REFUSED: f"{LISTS} queue_names"},
    "list of a slate": {REFUSED: "tags"},
    "list of a queue": {REFUSED: LISTS},
    "read": {REFUSED: "record"},
    "read of a history": {REFUSED: "record"},
    "batch read": {REFUSED: "record"},
    "configure queue": {
        PARTLY: f"{LISTS} by_priority by_expiry delays leases",
        REFUSED: "queues events",
    },
    "list of queues": {REFUSED: f"{LISTS} by_priority by_expiry delays leases queues queue_names"},
    "drain": {
        PARTLY: "by_created:running by_created:unleased by_expiry delays leases queue_names",
        REFUSED: "meta events",
    },
    "rate limit": {REFUSED: "rate_limit"},
}
#: The rows of several partitions that differ. Each partition has a copy of the settings and the drain of the first one.
EXPECTED_OF_SEVERAL: Final = {
    "claim": {
        SKIPPED: "record",
        PARTLY: f"{CLAIMED} by_expiry delays leases claim meta queues events",
        REFUSED: "aim first-meta first-queues",
    },
    "claim with time-outs": {
        SKIPPED: "record",
        PARTLY: f"{CLAIMED} by_expiry delays timers leases claim meta queues events",
        REFUSED: "aim first-meta first-queues",
    },
    "claim of a prioritized job": {
        SKIPPED: "record",
        STANDS: "by_created:prioritized",
        PARTLY: f"{CLAIMED} by_expiry delays leases claim meta queues events",
        REFUSED: "aim first-meta first-queues",
    },
    "claim after a delay": {
        SKIPPED: "record events",
        PARTLY: f"{CLAIMED} by_expiry delays leases claim aim meta queues",
        STANDS: "by_created:delayed",
        REFUSED: "first-meta first-queues",
    },
    "claim from a limited queue": {
        SKIPPED: "record",
        PARTLY: f"{CLAIMED} by_created:unleased by_expiry delays leases claim gate meta queues events",
        REFUSED: "aim first-meta first-queues",
    },
    "configure queue": {
        PARTLY: f"{LISTS} by_priority by_expiry delays leases queues events",
        REFUSED: "first-queues first-events",
    },
    "read of a queue": {REFUSED: f"{LISTS} by_priority by_expiry delays leases first-queues"},
    "list of queues": {REFUSED: f"{LISTS} by_priority by_expiry delays leases queue_names first-queues"},
    "drain": {
        PARTLY: "by_created:running by_created:unleased by_expiry delays leases meta queue_names events",
        REFUSED: "first-meta first-events",
    },
}
ROWS: Final = EXPECTED if len(PARTITIONS) == 1 else EXPECTED | EXPECTED_OF_SEVERAL


def key_name(key: str, job_id: str) -> str:
    """Return the name of a key in `KEYS` for a job."""
    kind, _, state = key.removeprefix("first-").partition(":")
    partition = PARTITIONS.first if key.startswith("first-") else PARTITIONS.of(job_id)
    match kind:
        case "record":
            return job_key(job_id)
        case "by_created":
            return partition.by_created(job_id, state)
        case "by_priority":
            return partition.by_priority(job_id)
        case "claim":
            return partition.claim(change_id_for(f"claim-{job_id}"))
        case "aim":
            claim_id = change_id_for(f"claim-{job_id}")
            return PARTITIONS.home_of(claim_id).aim(claim_id)
        case "gate":
            return PARTITIONS.home_of(job_id).gate(job_id)
        case "rate_limit":
            counter = digest("rate-limit", {"client": job_id, "limit": LIMIT})
            return PARTITIONS.home_of(counter).rate_limit(counter)
    return partition.key(kind)


def first_part(name: str) -> set[str]:
    """Return the names of the keys of the first part of an operation."""
    kinds = FIRST_PARTS.get(name, set())
    if name in OF_ALL_PARTITIONS:
        return {partition.key(kind) for kind in kinds for partition in PARTITIONS}
    return {key_name(kind, job_id) for kind in kinds for job_id in ("subject", OTHER)}


async def outcome_of(store: Store, name: str, job_id: str) -> str:
    """Run an operation and return what came of it."""
    operation, before = OPERATIONS[name], await dump(store.redis)
    with capture_logs() as logs:
        refused = await is_refused(operation.run(store, job_id))
    if refused:
        after = await dump(store.redis)
        changed = {key for key in before | after if before.get(key) != after.get(key)}
        if not changed:
            return REFUSED
        if changed <= first_part(name):
            return PARTLY
        return f"{changed} changed, repetition refused" if await is_refused(operation.run(store, job_id)) else STANDS
    if operation.is_moved is None:
        return WORKS
    is_logged = any(job_id in str(event) for event in logs)
    if await operation.is_moved(store, job_id):
        return STANDS if is_logged else WORKS
    return SKIPPED if is_logged else "not moved, and not logged"


async def outcome_for_another_job(store: Store, name: str, job_id: str) -> str:
    """Return what an operation does for another job, or, in one run for all jobs, has done for it."""
    operation = OPERATIONS[name]
    if operation.is_for_all and operation.is_moved:
        return WORKS if await operation.is_moved(store, job_id) else "not moved"
    return await outcome_of(store, name, job_id)


async def prepared(pool: ConnectionPool, redis: Redis, name: str) -> Store:
    """Return a store with two jobs for an operation, and a third one."""
    await redis.flushdb()
    store = Store(pool, redis)
    await store.create("third")  # the first call of a client also looks at the data version
    for job_id in ("subject", OTHER):
        if prepare := OPERATIONS[name].prepare:
            await prepare(store, job_id)
    return store


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_foreign_key_stops_only_what_needs_it_and_the_doctor_heals_the_rest(
    name: str, pool: ConnectionPool, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.server_clock.CLOCK_MAX_AGE", 3600.0)  # a check reads version and partitions
    outcomes: dict[str, set[str]] = {}
    for key in KEYS:
        store, foreign = await prepared(pool, redis, name), key_name(key, "subject")
        await make_foreign(redis, foreign, TYPES.get(key.partition(":")[0], "hash"))

        outcome = await outcome_of(store, name, "subject")

        if outcome != WORKS:
            outcomes.setdefault(outcome, set()).add(key)
        if key in OF_ONE and name not in OF_ALL_QUEUES:
            assert await outcome_for_another_job(store, name, OTHER) == WORKS, key
        await redis.delete(foreign)
        await doctor_issues(pool, repair=True)
        assert await inconsistencies(redis) == [], key
    assert outcomes == {outcome: set(keys.split()) for outcome, keys in ROWS[name].items()}


def test_the_table_has_every_key_of_ours() -> None:
    rows = [*EXPECTED.values(), *EXPECTED_OF_SEVERAL.values()]
    named = {key for outcomes in rows for keys in outcomes.values() for key in keys.split()}

    # The version and the number of partitions are read by the clock of a client, and `fsync` is not read at all.
    assert {*KEYS} - named == {"version", "partitions", "fsync"}
