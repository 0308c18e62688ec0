"""A Redis that replies with errors: each kind has its own problem in the API, at `/ready` and in the log."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import Backend, RedisServer
from tests.helpers.service_process import Service

pytestmark = pytest.mark.standalone_only("makes one Redis refuse")

BACK = "Redis connected, JobStateManager initialized"
PASSWORD = "not-in-any-log"

Failure = Callable[[Redis], AbstractContextManager[None]]


def setting(name: str, value: str) -> Failure:
    """Return a context manager that sets an option of Redis."""

    @contextmanager
    def temporarily_set(redis: Redis) -> Iterator[None]:
        before = redis.config_get(name)[name]
        redis.config_set(name, value)
        yield
        redis.config_set(name, before)

    return temporarily_set


@contextmanager
def replica(redis: Redis) -> Iterator[None]:
    redis.replicaof("127.0.0.1", "1")
    yield
    redis.replicaof("NO", "ONE")


@contextmanager
def stale_replica(redis: Redis) -> Iterator[None]:
    with setting("replica-serve-stale-data", "no")(redis), replica(redis):
        yield


@contextmanager
def broken_disk(redis: Redis) -> Iterator[None]:
    """Make snapshots fail: the name of the file is that of a folder."""
    redis.bgsave()
    wait_until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", "a snapshot that fails")
    yield
    redis.config_set("stop-writes-on-bgsave-error", "no")


@contextmanager
def endless_script(redis: Redis) -> Iterator[None]:
    def run() -> None:
        with suppress(ResponseError):  # the script is killed
            redis.eval("while true do end", 0)

    script = threading.Thread(target=run)
    script.start()
    wait_until(lambda: rejects_writes(redis), "a Redis that is busy")
    yield
    redis.script_kill()
    script.join()


def rejects_writes(redis: Redis) -> bool:
    try:
        return not redis.ping()
    except ResponseError:
        return True


@contextmanager
def password(redis: Redis) -> Iterator[None]:
    with setting("requirepass", PASSWORD)(redis):
        redis.client_kill_filter(_type="normal", skipme=True)
        yield


#: What is wrong, the problem type for it, and whether jobs can still be read.
FAILURES: dict[str, tuple[Failure, str, bool]] = {
    "OOM": (setting("maxmemory", "1"), "store-out-of-memory", True),
    "READONLY": (replica, "store-read-only", True),
    "MASTERDOWN": (stale_replica, "store-read-only", False),
    "NOREPLICAS": (setting("min-replicas-to-write", "1"), "store-read-only", True),
    "BUSY": (endless_script, "store-busy", False),
    "NOAUTH": (password, "store-access-denied", False),
    "MISCONF": (broken_disk, "store-read-only", True),
}


@pytest.fixture(scope="module")
def server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    busy_soon, snapshots_fail = ("--busy-reply-threshold", "1"), ("--dbfilename", "appendonlydir")
    folder = tmp_path_factory.mktemp("redis")
    server = backend.redis(folder, *busy_soon, *snapshots_fail, "--save", "3600 1000000")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def service(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    url = f"redis://127.0.0.1:{server.port}/0"
    with Service(tmp_path_factory.mktemp("service"), REDIS_URL=url) as service:
        yield service


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=10) as api:
        yield api


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    with Redis(port=server.port) as redis:
        redis.ping()  # before a password is required
        yield redis


def is_problem(response: httpx.Response, name: str) -> bool:
    return (
        response.status_code == 503
        and response.headers["retry-after"] == "1"
        and response.headers["content-type"] == "application/problem+json"
        and response.json()["type"] == f"urn:jobstate:problem:{name}"
    )


@pytest.mark.parametrize("failure", FAILURES)
def test_every_error_of_redis_has_its_own_problem(
    failure: str, service: Service, api: httpx.Client, redis: Redis
) -> None:
    refuse, problem, readable = FAILURES[failure]
    job = api.post("/v1/jobs", json={"input_params": 1}).raise_for_status().headers["location"]
    api.post(f"{job}/cancel").raise_for_status()

    with refuse(redis):
        created, ready = api.post("/v1/jobs", json={"input_params": 1}), api.get("/ready")
        read, health = api.get(job), api.get("/health")

    assert is_problem(created, problem), created.text
    # Reads and deletions still work when Redis is out of memory.
    assert ready.status_code == 200 if failure == "OOM" else is_problem(ready, problem), ready.text
    assert read.status_code == 200 if readable else is_problem(read, problem), read.text
    assert health.status_code == 200
    assert PASSWORD not in service.log + ready.text
    assert api.get("/ready").status_code == 200
    assert api.post("/v1/jobs", json={"input_params": 1}).status_code == 201


def test_jobs_can_be_deleted_when_redis_is_out_of_memory(api: httpx.Client, redis: Redis) -> None:
    job = api.post("/v1/jobs", json={"input_params": 1}).raise_for_status().headers["location"]
    api.post(f"{job}/cancel").raise_for_status()

    with setting("maxmemory", "1")(redis):
        assert api.delete(job).status_code == 204


def test_a_wrong_password_is_reported_until_it_is_corrected(server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    with (
        password(redis),
        Service(tmp_path, REDIS_URL=f"redis://:wrong-{PASSWORD}@127.0.0.1:{server.port}/0") as service,
    ):
        assert is_problem(httpx.get(f"{service.url}/ready"), "store-access-denied")

        redis.config_set("requirepass", f"wrong-{PASSWORD}")

        wait_until(lambda: BACK in service.log, "the log line")
        assert httpx.get(f"{service.url}/ready").status_code == 200
        assert PASSWORD not in service.log + service.banner


def test_a_redis_that_is_loading_is_reported_until_it_is_ready(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = new_redis("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    with Redis(port=redis.port) as client:
        client.mset({f"key-{number}": number for number in range(4000)})
        client.bgrewriteaof()  # a format that Redis loads in small steps
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the end of the rewrite")
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        wait_until(lambda: BACK in service.log, "the log line")
        redis.kill()
        loading = threading.Thread(target=redis.start)
        loading.start()

        wait_until(lambda: is_problem(httpx.get(f"{service.url}/ready"), "store-loading"), "a Redis that loads")
        created = httpx.post(f"{service.url}/v1/jobs", json={"input_params": 1})
        health = httpx.get(f"{service.url}/health")

        loading.join()
        assert is_problem(created, "store-loading"), created.text
        assert health.status_code == 200
        assert httpx.get(f"{service.url}/ready").status_code == 200
