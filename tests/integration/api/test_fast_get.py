"""The fast path of GET for a job responds like the application."""

from typing import Any

import httpx
import pytest

#: A condition that no job matches: the request bypasses the fast path and gets the same response.
CONDITION = {"If-None-Match": '"none"'}


def comparable(response: httpx.Response) -> tuple[Any, ...]:
    varying = ("date", "x-correlation-id")
    headers = [(name, value) for name, value in response.headers.raw if name.decode().lower() not in varying]
    return response.status_code, response.content, headers


@pytest.mark.parametrize("state", ["pending", "running", "leased", "completed", "failed", "cancelled", "missing"])
def test_the_fast_path_responds_like_the_application(api: httpx.Client, state: str) -> None:
    created = {"job_id": "j", "input_params": {"é": [1, None]}, "slate_id": "daytona é", "delay_seconds": 0}
    if state != "missing":
        api.post("/v1/jobs", json=created).raise_for_status()
    if state == "leased":
        claim = {"queues": ["default"], "worker": "w", "lease_seconds": 5}
        api.post("/v1/claims", json=claim).raise_for_status()
    elif state not in ("pending", "missing"):
        api.patch("/v1/jobs/j", json={"status": "running", "progress": {"current": 1}}).raise_for_status()
        if state != "running":
            content = {"result": {"a": None}} if state == "completed" else {"error_message": "é"}
            api.patch("/v1/jobs/j", json={"status": state, **content}).raise_for_status()

    for accept in ("*/*", "application/json", "text/html, */*;q=0.1"):
        direct, conditional = (api.get("/v1/jobs/j", headers={"Accept": accept, **more}) for more in ({}, CONDITION))
        if state == "missing":
            assert (direct.status_code, conditional.status_code) == (404, 404)
        else:
            assert comparable(direct) == comparable(conditional)
            assert direct.status_code == 200


def test_the_fast_path_respects_accept(api: httpx.Client) -> None:
    api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}).raise_for_status()
    assert api.get("/v1/jobs/j", headers={"Accept": "text/html"}).status_code == 406
