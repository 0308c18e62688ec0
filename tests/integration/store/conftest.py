from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import ConnectionPool, Redis

from service.store.client import StoreClient
from service.store.opening import open_store
from service.store.queues import QueueManager
from tests.helpers.redis_cluster import Cluster, running_cluster
from tests.helpers.store_operations import Store


@pytest.fixture
def queues(store_client: StoreClient, redis: Redis) -> QueueManager:
    """The queues of the jobs in `jobs`."""
    return QueueManager(store_client)


@pytest.fixture
async def store(pool: ConnectionPool, redis: Redis) -> AsyncIterator[Store]:
    store = Store(pool, redis)
    yield store
    await store.client.aclose()


@pytest.fixture(scope="session")
def two_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), masters=2) as running:
        yield running


@pytest.fixture
def cluster(two_masters: Cluster) -> Cluster:
    """An empty cluster of two masters, which a test must not kill."""
    for node in two_masters.nodes:
        node.call("FLUSHALL")
    return two_masters


@pytest.fixture
async def cluster_client(cluster: Cluster) -> AsyncIterator[StoreClient]:
    async with open_store(cluster.url, max_connections=2) as client:
        yield client
