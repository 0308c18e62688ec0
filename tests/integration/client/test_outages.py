"""Waits that outlive the service and Redis, on one client."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from jobstate import AsyncJobs, Jobs
from tests.helpers.polling import TIMEOUT, wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service

COUNT = 200
WAIT = 120.0


class Outages:
    """A service on its own Redis. Completes jobs, and kills the service and Redis in between."""

    def __init__(self, redis: RedisServer, service: Service) -> None:
        self._redis = redis
        self.service = service
        self.url = service.url

    def complete_all(self, job_ids: list[str]) -> None:
        """Complete a third of the jobs, then each with the service or Redis killed and started again."""
        third = len(job_ids) // 3
        self._complete(job_ids[:third])
        self.service.kill()
        self.service.start()
        self._complete(job_ids[third : 2 * third])
        self._redis.kill()
        wait_until(lambda: httpx.get(f"{self.url}/ready").status_code == 503, "the outage")
        self._redis.start()
        self._complete(job_ids[2 * third :])

    def _complete(self, job_ids: list[str]) -> None:
        with httpx.Client(base_url=self.url) as http:
            wait_until(lambda: http.get("/ready").status_code == 200, "the service")
            for job_id in job_ids:
                for change in ({"status": "running"}, {"status": "completed", "result": job_id}):
                    http.patch(f"/v1/jobs/{job_id}", json=change).raise_for_status()


@pytest.fixture
def outages(new_redis: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Outages]:
    redis = new_redis()
    environment = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "SHUTDOWN_DRAIN_SECONDS": "1"}
    with Service(tmp_path, **environment) as service:
        yield Outages(redis, service)


def test_two_hundred_waiting_threads_get_their_results_once(outages: Outages) -> None:
    with Jobs(outages.url) as jobs, ThreadPoolExecutor(COUNT) as threads:
        handles = [jobs.submit({"number": number}) for number in range(COUNT)]
        results = [threads.submit(handle.wait, WAIT) for handle in handles]
        outages.complete_all([handle.id for handle in handles])
        assert [result.result(WAIT) for result in results] == [handle.id for handle in handles]


async def test_two_hundred_waiting_tasks_get_their_results_once(outages: Outages) -> None:
    async with AsyncJobs(outages.url) as jobs:
        handles = [await jobs.submit({"number": number}) for number in range(COUNT)]
        results = asyncio.gather(*(handle.wait(WAIT) for handle in handles))
        await asyncio.to_thread(outages.complete_all, [handle.id for handle in handles])
        assert await results == [handle.id for handle in handles]


def test_changes_go_on_after_the_service_was_killed(outages: Outages) -> None:
    with Jobs(outages.url) as jobs:
        handles = [jobs.submit(number) for number in range(6)]
        completing = threading.Thread(target=outages.complete_all, args=([handle.id for handle in handles],))
        completing.start()
        assert [[change.status for change in handle.changes()][-1] for handle in handles] == ["completed"] * 6
        completing.join(TIMEOUT)


def test_a_change_that_is_sent_while_the_service_is_away_takes_effect_once(
    outages: Outages,
) -> None:
    outages.service.kill()
    with Jobs(outages.url) as jobs, ThreadPoolExecutor(1) as threads:
        submitted = threads.submit(jobs.submit, {"late": True}, idempotency_key="once")
        outages.service.start()
        handle = submitted.result(TIMEOUT)
        assert jobs.submit({"late": True}, idempotency_key="once").id == handle.id
        assert [listed.id for listed in jobs.list()] == [handle.id]
