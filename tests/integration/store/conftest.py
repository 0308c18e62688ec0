import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.store.queues import QueueManager


@pytest.fixture
def queues(pool: BlockingConnectionPool, redis: Redis) -> QueueManager:
    """The queues of the jobs in `jobs`."""
    return QueueManager(pool)
