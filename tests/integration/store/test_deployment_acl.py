"""The Redis user of docs/security.md, with the rights for Sentinel or for a cluster, is enough there."""

from pathlib import Path

import pytest

from service.domain.errors import StoreAccessDenied
from service.domain.jobs import JobFilter
from service.store.jobs import JobStateManager
from service.store.opening import open_store
from service.store.redis_commands import OPTIONAL_COMMANDS, REQUIRED_COMMANDS, acl_rule
from tests.helpers.redis_cluster import Cluster, running_cluster
from tests.helpers.redis_sentinel import SentinelSet, running_sentinel

OF_SENTINEL = OPTIONAL_COMMANDS["Sentinel in `REDIS_URL`"]
OF_CLUSTER = OPTIONAL_COMMANDS["a Redis Cluster in `REDIS_URL`"]


def rule(*optional: str) -> list[str]:
    return acl_rule(*REQUIRED_COMMANDS, *optional).split()


def with_user(url: str) -> str:
    return url.replace("://", "://jobstate:secret@")


async def use(url: str) -> None:
    """Create and list jobs as the user `jobstate`."""
    async with open_store(with_user(url)) as store:
        jobs = JobStateManager(store)
        await jobs.ping()
        ids = {(await jobs.create_job(jobs.new_job_id(), 1)).job.job_id for _ in range(20)}
        page = await jobs.list_jobs(JobFilter(), limit=100)
        assert ids <= {job.job_id for job in page.items}


async def test_the_rights_for_a_cluster_are_enough_and_needed(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        await check_cluster(cluster)


async def check_cluster(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.call("ACL", "SETUSER", "jobstate", "on", ">secret", *rule(*OF_CLUSTER))
    await use(cluster.url)

    for node in cluster.nodes:
        node.call("ACL", "SETUSER", "jobstate", *rule())
    with pytest.raises(StoreAccessDenied, match="cluster"):
        await use(cluster.url)


async def test_the_rights_for_sentinel_are_enough_and_needed(tmp_path: Path) -> None:
    with running_sentinel(tmp_path) as sentinels:
        await check_sentinel(sentinels)


async def check_sentinel(sentinels: SentinelSet) -> None:
    sentinels.master.call("ACL", "SETUSER", "jobstate", "on", ">secret", *rule(*OF_SENTINEL))
    for sentinel in sentinels.sentinels:
        sentinel.call("ACL", "SETUSER", "asker", "on", ">hidden", "-@all", "+sentinel|masters")
    url = sentinels.url + "?sentinel_username=asker&sentinel_password=hidden"
    await use(url)

    sentinels.master.call("ACL", "SETUSER", "jobstate", *rule())
    async with open_store(with_user(url)) as store:
        for _ in range(2):  # a connection that was refused is not used later
            with pytest.raises(StoreAccessDenied, match="role"):
                await JobStateManager(store).ping()
