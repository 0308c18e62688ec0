"""What was acknowledged is there after a kill of any process."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import redis as sync_redis

from tests.integration.servers import RedisServer, Service, wait_until

LIMIT = 3.5


def make_jobs(url: str, count: int = 20) -> dict[str, bytes]:
    """Create jobs in several states and return their records as they were acknowledged."""
    with httpx.Client(base_url=url) as api:
        for number in range(count):
            api.post("/v1/jobs", json={"job_id": f"j{number}", "input_params": {"n": number}}).raise_for_status()
            if number % 2:
                api.patch(f"/v1/jobs/j{number}", json={"status": "running"}).raise_for_status()
            if number % 4 == 3:
                result = {"status": "completed", "result": [number]}
                api.patch(f"/v1/jobs/j{number}", json=result).raise_for_status()
        return {f"j{number}": api.get(f"/v1/jobs/j{number}").content for number in range(count)}


def read_jobs(url: str, job_ids: list[str]) -> dict[str, bytes]:
    with httpx.Client(base_url=url) as api:
        return {job_id: api.get(f"/v1/jobs/{job_id}").content for job_id in job_ids}


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.HTTPError:
        return False


def test_jobs_survive_a_kill_of_redis(new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = new_redis()
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        before = make_jobs(service.url)

        redis.kill()
        redis.start()

        wait_until(lambda: ready(service.url), "readiness")
        assert read_jobs(service.url, list(before)) == before
        stats = httpx.get(f"{service.url}/v1/stats").json()
        assert stats["statuses"] == {"pending": 10, "running": 5, "completed": 5, "failed": 0, "cancelled": 0}


def test_jobs_survive_a_kill_of_the_service(new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = new_redis()
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        before = make_jobs(service.url)

        service.kill()
        service.start()

        assert read_jobs(service.url, list(before)) == before


def test_jobs_survive_a_kill_of_everything(new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = new_redis()
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        before = make_jobs(service.url)

        redis.kill()
        service.kill()
        redis.start()
        service.start()

        assert read_jobs(service.url, list(before)) == before


def test_while_redis_is_away_the_service_says_so_and_recovers_by_itself(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = new_redis()
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        redis.kill()

        with httpx.Client(base_url=service.url, timeout=10) as api:
            assert api.get("/health").status_code == 200
            for method, path, body in [
                ("GET", "/ready", None),
                ("GET", "/v1/jobs/j", None),
                ("GET", "/v1/jobs", None),
                ("GET", "/v1/stats", None),
                ("POST", "/v1/jobs", {"input_params": 1}),
                ("PATCH", "/v1/jobs/j", {"status": "running"}),
                ("POST", "/v1/jobs/j/cancel", None),
                ("DELETE", "/v1/jobs/j", None),
                ("POST", "/v1/batch-get", {"job_ids": ["j"]}),
            ]:
                started = time.monotonic()
                response = api.request(method, path, json=body)
                assert time.monotonic() - started < LIMIT
                assert (response.status_code, response.headers["retry-after"]) == (503, "1"), path
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["type"] == "urn:jobstate:problem:store-unreachable"
                assert "Traceback" not in response.text

        redis.start()
        wait_until(lambda: ready(service.url), "readiness")


def test_the_service_starts_without_redis_and_serves_when_it_comes(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = new_redis()
    redis.kill()
    with Service(tmp_path, REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port)) as service:
        assert httpx.get(f"{service.url}/health").status_code == 200
        assert httpx.get(f"{service.url}/ready").status_code == 503

        redis.start()

        wait_until(lambda: ready(service.url), "readiness")
        wait_until(lambda: "Redis connected, JobStateManager initialized" in service.log, "the log line")


def test_the_service_logs_its_connection_and_its_shutdown(redis_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, REDIS_URL=redis_url) as service:
        wait_until(lambda: "Redis connected, JobStateManager initialized" in service.log, "the log line")

        assert service.stop() == 0

    events = [json.loads(line)["event"] for line in service.log.splitlines()]
    assert events.count("Redis connected, JobStateManager initialized") == 1
    assert events.count("Shutting down Redis connection") == 1


def test_expired_jobs_leave_nothing_although_nobody_asks(new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = new_redis()
    with (
        Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", JOB_TTL_SECONDS="1") as service,
        sync_redis.Redis(port=redis.port) as client,
    ):
        make_jobs(service.url)

        wait_until(lambda: set(client.keys()) == {b"jobs:clock", b"jobs:events"}, "the sweep")


def test_a_redis_that_loads_or_is_full_or_read_only_is_told_apart(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = new_redis()
    with (
        Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service,
        sync_redis.Redis(port=redis.port) as client,
        httpx.Client(base_url=service.url) as api,
    ):
        api.post("/v1/jobs", json={"job_id": "done", "input_params": 1}).raise_for_status()
        api.post("/v1/jobs/done/cancel").raise_for_status()

        client.config_set("maxmemory", "1")
        full = api.post("/v1/jobs", json={"input_params": 1})
        freed = api.delete("/v1/jobs/done")
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", "1")
        read_only = api.post("/v1/jobs", json={"input_params": 1})
        client.replicaof("NO", "ONE")
        recovered = api.post("/v1/jobs", json={"input_params": 1})

    assert (full.status_code, full.json()["type"]) == (503, "urn:jobstate:problem:store-full")
    assert freed.status_code == 204
    assert (read_only.status_code, read_only.json()["type"]) == (503, "urn:jobstate:problem:store-read-only")
    assert recovered.status_code == 201
