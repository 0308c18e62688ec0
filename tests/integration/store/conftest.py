import pytest
from redis.asyncio import Redis

from service.store.client import StoreClient
from service.store.queues import QueueManager


@pytest.fixture
def queues(store_client: StoreClient, redis: Redis) -> QueueManager:
    """The queues of the jobs in `jobs`."""
    return QueueManager(store_client)
