"""`jobstate copy` between one Redis and a cluster, whose partitions are on several nodes."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis as sync_redis
from redis.crc import key_slot

from service.domain.errors import StoreLoading
from service.store.client import StoreClient
from service.store.copy import CopyRefused, copy_database
from service.store.copy.target import Target
from service.store.data_version import COPY_MARK
from service.store.doctor import Issue, check
from service.store.jobs import JobStateManager
from service.store.opening import open_store
from service.store.partition import COMMON_ROOT, Partition
from service.store.partitions import Partitions
from service.store.queues import QueueManager
from tests.helpers.deployments import standalone_only
from tests.helpers.redis_cluster import Cluster
from tests.helpers.redis_servers import ProcessRedis

pytestmark = standalone_only("starts a cluster of its own")

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessRedis]:
    server = ProcessRedis(tmp_path_factory.mktemp("standalone"))
    yield server
    server.remove()


@pytest.fixture
async def source(one_redis: ProcessRedis) -> AsyncIterator[StoreClient]:
    """Drained jobs in the first database of one Redis."""
    one_redis.call("FLUSHALL")
    async with open_store(url_of(one_redis, 0), max_connections=2) as client:
        jobs, queues = JobStateManager(client, ttl=WEEK), QueueManager(client)
        for number in range(300):
            await jobs.create_job(f"j{number}", {"n": number}, queue=f"q{number % 3}", correlation_id="c")
        await jobs.update_job_status("j1", "running")
        await jobs.update_job_status("j1", "completed", {"r": 1})
        await queues.configure_queue("q1", max_running=5)
        await queues.start_drain(600)
        yield client


def url_of(server: ProcessRedis, database: int) -> str:
    return f"redis://{server.name}/{database}"


def nothing(_: str, __: int) -> None:
    pass


class Interrupted(Exception):
    """The copy ends here."""


def at(step: str) -> Callable[[str, int], None]:
    def progress(done: str, _: int) -> None:
        if done.startswith(step):
            raise Interrupted

    return progress


async def copied(
    source: StoreClient, url: str, progress: Callable[[str, int], None] = nothing, partitions: int | None = None
) -> Counter[tuple[str, str]]:
    """Copy to the database at a URL, as a process that ends then."""
    async with open_store(url, partitions=partitions, max_connections=2) as target:
        return await copy_database(source, target.deployment, progress)


async def found(client: StoreClient, *, repair: bool = False) -> list[Issue]:
    return [issue async for issue in check(client, repair=repair, rate=None)]


def records(server: ProcessRedis, database: int) -> dict[bytes, Any]:
    """Return the records of jobs, and the names of the other keys that a copy has."""
    with sync_redis.Redis(port=server.port, db=database) as redis:
        keys = [key for key in redis.scan_iter() if not key.startswith((b"jobs:events", b"jobs:meta", b"jobs:version"))]
        return {key: redis.hgetall(key) if key.startswith(b"job:") else None for key in keys}


async def test_a_copy_to_a_cluster_and_back_has_the_same_jobs_and_settings(
    cluster: Cluster, cluster_client: StoreClient, one_redis: ProcessRedis, source: StoreClient
) -> None:
    there = await copied(source, cluster.url)

    assert sum(there.values()) == 300
    assert await found(cluster_client) == []
    assert {len(node.call("KEYS", "*job:*")) > 50 for node in cluster.nodes} == {True}
    await QueueManager(cluster_client).start_drain(600)
    assert await copied(cluster_client, url_of(one_redis, 1)) == there
    assert records(one_redis, 1) == records(one_redis, 0)
    async with open_store(url_of(one_redis, 1)) as back:
        assert await found(back) == []


@pytest.mark.parametrize("step", ["copied", "indexed", "checked"])
async def test_a_service_refuses_an_interrupted_copy_in_every_partition_and_the_next_copy_replaces_it(
    cluster: Cluster, cluster_client: StoreClient, source: StoreClient, step: str
) -> None:
    with pytest.raises(Interrupted):
        await copied(source, cluster.url, at(step))

    service = JobStateManager(cluster_client, ttl=WEEK)
    for partition in cluster_client.partitions:
        with pytest.raises(StoreLoading):
            await cluster_client.read(["HGETALL", partition.job("j1")])
    with pytest.raises(StoreLoading):
        await service.ping()
    with pytest.raises(StoreLoading):
        await service.create_job("new", 1)
    with pytest.raises(StoreLoading):
        await found(cluster_client, repair=True)
    assert sum((await copied(source, cluster.url)).values()) == 300
    assert await found(cluster_client) == []


async def test_a_copy_whose_end_was_interrupted_is_refused_on_every_node_and_replaced(
    cluster: Cluster, cluster_client: StoreClient, source: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Target._replace_mark

    async def replace_but_the_last(self: Target, key: str) -> None:
        if key == Partition(COMMON_ROOT).version:
            raise Interrupted
        await replace(self, key)

    monkeypatch.setattr(Target, "_replace_mark", replace_but_the_last)
    with pytest.raises(Interrupted):
        await copied(source, cluster.url)
    monkeypatch.undo()

    partitions = cluster_client.partitions
    held = [cluster.master_of(one).call("GET", one.version).encode() for one in partitions]
    assert sorted(value.startswith(COPY_MARK) for value in held) == [*[False] * 15, True]
    for partition in partitions:
        async with open_store(cluster.url, max_connections=2) as service:
            with pytest.raises(StoreLoading):
                await service.read(["HGETALL", partition.job("j1")])
            with pytest.raises(StoreLoading):
                await service.probe()
    await copied(source, cluster.url)
    assert await found(cluster_client) == []


async def test_a_copy_with_another_number_of_partitions_deletes_all_that_an_interrupted_one_left(
    cluster: Cluster, source: StoreClient
) -> None:
    with pytest.raises(Interrupted):
        await copied(source, cluster.url, at("checked"))

    await copied(source, cluster.url, partitions=2)

    roots = {key.split(":")[0] + ":" for node in cluster.nodes for key in node.call("KEYS", "*")}
    assert roots == {one.root for one in Partitions(2)}


async def test_a_cluster_with_a_key_on_any_node_is_not_copied_to(cluster: Cluster, source: StoreClient) -> None:
    for number, node in enumerate(cluster.nodes):
        key = next(key for n in range(99) if key_slot((key := f"job:{n}").encode()) // 8192 == number)
        node.call("SET", key, 1)
        with pytest.raises(CopyRefused, match=key):
            await copied(source, cluster.url)
        assert [one.call("KEYS", "*") for one in cluster.nodes] == [
            [key] if one is node else [] for one in cluster.nodes
        ]
        node.call("DEL", key)
