"""A worker stops a function at its run time-out, and then reports nothing."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobstate import JobContext
from jobstate.worker.attempt import Attempt
from jobstate.worker.client import WorkerClient
from jobstate.worker.executors import runner_for
from tests.helpers.records import claim

#: The service's clock was set back between the last change and the claim: the deadline is before the start.
CLAIMED: dict[str, Any] = {
    "started_at": "2026-11-20T12:00:05.000000Z",
    "run_deadline_at": "2026-11-20T12:00:01.000000Z",
    "run_timeout_seconds": 1,
}


LEASE_LOST = {"type": "urn:jobstate:problem:lease-lost", "title": "Lease lost", "status": 409, "detail": "lost"}


def attempt_of(function: Callable[[JobContext], Any], sent: list[str], status: int = 409, **claimed: Any) -> Attempt:
    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        if status != 409:
            return httpx.Response(status)
        return httpx.Response(409, json=LEASE_LOST, headers={"Content-Type": "application/problem+json"})

    http = httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(respond))
    return Attempt(claim(**claimed), WorkerClient(http, ["default"], "ann", 3600), runner_for(function, "thread"))


async def test_the_time_counts_from_the_claim_whatever_the_clock_of_the_service_says() -> None:
    sent: list[str] = []
    began = asyncio.get_running_loop().time()

    await attempt_of(lambda context: context._stop.wait(60), sent, **CLAIMED).run()

    assert asyncio.get_running_loop().time() - began > 0.99  # timers of uvloop count whole milliseconds
    assert sent == []


async def test_a_stop_of_the_worker_after_the_run_timeout_releases_nothing() -> None:
    """A release would not count the attempt as a failed one."""
    sent: list[str] = []
    stopped, ended = threading.Event(), threading.Event()

    def work(context: JobContext) -> None:
        context._stop.wait(60)
        stopped.set()
        ended.wait(60)

    running = asyncio.create_task(attempt_of(work, sent, **CLAIMED).run())
    await asyncio.to_thread(stopped.wait, 60)
    running.cancel()
    await asyncio.sleep(0)
    ended.set()
    await running
    assert sent == []


@pytest.mark.parametrize("status", [409, 503])
async def test_a_stop_of_the_worker_before_it_releases_the_job(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr("jobstate.worker.attempt.RELEASE_TIMEOUT", 1)
    sent: list[str] = []
    started = threading.Event()

    def work(context: JobContext) -> None:
        started.set()
        context._stop.wait(60)

    running = asyncio.create_task(attempt_of(work, sent, status, **(CLAIMED | {"run_timeout_seconds": 600})).run())
    await asyncio.to_thread(started.wait, 60)
    running.cancel()
    await running
    assert {path.rpartition("/")[2] for path in sent} == {"release"}
    assert (len(sent) == 1) is (status == 409), "it is repeated until the time limit"
