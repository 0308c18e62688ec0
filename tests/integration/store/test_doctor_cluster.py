"""The doctor on a cluster, whose partitions are on several nodes."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis.crc import key_slot

from service.domain.errors import StoreMoving
from service.store.client import StoreClient
from service.store.doctor import Issue, IssueType, check
from service.store.jobs import JobStateManager
from service.store.opening import open_store
from service.store.partition import COMMON_ROOT, Partition
from tests.helpers.cli_process import jobstate
from tests.helpers.deployments import standalone_only
from tests.helpers.redis_cluster import Cluster

pytestmark = standalone_only("starts a cluster of its own")

WEEK = timedelta(days=7)
_NOTHING_ELSE = "; nothing else was checked"


@pytest.fixture
def client(cluster_client: StoreClient) -> StoreClient:
    return cluster_client


@pytest.fixture
async def jobs(client: StoreClient) -> JobStateManager:
    """40 jobs in all partitions."""
    manager = JobStateManager(client, ttl=WEEK)
    await manager.write_version()
    for number in range(40):
        await manager.create_job(f"j{number}", {"n": number}, queue=f"q{number % 3}", slate_id="s")
    return manager


async def found(client: StoreClient, *, repair: bool = False) -> list[Issue]:
    return [issue async for issue in check(client, repair=repair, rate=None)]


def on_each_node(client: StoreClient) -> list[Partition]:
    """Return a partition of each node."""
    deployment = client.deployment
    chosen = [
        next(one for one in deployment.partitions_on(node) if one.root != COMMON_ROOT) for node in deployment.nodes
    ]
    assert len(chosen) == 2
    return chosen


def call(cluster: Cluster, partition: Partition, *command: Any) -> Any:
    return cluster.master_of(partition).call(*command)


def job_in(client: StoreClient, partition: Partition) -> str:
    return next(f"j{n}" for n in range(40) if client.partitions.of(f"j{n}") is partition)


async def queue_of(jobs: JobStateManager, job_id: str) -> str:
    job = await jobs.get_job(job_id)
    assert job
    return job.queue


async def test_the_doctor_finds_no_issues_in_a_sound_cluster(client: StoreClient, jobs: JobStateManager) -> None:
    assert await found(client) == []


async def test_the_doctor_repairs_faults_on_every_node(
    cluster: Cluster, client: StoreClient, jobs: JobStateManager
) -> None:
    expected: set[tuple[IssueType, str]] = set()
    for one in on_each_node(client):
        job_id = job_in(client, one)
        by_created = one.by_created(await queue_of(jobs, job_id), "pending")
        call(cluster, one, "ZREM", by_created, job_id)
        call(cluster, one, "ZADD", one.leases, 1, "ghost")
        call(cluster, one, "PERSIST", one.job(job_id))
        call(cluster, one, "HSET", one.meta, "clock", 1)
        call(cluster, one, "EXPIRE", one.queue_names, 10_000)
        call(cluster, one, "SET", one.claim("k"), "x")
        call(cluster, one, "DEL", one.version)
        call(cluster, one, "DEL", one.partitions)
        expected |= {
            (IssueType.MISSING, by_created),
            (IssueType.STRAY, one.leases),
            (IssueType.LIFETIME, one.job(job_id)),
            (IssueType.CLOCK, one.meta),
            (IssueType.LIFETIME, one.queue_names),
            (IssueType.LIFETIME, one.claim("k")),
            (IssueType.PARTITION, one.version),
            (IssueType.PARTITION, one.partitions),
        }
    others = [one for one in client.partitions if one is not client.partitions.first]
    call(cluster, others[-1], "HSET", others[-1].queues, "q1", "1:5")
    expected.add((IssueType.PARTITION, others[-1].queues))

    issues = await found(client, repair=True)

    assert {(issue.type, issue.key) for issue in issues if issue.repaired} == expected
    assert await found(client) == []


async def test_the_doctor_reports_what_it_cannot_repair_on_every_node(
    cluster: Cluster, client: StoreClient, jobs: JobStateManager
) -> None:
    expected: set[tuple[IssueType, str]] = set()
    for one in on_each_node(client):
        job_id = job_in(client, one)
        call(cluster, one, "HSET", one.job(job_id), "revision", "x")
        call(cluster, one, "SET", one.events, "not a stream")
        call(cluster, one, "SET", one.key("foreign"), 1)
        misplaced = one.job(job_in(client, next(other for other in client.partitions if other is not one)))
        call(cluster, one, "HSET", misplaced, "status", "pending")
        expected |= {
            (IssueType.RECORD, one.job(job_id)),
            (IssueType.TYPE, one.events),
            (IssueType.FOREIGN, one.key("foreign")),
            (IssueType.PARTITION, misplaced),
        }
    for key in ("jobs:version", "job:j1", "jobs:fsync"):
        cluster.nodes[key_slot(key.encode()) // 8192].call("SET", key, 2)
        expected.add((IssueType.FOREIGN, key))

    issues = {(issue.type, issue.key) for issue in await found(client)}

    assert expected <= issues


@pytest.mark.parametrize(
    ("kind", "value", "detail"),
    [("version", "x", "is x, which is not a number"), ("partitions", "8", "is 8, must be 16")],
)
async def test_a_number_with_which_no_script_runs_is_named_with_its_key(
    cluster: Cluster, client: StoreClient, jobs: JobStateManager, kind: str, value: str, detail: str
) -> None:
    for one in on_each_node(client):
        call(cluster, one, "SET", one.key(kind), value)

    issues = await found(client)

    assert [(issue.key, issue.detail) for issue in issues] == [
        (one.key(kind), detail + _NOTHING_ELSE) for one in on_each_node(client)
    ]


async def test_a_lost_number_of_partitions_of_one_partition_stops_no_service(
    cluster: Cluster, client: StoreClient, jobs: JobStateManager
) -> None:
    one = on_each_node(client)[1]
    call(cluster, one, "DEL", one.partitions)
    async with open_store(cluster.url, max_connections=2) as service:
        await JobStateManager(service, ttl=WEEK).update_job_status(job_in(client, one), "running")

    assert call(cluster, one, "GET", one.partitions) == "16"


async def test_the_doctor_stops_when_a_partition_moves(
    cluster: Cluster, client: StoreClient, jobs: JobStateManager
) -> None:
    one = on_each_node(client)[0]
    slot, source = key_slot(one.root.encode()), cluster.master_of(one)
    target = next(node for node in cluster.nodes if node is not source)
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.call("CLUSTER", "MYID"))
    try:
        with pytest.raises(StoreMoving):
            await found(client, repair=True)
    finally:
        source.call("CLUSTER", "SETSLOT", slot, "STABLE")


@pytest.fixture
def at_risk(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A warning of each node, by its name."""
    options = [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")]
    for node, (option, value, _) in zip(cluster.nodes, options, strict=True):
        node.call("CONFIG", "SET", option, value)
    yield {cluster.nodes[0].name: "`maxmemory-policy` evicts jobs", cluster.nodes[1].name: "`appendonly` is off"}
    for node, (option, _, value) in zip(cluster.nodes, options, strict=True):
        node.call("CONFIG", "SET", option, value)


async def test_the_report_names_the_nodes_and_their_risks(
    cluster: Cluster, jobs: JobStateManager, at_risk: dict[str, str]
) -> None:
    report = jobstate("", "doctor", REDIS_URL=cluster.url).out.decode()

    assert "16 partitions on 2 nodes: " in report
    risks = [line for line in report.splitlines() if line.startswith("jobs at risk")]
    assert len(risks) == 2
    for name, warning in at_risk.items():
        assert name in report.split("2 nodes: ")[1].splitlines()[0]
        assert any(line.startswith(f"jobs at risk: {name}: {warning}") for line in risks)
