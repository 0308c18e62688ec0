"""What is answered before the framework is what the framework would answer."""

from typing import Any

import httpx
import pytest

#: An entity tag that no record has: with it the question goes past the shortcut, to the same answer.
PAST = {"If-None-Match": '"none"'}


def answered(response: httpx.Response) -> tuple[Any, ...]:
    varying = ("date", "x-correlation-id")
    headers = [(name, value) for name, value in response.headers.raw if name.decode().lower() not in varying]
    return response.status_code, response.content, headers


@pytest.mark.parametrize("end", ["pending", "running", "leased", "completed", "failed", "cancelled", "gone"])
def test_the_fast_path_responds_like_the_application(api: httpx.Client, end: str) -> None:
    created = {"job_id": "j", "input_params": {"é": [1, None]}, "slate_id": "daytona é", "delay_seconds": 0}
    if end != "gone":
        api.post("/v1/jobs", json=created).raise_for_status()
    if end == "leased":
        claim = {"queues": ["default"], "worker": "w", "lease_seconds": 5}
        api.post("/v1/claims", json=claim).raise_for_status()
    elif end not in ("pending", "gone"):
        api.patch("/v1/jobs/j", json={"status": "running", "progress": {"current": 1}}).raise_for_status()
        if end != "running":
            content = {"result": {"a": None}} if end == "completed" else {"error_message": "é"}
            api.patch("/v1/jobs/j", json={"status": end, **content}).raise_for_status()

    for accept in ("*/*", "application/json", "text/html, */*;q=0.1"):
        direct, past = (api.get("/v1/jobs/j", headers={"Accept": accept, **more}) for more in ({}, PAST))
        if end == "gone":
            assert (direct.status_code, past.status_code) == (404, 404)
        else:
            assert answered(direct) == answered(past)
            assert direct.status_code == 200


def test_the_fast_path_respects_accept(api: httpx.Client) -> None:
    api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}).raise_for_status()
    assert api.get("/v1/jobs/j", headers={"Accept": "text/html"}).status_code == 406
