"""Fixtures of the integration tests: one deployment of Redis a run, emptied before and checked after each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from service.background.sweeper import SWEEP_INTERVAL
from service.domain.shutdown import Shutdown
from service.store.client import StoreClient
from service.store.events.hub import EventHub
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import NullObserver
from service.store.partitions import Partitions
from tests.helpers import conformance
from tests.helpers.consistency import doctor_issues, inconsistencies
from tests.helpers.deployments import (
    DEPLOYMENT,
    Databases,
    close_pool,
    open_pool,
    opened_again,
    raw_client,
    sync_client,
)
from tests.helpers.document_programs import Outage, outage
from tests.helpers.partitions import PARTITIONS, connect
from tests.helpers.redis_servers import Backend, NewRedis, RedisServer
from tests.helpers.service_process import Service, paused

WEEK = timedelta(days=7)
#: Settings of the shared service. Its shutdown must not wait for leases that a test left.
SETTINGS = {"MAX_BODY_BYTES": "65536", "SHUTDOWN_DRAIN_SECONDS": "1"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "partitions(number): the tests run with so many, not with `TEST_PARTITIONS`")
    config.addinivalue_line("markers", "corrupts_keys: the test corrupts keys, so they are not checked after it")


@pytest.fixture(scope="session")
def databases(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    databases = Databases(backend, tmp_path_factory.mktemp("redis"))
    yield databases
    databases.remove()


@pytest.fixture(scope="session")
def shared_redis(databases: Databases) -> RedisServer:
    """The Redis that has all databases."""
    assert databases.server is not None, "the test needs one Redis: mark it with `standalone_only`"
    return databases.server


@pytest.fixture(scope="session")
def redis_url(databases: Databases) -> str:
    """The database of the shared service."""
    return databases.url(0)


@pytest.fixture(scope="session")
def store_url(databases: Databases) -> str:
    """A database without a service, whose sweeper and reaper would interfere with tests of the store."""
    return databases.url(1)


@pytest.fixture
def spare_url(databases: Databases) -> str:
    """An empty database, for a service of the test's own."""
    url = databases.url(2)
    with sync_client(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def partitions(request: pytest.FixtureRequest) -> Partitions:
    """Those of `store_client` and of the managers: `TEST_PARTITIONS`, or as many as the marker `partitions` says."""
    marker = request.node.get_closest_marker("partitions")
    return Partitions(*marker.args) if marker else PARTITIONS


@pytest.fixture
async def pool(store_url: str, partitions: Partitions) -> AsyncIterator[Any]:
    """What a `StoreClient` is given: a pool of connections to one Redis, or another deployment."""
    pool = open_pool(store_url, len(partitions))
    yield pool
    await close_pool(pool)


@pytest.fixture
async def store_client(pool: Any, partitions: Partitions) -> AsyncIterator[StoreClient]:
    store_client = connect(pool, partitions=len(partitions))
    yield store_client
    await store_client.aclose()


@pytest.fixture
async def redis(
    pool: Any, store_url: str, request: pytest.FixtureRequest, partitions: Partitions
) -> AsyncIterator[Any]:
    """A client for all keys of the database: `Redis`, or the `RedisCluster` of redis-py. They are checked at the end.

    The check has connections of its own, because the test may have closed those of its deployment.
    """
    is_standalone = DEPLOYMENT == "standalone"
    client: Any = Redis(connection_pool=pool) if is_standalone else raw_client(store_url)
    await client.flushdb()
    if DEPLOYMENT == "cluster":  # as a start does: a change writes the number in its own partition only
        await connect(opened_again(pool), partitions=len(partitions)).write_version()
    yield client
    checked = pool if is_standalone else open_pool(store_url, len(partitions))
    try:
        if request.node.get_closest_marker("corrupts_keys") is None:
            assert await doctor_issues(checked, partitions) == []
            assert await lasting_inconsistencies(checked, client, partitions) == []
    finally:
        if not is_standalone:
            await close_pool(checked)
            await client.aclose()


async def lasting_inconsistencies(pool: Any, client: Redis, partitions: Partitions) -> list[str]:
    """Return what is inconsistent after a sweep; again if there is any, because a job may expire in between."""
    found: list[str] = []
    for _ in range(3):
        await JobStateManager(connect(pool, partitions=len(partitions)), ttl=WEEK).sweep()
        if not (found := await inconsistencies(client, partitions)):
            break
        await asyncio.sleep(0.05)
    return found


@pytest.fixture
def jobs(store_client: StoreClient, redis: Redis) -> JobStateManager:
    """A `JobStateManager` on an empty database."""
    return JobStateManager(store_client, ttl=WEEK)


@pytest.fixture
def leases(store_client: StoreClient, redis: Redis) -> LeaseManager:
    """A `LeaseManager` on the same database as `jobs`."""
    return LeaseManager(store_client, ttl=WEEK)


@pytest.fixture
def client(pool: Any, redis: Redis, partitions: Partitions) -> StoreClient:
    """A `StoreClient` of the database that `redis` has emptied."""
    return connect(pool, NullObserver(), partitions=len(partitions))


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown()


@pytest.fixture
async def hub(client: StoreClient, shutdown: Shutdown) -> AsyncIterator[EventHub]:
    hub = EventHub(client, shutdown)
    yield hub
    await hub.aclose()


@pytest.fixture
def new_redis(backend: Backend, tmp_path: Path) -> Iterator[NewRedis]:
    """A function that starts a Redis that the test may kill."""
    with backend.servers(tmp_path) as start:
        yield start


@pytest.fixture
def disturbed(new_redis: NewRedis, tmp_path: Path) -> Iterator[Outage]:
    """A service for a program of docs/clients.md, with disturbed requests and a restart."""
    with outage(new_redis(), tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def shared_service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), REDIS_URL=redis_url, **SETTINGS) as service:
        yield service


@pytest.fixture
def only_caller(shared_service: Service) -> Iterator[None]:
    """Pause the shared service for a test that counts the commands of Redis."""
    with paused(shared_service.process.pid):
        yield


@pytest.fixture
def api(shared_service: Service, redis_url: str) -> Iterator[httpx.Client]:
    """A client of the shared service on a database without jobs; checks every response against the API document.

    The events are kept, because the service reacts to their loss.
    """
    kept = {name.encode() for partition in PARTITIONS for name in (partition.events, partition.partitions)}
    with sync_client(redis_url) as client:
        if others := [name for name in client.scan_iter(count=1000) if name not in kept]:
            client.delete(*others)
    with httpx.Client(
        base_url=shared_service.url, timeout=10, event_hooks={"response": [conformance.check_response]}
    ) as http:
        yield http


@pytest.fixture
def consistent_store(redis_url: str) -> Iterator[None]:
    """Check after the test that the keys are consistent, once the service has swept the jobs that expired during it."""

    async def check() -> list[str]:
        async with raw_client(redis_url) as client:
            if await inconsistencies(client):
                await asyncio.sleep(SWEEP_INTERVAL.total_seconds() + 1)
            return await inconsistencies(client)

    yield
    assert asyncio.run(check()) == []
