"""How often a change calls Redis inside its script: what a change costs the part that all replicas share."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from service.domain.jobs import Progress
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.cluster_clients import command_calls
from tests.helpers.deployments import DEPLOYMENT
from tests.helpers.partitions import PARTITIONS, neighbour_of

pytestmark = pytest.mark.usefixtures("only_caller")

#: Commands of clients; those of scripts are counted.
OF_CLIENTS = {"evalsha", "eval", "script|load", "config|resetstat", "select", "client|setinfo", "hello"}
#: 100 bytes of JSON.
INPUT = {"text": "x" * 89}
#: The most calls of a job with both tags, in the order of its life. Each change is one script.
MOST = {"create": 13, "claim": 16, "heartbeat": 5, "progress": 8, "complete": 13}
#: The clocks that a client reads: that of each node.
CLOCKS = 3 if DEPLOYMENT == "cluster" else 1
#: The read commands that a client sends: a claim looks at the times, the drain and the settings of its queue, and in
#: each partition at the delays and both lists of the queue. With one partition its script does.
READS = {"claim": 2 + CLOCKS + 3 * len(PARTITIONS)} if len(PARTITIONS) > 1 else {}


async def count_calls(redis: Redis, name: str, change: Callable[[], Awaitable[Any]]) -> tuple[tuple[int, int], Any]:
    """Return how many scripts a change runs and how many calls they make, and what it returns."""
    await redis.config_resetstat()
    result = await change()
    calls = await command_calls(redis)
    in_scripts = sum(count for command, count in calls.items() if command not in OF_CLIENTS) - READS.get(name, 0)
    return (calls["evalsha"], in_scripts), result


async def live(jobs: JobStateManager, leases: LeaseManager, job_id: str, redis: Redis) -> dict[str, tuple[int, int]]:
    """Take a job through its life and return the scripts and the calls of each change."""
    calls = {}
    calls["create"], _ = await count_calls(redis, "create", lambda: jobs.create_job(job_id, INPUT, "c", slate_id="s"))
    calls["claim"], claim = await count_calls(redis, "claim", lambda: leases.claim_job(["default"], "w"))
    token = claim.lease.token
    calls["heartbeat"], _ = await count_calls(redis, "heartbeat", lambda: leases.heartbeat(job_id, token))
    calls["progress"], _ = await count_calls(
        redis,
        "progress",
        lambda: jobs.update_job_status(job_id, "running", progress=Progress(1), lease_token=token),
    )
    calls["complete"], _ = await count_calls(
        redis, "complete", lambda: jobs.update_job_status(job_id, "completed", 1, lease_token=token)
    )
    return calls


async def test_a_change_calls_redis_as_often_as_was_agreed(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await live(jobs, leases, "first", redis)  # loads the scripts and reads the clock

    calls = await live(jobs, leases, neighbour_of("first"), redis)

    assert {name: count for name, (_, count) in calls.items() if count > MOST[name]} == {}, calls
    assert [scripts for scripts, _ in calls.values()] == [1] * len(MOST), calls


async def test_the_calls_do_not_grow_with_the_number_of_jobs(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await live(jobs, leases, "first", redis)
    few = await live(jobs, leases, neighbour_of("first"), redis)

    for number in range(50):
        await jobs.create_job(f"other-{number}", INPUT, "c", slate_id="s", queue="other")

    assert await live(jobs, leases, neighbour_of(neighbour_of("first")), redis) == few
