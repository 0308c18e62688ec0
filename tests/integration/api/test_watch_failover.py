"""Watchers of 200 jobs while the service and Redis are killed and restarted."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import httpx
from httpx_sse import EventSource

from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service

JOBS = 200
#: Jobs that finish before each kill.
STEP = 50
TIMEOUT = 120

Seen = list[tuple[str, str]]


async def watch(http: httpx.AsyncClient, job_id: str) -> Seen:
    """Follow a job as an `EventSource` does, with reconnects; return the received ids and statuses."""
    seen: Seen = []
    while True:
        try:
            headers = {"Last-Event-ID": seen[-1][0]} if seen else {}
            async with http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
                if response.status_code == 204:
                    return seen
                if response.status_code == 200:
                    async for event in EventSource(response).aiter_sse():
                        if event.event == "changed":
                            seen.append((event.id, event.json()["status"]))
        except httpx.HTTPError:
            pass
        await asyncio.sleep(random.uniform(0.1, 0.3))


async def watch_all(http: httpx.AsyncClient) -> Seen:
    """Follow all jobs until each is finished; return the received positions and changes in order."""
    seen: Seen = []
    position = ""
    while True:
        try:
            headers = {"Last-Event-ID": position} if position else {}
            async with http.stream("GET", "/v1/events", headers=headers) as response:
                if response.status_code == 200:
                    async for event in EventSource(response).aiter_sse():
                        position = event.id or position
                        if event.event in {"changed", "reset"}:
                            seen.append((event.id, f"{event.json().get('job_id')} {event.json().get('status')}"))
                        if sum(change.endswith("completed") for _, change in seen) == JOBS:
                            return seen
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.2)


async def send(http: httpx.AsyncClient, method: str, path: str, body: object, key: str) -> None:
    """Repeat a request until it succeeds."""
    while True:
        try:
            response = await http.request(method, path, json=body, headers={"Idempotency-Key": key})
            if response.is_success:
                return
            assert response.status_code == 503, response.text
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.2)


async def test_every_watcher_receives_every_final_status_once(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = await asyncio.to_thread(new_redis)
    folder = tmp_path / "service"
    folder.mkdir()
    settings = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "MAX_WATCHERS_PER_CLIENT": "1000"}
    service = await asyncio.to_thread(Service, folder, **settings)
    jobs = [f"j{number}" for number in range(JOBS)]
    limits = httpx.Limits(max_connections=None)
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(base_url=service.url, timeout=30, limits=limits) as http,
        ):
            for job_id in jobs:
                await send(http, "POST", "/v1/jobs", {"job_id": job_id, "input_params": 1}, job_id)
            every = asyncio.create_task(watch_all(http))
            watchers = [asyncio.create_task(watch(http, job_id)) for job_id in jobs]
            for number, job_id in enumerate(jobs):
                await send(http, "PATCH", f"/v1/jobs/{job_id}", {"status": "running"}, f"{job_id}-run")
                await send(http, "PATCH", f"/v1/jobs/{job_id}", {"status": "completed"}, f"{job_id}-end")
                if number % STEP == STEP // 2:
                    for victim in (service, redis) if number < 2 * STEP else (redis, service):
                        await asyncio.to_thread(victim.kill)
                        await asyncio.to_thread(victim.start)
            *seen, history = await asyncio.gather(*watchers, every)
    finally:
        await asyncio.to_thread(service.stop)

    for statuses in seen:
        assert [status for _, status in statuses].count("completed") == 1
        assert statuses[-1][1] == "completed"
        assert len({version for version, _ in statuses}) == len(statuses)
    assert len({position for position, _ in history}) == len(history), "an id is sent once"
    assert [change for _, change in history if change.endswith("completed")] == [
        f"{job_id} completed" for job_id in jobs
    ]
