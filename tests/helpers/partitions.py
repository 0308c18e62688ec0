"""The partitions that the integration tests run with: `TEST_PARTITIONS` of them, by default 1, on a cluster 16."""

import itertools
import os
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from service.store.client import StoreClient
from service.store.observer import Observer
from service.store.partition import Partition
from service.store.partitions import Partitions
from tests.helpers.deployments import DEPLOYMENT, opened_again

_DEFAULT: Final = "16" if os.environ.get("TEST_DEPLOYMENT") == "cluster" else "1"
PARTITIONS: Final = Partitions(int(os.environ.get("TEST_PARTITIONS", _DEFAULT)))

#: The keys that a database of several partitions always has.
OF_SEVERAL: Final = frozenset(
    {"jobs:version", *(name for one in PARTITIONS for name in (one.version, one.partitions))}
    if len(PARTITIONS) > 1
    else ()
)

#: For tests of limits of one partition, which several exceed together: they are deselected with more.
only_one_partition: Final = pytest.mark.only_one_partition


def connect(
    pool: Any, observer: Observer | None = None, *, partitions: int = len(PARTITIONS), **options: Any
) -> StoreClient:
    """Return a client for these partitions, over what `open_pool` gives."""
    if DEPLOYMENT != "standalone" and len(pool.partitions) != partitions:
        pool = opened_again(pool, partitions)
    return StoreClient(pool, observer, partitions=partitions, **options)


def job_key(job_id: str) -> str:
    """Return the key of a job's record."""
    return PARTITIONS.of(job_id).job(job_id)


def id_in(partition: Partition, name: str) -> str:
    """Return an id of a job in a partition that is `name`, or begins with it."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count()))
    return next(one for one in names if PARTITIONS.of(one) is partition)


def neighbour_of(job_id: str) -> str:
    """Return the id of another job in the same partition."""
    return id_in(PARTITIONS.of(job_id), f"{job_id}-0")


async def key_names(redis: Redis) -> set[str]:
    """Return the names of all keys, without those that a database of several partitions always has."""
    return {name.decode() async for name in redis.scan_iter(count=1000)} - OF_SEVERAL
