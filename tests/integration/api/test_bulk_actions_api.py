"""Bulk actions over HTTP; `store/test_bulk_actions.py` tests what they do with jobs."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.api_keys import generate_key, hash_key
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.api.test_api import invalid, problem

pytestmark = pytest.mark.usefixtures("consistent_store")

PATH = "/v1/bulk-actions"
ILLEGAL = "urn:jobstate:problem:illegal-transition"


def start(api: httpx.Client, action: str, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.post(PATH, json={"action": action, **body}, headers=headers)


def ended(api: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    """Return the action that was started, once it has ended."""
    assert response.status_code == 202, response.text
    path = response.headers["Location"]

    def read() -> Any:
        action = api.get(path).json()
        return action if action.get("state") in {"done", "aborted"} else None  # 503 while Redis is slow

    action: dict[str, Any] = wait_until(read, "the end of the action")
    return action


def create(api: httpx.Client, *job_ids: str, status: str | None = None, **fields: Any) -> None:
    for job_id in job_ids:
        api.post("/v1/jobs", json={"job_id": job_id, "input_params": 1, **fields}).raise_for_status()
        if status is not None:
            api.patch(f"/v1/jobs/{job_id}", json={"status": status}).raise_for_status()


def test_failed_jobs_are_retried_and_the_action_says_how_many(api: httpx.Client) -> None:
    create(api, "a", "b", status="failed", labels={"team": "blue"})
    create(api, "c", status="failed")
    create(api, "d", labels={"team": "blue"})

    response = start(api, "retry", filter={"label": ["team:blue"]})

    started = response.json()
    assert response.headers["Location"] == f"{PATH}/{started['bulk_action_id']}"
    action = ended(api, response)
    assert action == started | {
        "state": "done",
        "matched": 3,
        "done": 2,
        "refused": {ILLEGAL: 1},
        "examples": [{"job_id": "d", "type": ILLEGAL}],
        "finished_at": action["finished_at"],
    }
    assert started["filter"] == {"label": ["team:blue"]}
    assert [api.get(f"/v1/jobs/{job_id}").json()["status"] for job_id in "abcd"] == [
        *("pending", "pending", "failed", "pending")
    ]
    assert api.get(PATH).json() == {"items": [action]}


def test_every_filter_and_option_is_returned_as_it_was_sent(api: httpx.Client) -> None:
    sent = {
        **{"status": "failed", "queue": "q", "slate_id": "s", "correlation_id": "c", "label": ["a:b", "c:d"]},
        **{"created_after": "2026-01-01T00:00:00Z", "created_before": "2027-01-01T00:00:00+02:00"},
    }
    action = ended(api, start(api, "cancel", filter=sent, dry_run=True, expect=0))
    assert action["filter"] == sent
    assert (action["action"], action["dry_run"], action["expect"]) == ("cancel", True, 0)
    assert (action["state"], action["matched"]) == ("done", 0)


def test_another_number_than_expected_is_the_problem_of_the_action(api: httpx.Client) -> None:
    create(api, "a", "b")
    action = ended(api, start(api, "cancel", filter={"status": "pending"}, expect=3))
    assert (action["state"], action["matched"], action["done"]) == ("aborted", 2, 0)
    assert action["problem"]["type"] == "urn:jobstate:problem:unexpected-count"
    assert action["problem"]["detail"] == "2 jobs match, and `expect` is 3. No job was changed."
    assert api.get("/v1/stats").json()["statuses"]["pending"] == 2


def test_a_repeated_request_starts_nothing(api: httpx.Client) -> None:
    create(api, "a", status="failed")
    first = start(api, "retry", "key", filter={"status": "failed"})
    action = ended(api, first)
    again = start(api, "retry", "key", filter={"status": "failed"})
    assert (again.status_code, again.json(), again.headers["Idempotency-Replayed"]) == (202, action, "true")
    assert "Idempotency-Replayed" not in first.headers
    problem(start(api, "retry", "key", filter={"status": "cancelled"}), 422, "idempotency-key-reused")


def test_an_action_is_aborted_and_stays_so(api: httpx.Client) -> None:
    path = start(api, "cancel", filter={"queue": "none"}).headers["Location"]
    aborted = api.delete(path)
    assert aborted.status_code == 200
    assert aborted.json()["state"] in {"aborted", "done"}
    assert "problem" not in aborted.json()
    assert api.get(path).json() == aborted.json() == api.delete(path).json()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_action_is_not_found(api: httpx.Client, method: str) -> None:
    problem(api.request(method, f"{PATH}/nothing"), 404, "bulk-action-not-found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "cancel", "filter": {}}, "filter"),
        ({"action": "cancel", "filter": {"label": []}}, "filter.label"),
        ({"action": "cancel"}, "filter"),
        ({"action": "pause", "filter": {"queue": "q"}}, "action"),
        ({"action": "cancel", "filter": {"status": "odd"}}, "filter.status"),
        ({"action": "cancel", "filter": {"queue": "a b"}}, "filter.queue"),
        ({"action": "cancel", "filter": {"label": ["none"]}}, "filter.label"),
        ({"action": "cancel", "filter": {"label": [f"a{n}:b" for n in range(6)]}}, "filter.label"),
        ({"action": "cancel", "filter": {"label": "a:b"}}, "filter.label"),
        ({"action": "cancel", "filter": {"slate_id": ""}}, "filter.slate_id"),
        ({"action": "cancel", "filter": {"created_before": "yesterday"}}, "filter.created_before"),
        ({"action": "cancel", "filter": {"odd": 1}}, "filter.odd"),
        ({"action": "cancel", "filter": {"queue": "q"}, "expect": -1}, "expect"),
        ({"action": "cancel", "filter": {"queue": "q"}, "dry_run": 1}, "dry_run"),
        ({"action": "cancel", "filter": {"queue": "q"}, "odd": 1}, "odd"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_and_starts_nothing(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    invalid(api.post(PATH, json=body), field)
    assert api.get(PATH).json() == {"items": []}


def test_the_key_that_started_an_action_made_its_changes(redis_url: str, tmp_path: Path) -> None:
    key = generate_key()
    entry = f"ops:write+read:{hash_key(key.encode()).hex()}"
    with (
        Service(tmp_path, REDIS_URL=redis_url, API_KEYS=entry, SHUTDOWN_DRAIN_SECONDS="1") as service,
        httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {key}"}) as api,
    ):
        create(api, "a", status="failed")
        action = ended(api, start(api, "retry", filter={"status": "failed"}))
        assert action["by"] == "ops"
        assert api.get("/v1/jobs/a/history").json()["items"][-1]["by"] == "ops"


def test_an_action_goes_on_after_a_kill_in_its_middle_and_changes_each_job_once(spare_url: str, tmp_path: Path) -> None:
    ids = [f"j{number}" for number in range(600)]
    with (
        Service(tmp_path, REDIS_URL=spare_url, SHUTDOWN_DRAIN_SECONDS="1") as service,
        httpx.Client(base_url=service.url, timeout=30) as api,
    ):
        batch = [{"job_id": job_id, "input_params": 1} for job_id in ids]
        api.post("/v1/batch-create", json={"jobs": batch}).raise_for_status()
        assert ended(api, start(api, "cancel", filter={"status": "pending"}))["done"] == len(ids)
        path = start(api, "retry", filter={"status": "cancelled"}).headers["Location"]
        wait_until(lambda: api.get(path).json()["done"] > 0, "the first step")
        service.kill()
        service.start()
        assert 0 < api.get(path).json()["done"] < len(ids)
        action = wait_until(lambda: (found := api.get(path).json()).get("state") == "done" and found, "the end", 30)
        assert (action["matched"], action["done"], action["refused"]) == (600, 600, {})
        for job_id in ids[::20]:
            changes = [one["change"] for one in api.get(f"/v1/jobs/{job_id}/history").json()["items"]]
            assert changes == ["created", "cancelled", "retried"]
