"""A service on a Redis Cluster while some of its nodes, or all, are away."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient
from structlog.testing import capture_logs

from service.app import create_app
from service.background import sweeper
from service.settings import Settings
from service.store.jobs import JobStateManager
from service.store.opening import open_store
from service.store.partition import Partition
from service.store.partitions import Partitions
from tests.helpers.deployments import standalone_only
from tests.helpers.polling import wait_until
from tests.helpers.redis_cluster import Cluster, running_cluster
from tests.helpers.redis_servers import ProcessRedis
from tests.helpers.service_process import Service

pytestmark = standalone_only("starts a cluster of its own")

PARTITIONS = Partitions(16)


@pytest.fixture(scope="module")
def three_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def cluster(three_masters: Cluster) -> Iterator[Cluster]:
    """An empty cluster, whose nodes a test may kill."""
    for node in three_masters.nodes:
        node.call("FLUSHALL")
    yield three_masters
    restart(three_masters)


def restart(cluster: Cluster) -> None:
    for node in cluster.nodes:
        if node.has_exited:
            node.start()
    cluster.wait_until_whole()


def partitions_on(cluster: Cluster, node: ProcessRedis) -> list[Partition]:
    return [one for one in PARTITIONS if cluster.master_of(one) is node]


def samples(client: httpx.Client) -> dict[str, float]:
    """Return the metrics that are read from Redis, by their names with labels."""
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def events(service: Service, event: str) -> list[str]:
    """Return the nodes that the lines of an event name."""
    lines = re.sub(r"\x1b\[\d*m", "", service.log).splitlines()
    return [re.findall(r"127\.0\.0\.1:\d+", line)[0] for line in lines if event in line]


def test_readiness_metrics_and_log_name_the_nodes_that_are_away(cluster: Cluster, tmp_path: Path) -> None:
    killed, at_risk, _ = cluster.nodes
    count = len(partitions_on(cluster, killed))
    assert 0 < count < len(PARTITIONS)
    at_risk.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with (
        Service(tmp_path, REDIS_URL=cluster.url, REDIS_PARTITIONS="16") as service,
        httpx.Client(base_url=service.url, timeout=10) as client,
    ):

        def away() -> tuple[int, Any, Any]:
            response = client.get("/ready")
            return response.status_code, *map(response.json().get, ("nodes_away", "partitions_away"))

        wait_until(lambda: away() == (200, None, None), "a ready service")
        warnings = {node.name: float(node is at_risk) for node in cluster.nodes}
        assert warnings_of(samples(client)) == warnings
        wait_until(lambda: events(service, "redis durability warning") == [at_risk.name], "the warning")

        killed.kill()
        wait_until(lambda: away() == (200, 1, count), "a node away")
        seen = samples(client)
        assert seen["jobstate_redis_up"] == 1
        assert seen["jobstate_redis_nodes"] == 3
        assert (seen["jobstate_redis_nodes_away"], seen["jobstate_redis_partitions_away"]) == (1, count)
        assert warnings_of(seen) == {name: value for name, value in warnings.items() if name != killed.name}
        wait_until(lambda: events(service, "redis node away"), "the log line")

        for node in cluster.nodes:
            node.kill()
        wait_until(lambda: away()[0] == 503, "a service that is not ready")
        assert samples(client)["jobstate_redis_up"] == 0

        restart(cluster)
        wait_until(lambda: away() == (200, None, None), "a ready service")
        assert events(service, "redis node away").count(killed.name) == 1
        assert killed.name in events(service, "redis node back")


def warnings_of(seen: dict[str, float]) -> dict[str, float]:
    """Return the number of warnings of each node."""
    found = {re.fullmatch(r'jobstate_redis_warnings\{node="(.*)"\}', name): value for name, value in seen.items()}
    return {match[1]: value for match, value in found.items() if match}


async def create_expired_jobs(cluster: Cluster) -> None:
    """Leave jobs in all partitions that expire at once, and whose index entries are not swept."""
    async with open_store(cluster.url) as client:
        jobs = JobStateManager(client, ttl=timedelta(seconds=1))
        for number in range(100):
            await jobs.create_job(f"j{number}", 1)
    wait_until(lambda: not any(node.call("KEYS", "*job:j*") for node in cluster.nodes), "expiry")


async def test_a_service_that_starts_without_a_node_sweeps_the_others_and_is_ready(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "MAX_FIRST_SWEEP", timedelta(days=1))
    await create_expired_jobs(cluster)
    first = cluster.master_of(PARTITIONS.first)
    killed, other = (node for node in cluster.nodes if node is not first)
    there = {one: node for node in (first, other) for one in partitions_on(cluster, node)}
    first.call("HSET", PARTITIONS.first.queues, "q", "1:")
    assert all(node.call("ZCARD", one.by_expiry) for one, node in there.items())
    killed.kill()

    settings = Settings.from_environment({"REDIS_URL": cluster.url})
    with capture_logs() as logs, TestClient(create_app(settings, cluster.url)) as client:
        wait_until(lambda: client.get("/ready").status_code == 200, "the first sweep")
        assert not any(node.call("ZCARD", one.by_expiry) for one, node in there.items())
        wait_until(
            lambda: all(node.call("HGET", one.queues, "q") == "1:" for one, node in there.items()), "the settings"
        )
        wait_until(lambda: any(line["event"] == sweeper.CONNECTED for line in logs), "the log line")

    away = [line["node"] for line in logs if line["event"] == "redis node away"]
    assert away == [killed.name]
    failures = {sweeper.REDIS_UNAVAILABLE, sweeper.REDIS_PARTLY_UNAVAILABLE, sweeper.SWEEP_FAILED}
    assert not failures & {line["event"] for line in logs}
