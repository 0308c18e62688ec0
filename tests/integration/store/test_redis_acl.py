"""The Redis users of docs/security.md have exactly the commands that the service and the doctor need."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import NoPermissionError

from service.domain.errors import StoreAccessDenied
from service.domain.jobs import JobFilter, Progress
from service.domain.rate_limits import RateLimit
from service.domain.shutdown import Shutdown
from service.store.doctor import check
from service.store.events.hub import EventHub
from service.store.events.job_watcher import JobWatcher
from service.store.events.positions import START, Position
from service.store.events.stream import EventStream
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partitions import Partitions
from service.store.pool import create_pool
from service.store.queues import QueueManager
from service.store.rate_limiter import RateLimiter
from service.store.redis_commands import (
    DOCTOR_COMMANDS,
    OPTIONAL_COMMANDS,
    REPAIR_COMMANDS,
    REQUIRED_COMMANDS,
    acl_names,
)
from tests.helpers.cli_process import jobstate
from tests.helpers.partitions import PARTITIONS, connect, job_key
from tests.helpers.paths import ROOT
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import Backend, ProcessRedis, RedisServer
from tests.helpers.service_process import Service

pytestmark = pytest.mark.standalone_only("the users of one Redis")

DOCUMENT = ROOT / "docs" / "security.md"
USERS = {user: line for line, user in re.findall(r"^(ACL SETUSER (\S+) .*)$", DOCUMENT.read_text(), re.MULTILINE)}
PASSWORD = "PASSWORD"
#: The partition of the job `a`.
HOME = PARTITIONS.of("a")
#: The position before all events.
BEGINNING = str(Position((START,) * len(PARTITIONS)))
#: Commands that redis-py tries, and does not need.
TRIED = {"client|setinfo", "client|maint_notifications"}


@pytest.fixture(scope="module")
def server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = backend.redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.remove()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Redis]:
    """The default user, on an empty database with the documented users."""
    with Redis(port=server.port) as admin:
        admin.flushall()
        for user, line in USERS.items():
            execute(admin, "ACL", "DELUSER", user)
            execute(admin, *line.split())
        execute(admin, "ACL", "LOG", "RESET")
        execute(admin, "SCRIPT", "FLUSH")
        yield admin


def url_of(server: RedisServer, user: str, database: int = 0) -> str:
    return f"redis://{user}:{PASSWORD}@127.0.0.1:{server.port}/{database}"


@asynccontextmanager
async def pool_of(server: RedisServer, user: str, database: int = 0) -> AsyncIterator[BlockingConnectionPool]:
    pool = create_pool(url_of(server, user, database))
    try:
        yield pool
    finally:
        await pool.disconnect()


def execute(admin: Redis, *command: str) -> None:
    admin.execute_command(*command)  # type: ignore[no-untyped-call]


def denied(admin: Redis) -> set[str]:
    """Return the commands that Redis has denied since the users were created."""
    return {str(entry["object"]) for entry in admin.acl_log()} - TRIED


async def use_service(pool: BlockingConnectionPool) -> None:
    """Do everything that a service does for clients and workers, and in the background."""
    client = connect(pool)
    jobs, leases = JobStateManager(client, ttl=timedelta(days=7)), LeaseManager(client, ttl=timedelta(days=7))
    await jobs.write_version()
    await lease_and_complete(jobs, leases)
    await read(jobs, pool)
    await cancel_and_delete(jobs)
    await expire(pool)
    queues = QueueManager(client)
    await queues.configure_queue("default", max_running=2)
    await jobs.create_job("c", 1)
    assert await leases.claim_job(["default"], "ann")
    await queues.configure_queue("default", max_running=None)
    await queues.start_drain(60)
    await queues.end_drain()
    await queues.get_queues()
    await leases.reap()
    await RateLimiter(client, RateLimit(10, 1)).acquire("client")
    await use_idle_connection(pool)


async def lease_and_complete(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("a", {"x": 1}, "correlation", slate_id="slate")
    assert await jobs.get_job("a")
    first = await leases.claim_job(["default"], "ann", claim_key="k")
    assert first
    assert first == await leases.claim_job(["default"], "ann", claim_key="k")
    await leases.heartbeat("a", first.lease.token, progress=Progress(current=1))
    await leases.release_job("a", first.lease.token)
    second = await leases.claim_job(["default"], "ann")
    assert second
    await jobs.update_job_status("a", "completed", result=1, lease_token=second.lease.token)


async def read(jobs: JobStateManager, pool: BlockingConnectionPool) -> None:
    filters = JobFilter(slate_id="slate")
    assert (await jobs.get_result("a")).result
    assert await jobs.get_history("a")
    assert [job.job_id for job in (await jobs.list_jobs(filters, include=["result"])).items] == ["a"]
    assert [job.job_id for job in (await jobs.get_jobs(["a"])).items] == ["a"]
    assert (await jobs.get_stats()).statuses["completed"] == 1
    client, shutdown = connect(pool), Shutdown()
    hub = EventHub(client, shutdown)
    try:
        timeline, watching = EventStream(client, hub, shutdown), JobWatcher(client, hub, shutdown)
        with timeline.subscribe() as subscription, watching.watch("a") as watch:
            assert [one async for one in watching.follow(watch, await jobs.get_result("a"), None)]
            async with asyncio.timeout(10):
                followed = timeline.follow(subscription, BEGINNING, filters)
                async for one in followed:
                    if isinstance(one, list):
                        break
                await followed.aclose()
    finally:
        await hub.aclose()


async def cancel_and_delete(jobs: JobStateManager) -> None:
    await jobs.create_job("b", 1, queue="other", delay_seconds=60)
    await jobs.cancel_job("b", change_id="cancel")
    await jobs.delete_job("b", change_id="delete")
    await jobs.delete_job("b", change_id="delete")


async def expire(pool: BlockingConnectionPool) -> None:
    brief = JobStateManager(connect(pool), ttl=timedelta(milliseconds=20))
    await brief.create_job("brief", 1)
    deadline = time.monotonic() + 10
    while not await brief.sweep():
        assert time.monotonic() < deadline, "the job did not expire"


async def use_idle_connection(pool: BlockingConnectionPool) -> None:
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    connection.next_health_check = 0
    try:
        await connection.check_health()
    except NoPermissionError as error:
        raise StoreAccessDenied(str(error)) from error
    finally:
        await pool.release(connection)


async def run_doctor(pool: BlockingConnectionPool, *, repair: bool) -> None:
    async for _ in check(connect(pool), repair=repair, rate=None):
        pass


def damage(admin: Redis) -> None:
    """Create jobs, and an issue of every kind that the doctor repairs."""

    async def create() -> None:
        async with pool_of_default(admin) as pool:
            jobs = JobStateManager(connect(pool), ttl=timedelta(days=7))
            for name in ("a", "b"):
                await jobs.create_job(name, 1, slate_id="slate")
            await QueueManager(connect(pool)).configure_queue("default", max_running=2)

    asyncio.run(create())
    admin.persist(job_key("a"))
    admin.zrem(HOME.by_created("default", "pending"), "a")
    admin.zadd(HOME.by_created("default", "pending"), {"nobody": 1})
    admin.srem(HOME.queue_names, "default")
    admin.sadd(HOME.queue_names, "nobody")
    admin.hdel(HOME.meta, "clock")
    admin.set(HOME.fsync, 1)
    admin.expire(HOME.version, 1000)
    admin.expire(HOME.events, 1000)
    execute(admin, "SCRIPT", "FLUSH")


@asynccontextmanager
async def pool_of_default(admin: Redis) -> AsyncIterator[BlockingConnectionPool]:
    pool = create_pool(f"redis://127.0.0.1:{admin.connection_pool.connection_kwargs['port']}/0")
    try:
        yield pool
    finally:
        await pool.disconnect()


async def test_the_documented_user_may_do_everything_the_service_needs(server: RedisServer, admin: Redis) -> None:
    async with pool_of(server, "jobstate") as pool:
        await JobStateManager(connect(pool)).ping()
        await use_service(pool)
    assert denied(admin) == set()


@pytest.mark.parametrize("command", acl_names(REQUIRED_COMMANDS))
async def test_the_service_needs_each_command_of_its_user(command: str, server: RedisServer, admin: Redis) -> None:
    execute(admin, "ACL", "SETUSER", "jobstate", f"-{command}")
    async with pool_of(server, "jobstate") as pool:
        with pytest.raises(StoreAccessDenied, match=re.escape(command)):
            await JobStateManager(connect(pool)).ping()
        execute(admin, "SCRIPT", "FLUSH")
        execute(admin, "ACL", "LOG", "RESET")
        with pytest.raises(StoreAccessDenied):
            await use_service(pool)
    assert denied(admin) == {command}


@pytest.mark.parametrize("patterns", ["~job:* ~jobs:*", "~job:* ~{p*}:*", "~jobs:* ~{p*}:*"])
async def test_the_service_needs_each_pattern_of_keys(patterns: str, server: RedisServer, admin: Redis) -> None:
    execute(admin, "ACL", "SETUSER", "jobstate", "resetkeys", *patterns.split())
    async with pool_of(server, "jobstate") as pool:
        with pytest.raises(StoreAccessDenied):
            await JobStateManager(connect(pool)).ping()


@pytest.mark.parametrize(("user", "repair"), [("jobstate-doctor", False), ("jobstate-repair", True)])
def test_the_documented_users_may_do_everything_the_doctor_needs(
    user: str, repair: bool, server: RedisServer, admin: Redis
) -> None:
    damage(admin)
    result = jobstate("", "doctor", "--redis-url", url_of(server, user), *(["--repair"] if repair else []))
    assert result.code == (0 if repair else 1), result
    assert "durability not checked" in result.out.decode()
    assert PASSWORD not in result.out.decode() + result.err
    assert denied(admin) <= {"info"}


@pytest.mark.parametrize("command", acl_names((*DOCTOR_COMMANDS, *REPAIR_COMMANDS)))
async def test_the_doctor_needs_each_command_of_its_user(command: str, server: RedisServer, admin: Redis) -> None:
    await asyncio.to_thread(damage, admin)
    repair = command not in acl_names(DOCTOR_COMMANDS)
    user = "jobstate-repair" if repair else "jobstate-doctor"
    execute(admin, "ACL", "SETUSER", user, f"-{command}")
    async with pool_of(server, user) as pool:
        with pytest.raises(StoreAccessDenied):
            await (use_idle_connection(pool) if command == "ping" else run_doctor(pool, repair=repair))
    assert denied(admin) == {command}


def test_the_repair_of_a_lost_version_of_several_partitions_needs_set(server: RedisServer, admin: Redis) -> None:
    partitions = Partitions(16)

    async def create() -> None:
        async with pool_of_default(admin) as pool:
            await JobStateManager(connect(pool, partitions=16), ttl=timedelta(days=7)).create_job("a", 1)

    asyncio.run(create())
    admin.delete(partitions[3].version)
    repair = "doctor", "--redis-url", url_of(server, "jobstate-repair"), "--repair"
    assert jobstate("", *repair).code != 0
    assert denied(admin) - {"info"} == {"set"}
    execute(admin, "ACL", "SETUSER", "jobstate-repair", "+set")
    assert jobstate("", *repair).code == 0
    assert admin.get(partitions[3].version) == b"2"


COPY = OPTIONAL_COMMANDS["`jobstate copy` into this Redis, by `jobstate-repair`"]


@pytest.mark.parametrize("missing", ["", *sorted({*acl_names(COPY)} - {"unwatch"})])  # that one follows a refusal
def test_a_copy_needs_the_documented_rights(missing: str, server: RedisServer, admin: Redis) -> None:
    damage(admin)
    admin.delete(HOME.by_created("default", "pending"))

    async def drain() -> None:
        async with pool_of_default(admin) as pool:
            client = connect(pool)
            await JobStateManager(client, ttl=timedelta(days=7)).create_job("c", 1)
            await QueueManager(client).start_drain(600)

    asyncio.run(drain())
    rights = [f"+{name}" for name in acl_names(COPY) if name != missing]
    execute(admin, "ACL", "SETUSER", "jobstate-repair", "+select", *rights)
    urls = url_of(server, "jobstate-doctor"), url_of(server, "jobstate-repair", 1)
    result = jobstate("", "copy", *urls, "--redis-partitions", "16")
    assert result.code == (1 if missing else 0), result
    assert denied(admin) == ({missing} if missing else set())


async def test_a_database_other_than_0_needs_select(server: RedisServer, admin: Redis) -> None:
    async with pool_of(server, "jobstate", 1) as pool:
        with pytest.raises(StoreAccessDenied, match="select"):
            await JobStateManager(connect(pool)).ping()
        execute(admin, "ACL", "SETUSER", "jobstate", "+select")
        await JobStateManager(connect(pool)).ping()


async def test_waiting_for_fsync_needs_waitaof(tmp_path: Path) -> None:
    embedded = ProcessRedis(tmp_path)  # the backend's server may be a Redis 7.0, which does not know the command
    try:
        with Redis(port=embedded.port) as admin:
            execute(admin, *USERS["jobstate"].split())
            async with pool_of(embedded, "jobstate") as pool:
                jobs = JobStateManager(pool, waitaof=True)
                with pytest.raises(StoreAccessDenied, match="waitaof"):
                    await jobs.create_job("a", 1)
                execute(admin, "ACL", "SETUSER", "jobstate", "+waitaof")
                await jobs.create_job("b", 1)
    finally:
        embedded.remove()


def metric(service: Service, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", httpx.get(f"{service.url}/metrics").raise_for_status().text, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_redis_that_denies_info_is_up_with_unknown_durability(
    server: RedisServer, admin: Redis, tmp_path: Path
) -> None:
    with Service(tmp_path, REDIS_URL=url_of(server, "jobstate")) as service:
        wait_until(lambda: "redis durability not checked" in service.log, "the log line")
        assert httpx.get(f"{service.url}/ready").status_code == 200
        assert (metric(service, "jobstate_redis_up"), metric(service, "jobstate_redis_durability_known")) == (1, 0)
        assert "jobstate_redis_warnings" not in httpx.get(f"{service.url}/metrics").text
        assert service.log.count("redis durability not checked") == 1

        execute(admin, "ACL", "SETUSER", "jobstate", "+info")

        assert metric(service, "jobstate_redis_durability_known") == 1
        assert service.stop() == 0
    assert "Traceback" not in service.log + service.banner
