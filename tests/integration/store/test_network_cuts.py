"""A master that is cut off from the other servers, while the service reaches all of them."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.store.jobs import JobStateManager
from service.store.opening import open_store
from service.store.partitions import Partitions
from tests.helpers import network
from tests.helpers.polling import TIMEOUT
from tests.helpers.redis_cluster import running_cluster
from tests.helpers.redis_sentinel import running_sentinel
from tests.helpers.redis_servers import ProcessRedis

FIRST = Partitions(16)[0]
#: The id of a job in the first partition.
ID = next(f"j{number}" for number in range(1000) if Partitions(16).of(f"j{number}") is FIRST)


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    if (reason := network.why_not()) is not None:
        pytest.skip(f"no network of its own: {reason}")
    with network.own():
        yield


async def change_until_used(jobs: JobStateManager, new: ProcessRedis) -> None:
    """Repeat a change until the new master has it."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            job = await jobs.create_job(ID, 1)
        except StoreUnavailable:
            job = None
        if job is not None and node_name(jobs) == new.name:
            return
        assert time.monotonic() < deadline, "the former master is still used"
        await asyncio.sleep(0.05)


def node_name(jobs: JobStateManager) -> str:
    return jobs._client.deployment.node_of(FIRST).name


async def test_a_cluster_tells_its_new_master_although_the_former_one_goes_on_naming_itself(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster", replicas=1) as cluster:
        former = cluster.master_of(FIRST)
        async with open_store(cluster.url) as client:
            jobs = JobStateManager(client, ttl=timedelta(days=1))
            await jobs.create_job("first", 1)
            with network.cut([former.host], [one.host for one in cluster.processes if one is not former]):
                new = await asyncio.to_thread(cluster.wait_for_failover, former)
                await change_until_used(jobs, new)


async def test_a_sentinel_that_is_cut_off_with_the_former_master_is_outvoted(tmp_path: Path) -> None:
    with running_sentinel(tmp_path, 2) as servers:
        former = servers.master
        side = [former, servers.sentinels[0]]
        async with open_store(servers.url, partitions=16) as client:
            jobs = JobStateManager(client, ttl=timedelta(days=1))
            await jobs.create_job("first", 1)
            others = [one.host for one in servers.processes if one not in side]
            with network.cut([one.host for one in side], others):
                new = await asyncio.to_thread(servers.wait_for_failover, former, side)
                await change_until_used(jobs, new)
