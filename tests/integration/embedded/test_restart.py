"""Acknowledged jobs survive the kill of any process."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import redis as sync_redis

from tests.helpers.partitions import OF_SEVERAL, PARTITIONS
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service


def make_jobs(url: str, count: int = 20, *, prefix: str = "j") -> dict[str, bytes]:
    """Create jobs in several states and return their acknowledged records."""
    job_ids = [f"{prefix}{number}" for number in range(count)]
    with httpx.Client(base_url=url) as api:
        for number, job_id in enumerate(job_ids):
            api.post("/v1/jobs", json={"job_id": job_id, "input_params": {"n": number}}).raise_for_status()
            if number % 2:
                api.patch(f"/v1/jobs/{job_id}", json={"status": "running"}).raise_for_status()
            if number % 4 == 3:
                result = {"status": "completed", "result": [number]}
                api.patch(f"/v1/jobs/{job_id}", json=result).raise_for_status()
        return {job_id: api.get(f"/v1/jobs/{job_id}").content for job_id in job_ids}


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


def test_the_service_logs_its_connection_and_its_shutdown(spare_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, REDIS_URL=spare_url) as service:
        wait_until(lambda: "Redis connected, JobStateManager initialized" in service.log, "the log line")

        assert service.stop() == 0

    events = [json.loads(line)["event"] for line in service.log.splitlines()]
    assert events.count("Redis connected, JobStateManager initialized") == 1
    assert events.count("Shutting down Redis connection") == 1


def test_expired_jobs_are_swept_without_any_request(new_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = new_redis()
    with (
        Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", JOB_TTL_SECONDS="1") as service,
        sync_redis.Redis(port=redis.port) as client,
    ):
        homes = {PARTITIONS.of(job_id) for job_id in make_jobs(service.url)}
        left = {"jobs:version", *OF_SEVERAL, *(name for one in homes for name in (one.meta, one.events))}

        wait_until(lambda: {name.decode() for name in client.scan_iter(count=1000)} == left, "the sweep")
