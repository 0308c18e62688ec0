"""A cluster of two masters whose clocks differ."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import timedelta
from itertools import count

import pytest

from service.domain.jobs import Claim, JobFilter, Progress
from service.domain.shutdown import Shutdown
from service.store.client import StoreClient
from service.store.deployments import open_deployment
from service.store.events.claim_waiter import ClaimWaiter, PendingClaim
from service.store.events.hub import EventHub
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import NullObserver
from service.store.partitions import Partitions
from tests.helpers import clocks
from tests.helpers.redis_cluster import Cluster
from tests.helpers.redis_servers import ServerProcess

PARTITIONS = Partitions(16)
#: The partitions of the two masters, and the id of a job in each.
FIRST, LAST = PARTITIONS[0], PARTITIONS[15]
OF_FIRST, OF_LAST = (next(f"j{n}" for n in count() if PARTITIONS.of(f"j{n}") is one) for one in (FIRST, LAST))
DAY = timedelta(days=1)


class Calls(NullObserver):
    """Counts the calls of Redis by their names."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        self.made[call] += 1


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if (reason := clocks.why_not()) is not None:
        pytest.skip(f"the clocks of servers cannot be set: {reason}")
    cluster = Cluster(tmp_path_factory.mktemp("clocks"), 2, has_clocks=True)
    try:
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def first(servers: Cluster) -> ServerProcess:
    """The master of the first partition, in a cluster without data whose clocks are right."""
    for node in servers.nodes:
        node.call("FLUSHALL")
        node.set_clock(0)
    return servers.master_of(FIRST)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
async def client(servers: Cluster, first: ServerProcess, calls: Calls) -> AsyncIterator[StoreClient]:
    deployment = open_deployment(servers.url)
    client = StoreClient(deployment, calls)
    try:
        yield client
    finally:
        await client.aclose()
        await deployment.aclose()


@pytest.fixture
def jobs(client: StoreClient) -> JobStateManager:
    return JobStateManager(client, ttl=DAY)


@pytest.fixture
def leases(client: StoreClient) -> LeaseManager:
    return LeaseManager(client, ttl=DAY)


async def test_a_lease_is_over_by_the_clock_of_its_own_node(
    jobs: JobStateManager, leases: LeaseManager, first: ServerProcess
) -> None:
    await jobs.create_job(OF_LAST, 1)
    await leases.claim_job(["default"], "w", lease_seconds=30)

    first.set_clock(60)

    found = [await jobs.get_job(OF_LAST)]
    found += (await jobs.get_jobs([OF_FIRST, OF_LAST])).items
    found += (await jobs.list_jobs(JobFilter(), include=["input_params"])).items
    assert [job and job.stale for job in found] == [False, False, False]


@pytest.mark.parametrize("skew", [-5, 5])
async def test_a_claim_waits_for_a_delay_by_the_clock_of_its_node_and_without_looking_all_the_time(
    jobs: JobStateManager, leases: LeaseManager, client: StoreClient, first: ServerProcess, calls: Calls, skew: float
) -> None:
    first.set_clock(skew)
    shutdown = Shutdown()
    await jobs.create_job(OF_LAST, 1, delay_seconds=1)
    pending, started = PendingClaim(["default"]), time.monotonic()

    def claim() -> Awaitable[tuple[list[Claim], float | None]]:
        return leases.try_claim(["default"], "w", lease_seconds=30, claim_key=None)

    async with contextlib.aclosing(EventHub(client, shutdown)) as hub:
        [found] = await ClaimWaiter(hub, shutdown, leases.looker).claim(pending, 10, claim)

    assert found.job.job_id == OF_LAST
    assert 0.9 < time.monotonic() - started < 4
    assert calls.made["end_delays"] < 10, calls.made


async def test_a_lease_outlives_jumps_of_the_clock_that_are_shorter_than_what_is_left_of_it(
    jobs: JobStateManager, leases: LeaseManager, first: ServerProcess
) -> None:
    await jobs.create_job(OF_FIRST, 1)
    claim = await leases.claim_job(["default"], "w", lease_seconds=60)
    assert claim
    changed = [claim.job.updated_at]
    for seconds in (30, 0, -30, 0, 30):
        first.set_clock(seconds)
        reaped, _ = await leases.reap(FIRST)
        assert reaped == []
        await leases.heartbeat(OF_FIRST, claim.lease.token, lease_seconds=60)
        progress = Progress(len(changed))
        job = await jobs.update_job_status(OF_FIRST, "running", progress=progress, lease_token=claim.lease.token)
        changed.append(job.updated_at)
    assert changed == sorted(changed)


async def test_two_jobs_of_a_partition_are_created_in_order_although_its_clock_is_set_back(
    jobs: JobStateManager, first: ServerProcess
) -> None:
    ids = [f"o{n}" for n in range(400) if PARTITIONS.of(f"o{n}") is FIRST][:3]
    created = []
    for job_id, seconds in zip(ids, (5, -5, 0), strict=True):
        first.set_clock(seconds)
        created.append((await jobs.create_job(job_id, 1)).job.created_at)
        await asyncio.sleep(0)
    assert created == sorted(created)
