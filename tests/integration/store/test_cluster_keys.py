"""Each script uses keys of its partition only: every operation runs on two masters of a Redis Cluster.

A script that touches a key of another slot fails there, and so does the call.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from service.domain import errors
from service.domain.bulk import BulkActionNotFound, BulkKind, NewBulkAction
from service.domain.jobs import JobFilter
from service.domain.rate_limits import RateLimit
from service.store import scripts
from service.store.bulk_actions import BulkActions
from service.store.bulk_steps import BulkSteps
from service.store.claims import ClaimRequest
from service.store.observer import NullObserver
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.pool import create_pool
from service.store.rate_limiter import RateLimiter
from tests.helpers.consistency import inconsistencies
from tests.helpers.redis_cluster import Cluster, NodeClient, OnePartition, running_cluster
from tests.helpers.store_operations import OPERATIONS, TIMEOUTS, WEEK, Store

PARTITIONS = Partitions(16)
#: It has keys of three slots, so it runs on one Redis only.
NOT_IN_A_PARTITION = {scripts.WRITE_VERSION}


class Replies(NullObserver):
    """The replies of all scripts so far."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def on_call_end(self, name: str, outcome: str, seconds: float) -> None:
        self.seen.add((name, outcome))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), masters=2) as cluster:
        yield cluster


@pytest.fixture(params=[PARTITIONS[0], PARTITIONS[15]], ids=["first node", "last node"])
async def store(request: pytest.FixtureRequest, cluster: Cluster) -> AsyncIterator[Store]:
    """The library on a partition, on the node that has it."""
    partition: Partition = request.param
    pool = create_pool(f"redis://127.0.0.1:{cluster.master_of(partition).port}/0")
    client = NodeClient(pool, partition, Replies())
    redis = Redis(connection_pool=pool)
    await redis.flushdb()
    yield Store(pool, redis, client)
    assert [name async for name in redis.scan_iter() if not name.startswith(partition.root.encode())] == []
    await client.aclose()
    await pool.disconnect()


async def refused(error: type[Exception], call: Awaitable[Any]) -> None:
    with pytest.raises(error):
        await call


async def refuse_changes(store: Store) -> None:
    """Make the scripts that change a job refuse, in every way."""
    jobs, leases = store.jobs, store.leases
    await store.create("a")
    await jobs.create_job("a", 1, "c", slate_id="s", queue="a")
    await refused(errors.JobExists, jobs.create_job("a", 2))
    await refused(errors.JobNotFound, jobs.update_job_status("gone", "running"))
    await refused(errors.PreconditionFailed, jobs.update_job_status("a", "running", if_match=['"9"']))
    await refused(errors.IllegalTransition, jobs.update_job_status("a", "completed"))
    for _ in range(2):
        await jobs.update_job_status("a", "running", change_id="same")
    await refused(errors.IdempotencyKeyReused, jobs.update_job_status("a", "failed", change_id="same"))
    await refused(errors.NotLeased, leases.release_job("a", None))
    await refused(errors.JobNotFinal, jobs.delete_job("a"))
    await refused(errors.PreconditionFailed, jobs.delete_job("a", if_match=['"9"']))
    await refused(errors.JobNotFound, jobs.delete_job("gone"))
    for release in (leases.release_job, leases.heartbeat):
        await refused(errors.JobNotFound, release("gone", "1-x"))


async def refuse_retries(store: Store) -> None:
    """Make the script of a retry refuse, in every way, and a change that came before it."""
    jobs = store.jobs
    await refused(errors.JobNotFound, jobs.retry_job("gone"))
    await store.create("retried")
    await refused(errors.IllegalTransition, jobs.retry_job("retried"))
    await jobs.cancel_job("retried", change_id="before")
    await refused(errors.PreconditionFailed, jobs.retry_job("retried", if_match=['"9"']))
    for _ in range(2):
        await jobs.retry_job("retried", change_id="same")
    await refused(errors.IdempotencyKeyReused, jobs.retry_job("retried", max_attempts=9, change_id="same"))
    await refused(errors.IllegalTransition, jobs.cancel_job("retried", change_id="before"))


async def refuse_leases(store: Store) -> None:
    """Make the scripts of leases refuse, in every way."""
    jobs, leases = store.jobs, store.leases
    await store.lease("leased")
    for call in (leases.release_job, leases.heartbeat):
        await refused(errors.LeaseLost, call("leased", "1-x"))
    await refused(errors.LeaseLost, jobs.update_job_status("leased", "completed", lease_token="1-x"))
    token = store.tokens["leased"]
    for _ in range(2):
        await leases.release_job("leased", token, change_id="same")
    await refused(errors.IdempotencyKeyReused, leases.release_job("leased", token, change_id="same", error="other"))
    await leases.claim_job(["leased"], "w", claim_key="key")
    await leases.claim_job(["leased"], "w", claim_key="key")
    await refused(errors.IdempotencyKeyReused, leases.claim_job(["other"], "w", claim_key="key"))
    await leases.claim_job(["other"], "w")
    await leases.claim_jobs(["other", "leased"], "w", max_jobs=5)


async def look(store: Store) -> None:
    """Run the scripts that read, and those of the doctor, on jobs that have issues."""
    client = store.client
    partition = client.partitions.first
    await store.jobs.get_stats()
    await store.bring_to("pending", "expired")
    await store.expire("expired")
    assert (await client.run_script(scripts.COUNT, partition, ["", "", 0]))[0] == "MORE"
    await store.jobs.sweep()
    for state in ("pending", "delayed", "running", "completed"):
        await store.bring_to(state, f"look-{state}", **TIMEOUTS)
    await store.jobs.list_jobs(JobFilter())
    await store.jobs.get_stats()
    await client.run_script(scripts.FIND_OLDEST, partition, [1, "pending"])
    indexes = (partition.by_expiry, partition.tags, partition.delays, partition.timers, partition.leases)
    await store.redis.delete(*indexes, partition.queue_names, partition.meta)
    ids = [f"look-{state}" for state in ("pending", "delayed", "running", "completed")]
    assert len(await client.run_script(scripts.CHECK_JOBS, partition, ["repair", *ids])) > 1
    strays = {"by_expiry": "x", "tags": "s00:0000000000000001:x", "delays": "q:x", "timers": "run:q:x", "leases": "x"}
    for kind, member in strays.items():
        await store.redis.zadd(partition.key(kind), {member: 2**50})
        assert len(await client.run_script(scripts.CHECK_ENTRIES, partition, ["repair", kind, "", "", member])) > 1
    await store.redis.sadd(partition.queue_names, "x")
    assert len(await client.run_script(scripts.CHECK_ENTRIES, partition, ["repair", "queue_names", "", "", "x"])) > 1


async def refuse_in_general(store: Store) -> None:
    """Exceed a rate limit, and create and claim during a drain."""
    limiter = RateLimiter(store.client, RateLimit(1, 60))
    await limiter.acquire("c")
    await refused(errors.RateLimited, limiter.acquire("c"))
    await store.queues.configure_queue("a", max_running=5)
    await store.queues.start_drain(60)
    await refused(errors.Draining, store.jobs.create_job("new", 1))
    await refused(errors.Draining, store.leases.claim_job(["a"], "w"))
    await store.queues.end_drain()


async def claim_over_partitions(store: Store) -> None:
    """Run the scripts that only a claim over several partitions needs, and a claim that knows of other partitions."""
    client = store.client
    partition = client.partitions.first
    calls = {
        scripts.AIM: [["c", 0, "1", 1000], ["c", 0, "2", 1000], ["c", 1, "", 1000]],
        scripts.GATE: [["q", "token", 1000], ["q", "other", 1000], ["q", "token", 0]],
    }
    for script, arguments in calls.items():
        for args in arguments:
            await client.run_script(script, partition, args)
    request = ClaimRequest.of(["capped"], "w", 30, "several-partitions", None)
    await store.queues.configure_queue("capped", max_running=2)
    await store.create("capped", queue="capped")
    facts = {"capped": 1, ":until": 9 * 10**15, ":plan": 1, ":strict": 1}
    for known, count in (({**facts, "capped": 2}, 0), ({**facts, ":plan": 2}, 1), (facts, 1)):
        assert len((await store.leases._script.run(request, partition, facts=known)).claims) == count


async def act_in_bulk(store: Store) -> None:
    """Carry out bulk actions of every kind, by one process while another one has it, and make their scripts refuse."""
    actions, steps, others = BulkActions(store.client), BulkSteps(store.client, ttl=WEEK), None
    for kind in BulkKind:
        await store.bring_to("failed", f"bulk-{kind}")
        new = NewBulkAction(kind=kind, filters=JobFilter(queue=f"bulk-{kind}"))
        action, _ = await actions.start_action(new, f"bulk-{kind}")
        await actions.start_action(new, f"bulk-{kind}")
        changed = structs.replace(new, dry_run=True)
        await refused(errors.IdempotencyKeyReused, actions.start_action(changed, f"bulk-{kind}"))
        while (stored := await steps.take(action.action_id)) is not None:
            others = others or BulkSteps(store.client, ttl=WEEK)
            assert await others.take(action.action_id) is None
            for partition in steps.unfinished(stored, stored.decode()):
                await steps.step(stored, stored.decode(), partition, 10)
            await steps.move_on(stored, stored.decode())
        await actions.abort_action(action.action_id)
    assert await steps.take("nothing") is None
    await refused(BulkActionNotFound, actions.abort_action("nothing"))


async def look_for_oldest(store: Store) -> None:
    await store.client.run_script(scripts.FIND_OLDEST, store.client.partitions.first, [1, "pending"])


SCENES: list[Callable[[Store], Awaitable[None]]] = [
    *(look_for_oldest, look, refuse_changes, refuse_retries, refuse_leases, refuse_in_general, claim_over_partitions),
    act_in_bulk,
]


async def run_all(store: Store) -> None:
    for scene in SCENES:
        await scene(store)
    for number, (name, operation) in enumerate(OPERATIONS.items()):
        job_id = f"operation-{number}"
        if operation.prepare:
            await operation.prepare(store, job_id)
        await operation.run(store, job_id)
        if operation.is_moved:
            assert await operation.is_moved(store, job_id), name
        await store.queues.end_drain()


async def test_every_script_gives_every_reply_in_its_partition(store: Store) -> None:
    await run_all(store)

    replies = {(one.name, word) for one in set(scripts.ALL) - NOT_IN_A_PARTITION for word in one.replies}
    replies -= {(scripts.CREATE_MANY.name, word) for word in scripts.CREATE_MANY.replies - {"JOBS"}}  # of its items
    observer = store.client.observer
    assert isinstance(observer, Replies)
    assert replies - observer.seen == set()
    assert await inconsistencies(store.redis, OnePartition(store.client.partitions.first)) == []


async def test_a_script_that_leaves_its_partition_fails(store: Store, cluster: Cluster) -> None:
    """Whether the other key is on this node or on the other one. So the test above finds such a script."""
    root = store.client.partitions.first.root
    redis: Any = store.redis
    for other in (PARTITIONS[1], PARTITIONS[14]):
        text = f"#!lua\nredis.call('SET', KEYS[1] .. 'meta', 1); redis.call('SET', '{other.key('meta')}', 1)"
        with pytest.raises(redis_errors.ResponseError, match=r"non local key|do not hash to the same slot"):
            await redis.eval(text, 1, root)
    with contextlib.suppress(redis_errors.ResponseError):
        await store.redis.delete(f"{root}meta")


async def test_the_partitions_are_on_both_nodes(cluster: Cluster, tmp_path: Path) -> None:
    on = [cluster.master_of(partition) for partition in PARTITIONS]
    assert [on.count(node) for node in cluster.nodes] == [8, 8]
