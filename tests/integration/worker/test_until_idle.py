"""A worker that runs what is due, and returns."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobstate import JobContext, RequestRejected, Worker

pytestmark = pytest.mark.usefixtures("consistent_store")


def create(api: httpx.Client, job_id: str, **fields: object) -> None:
    api.post("/v1/jobs", json={"job_id": job_id, "input_params": None, **fields}).raise_for_status()


def statuses(api: httpx.Client) -> dict[str, str]:
    return {job["job_id"]: job["status"] for job in api.get("/v1/jobs").json()["items"]}


def worker(api: httpx.Client, function: Callable[[JobContext], Any], **options: Any) -> Worker:
    return Worker(str(api.base_url), ["default"], function, **options)


async def answer(context: JobContext) -> object:
    """Return after the next claim, whose response is that no job is due."""
    await asyncio.sleep(0.2)
    return context.job_id


def test_it_runs_all_due_jobs_and_returns_their_number(api: httpx.Client) -> None:
    for number in range(3):
        create(api, f"j{number}")
    create(api, "later", delay_seconds=3600)
    assert worker(api, answer).run_until_idle() == 3
    assert statuses(api) == {"j0": "completed", "j1": "completed", "j2": "completed", "later": "pending"}


def test_without_a_due_job_it_returns_at_once(api: httpx.Client) -> None:
    assert worker(api, answer).run_until_idle() == 0


def test_it_runs_at_most_the_given_number_of_jobs_to_their_end(api: httpx.Client) -> None:
    for number in range(3):
        create(api, f"j{number}")
    assert worker(api, answer, concurrency=3, drain_seconds=0).run_until_idle(max_jobs=2) == 2
    assert sorted(statuses(api).values()) == ["completed", "completed", "pending"]


def test_it_can_be_used_again(api: httpx.Client) -> None:
    again = worker(api, answer)
    for number in range(2):
        create(api, f"j{number}")
        assert again.run_until_idle() == 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_it_runs_the_jobs_that_its_functions_create(api: httpx.Client, concurrency: int) -> None:
    def create_next(context: JobContext) -> None:
        number = context.input_params
        time.sleep(0.2)  # meanwhile no job is due
        if number < 3:
            create(api, f"j{number + 1}", input_params=number + 1)

    create(api, "j0", input_params=0)
    assert worker(api, create_next, concurrency=concurrency).run_until_idle() == 4


def test_it_runs_the_next_attempt_of_a_failed_job_if_it_is_due(api: httpx.Client) -> None:
    def fail(context: JobContext) -> None:
        raise ValueError("no")

    create(api, "now", max_attempts=2)
    create(api, "later", max_attempts=2, retry_delay_seconds=3600)
    assert worker(api, fail).run_until_idle() == 3
    assert statuses(api) == {"now": "failed", "later": "pending"}


async def test_it_runs_in_an_event_loop(api: httpx.Client) -> None:
    create(api, "j1")
    assert await worker(api, answer).serve_until_idle() == 1
    assert statuses(api) == {"j1": "completed"}


def test_a_stop_ends_it_after_the_running_job(api: httpx.Client) -> None:
    def stop(context: JobContext) -> None:
        stopping.stop()

    for number in range(2):
        create(api, f"j{number}")
    stopping = worker(api, stop)
    assert stopping.run_until_idle() == 1
    assert sorted(statuses(api).values()) == ["completed", "pending"]


def test_a_stopped_worker_runs_nothing(api: httpx.Client) -> None:
    create(api, "j1")
    stopped = worker(api, answer)
    stopped.stop()
    assert stopped.run_until_idle() == 0
    assert statuses(api) == {"j1": "pending"}


def test_a_rejected_claim_is_raised(api: httpx.Client) -> None:
    with pytest.raises(RequestRejected, match="queues"):
        Worker(str(api.base_url), ["no queue"], answer).run_until_idle()
