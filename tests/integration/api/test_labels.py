"""Labels over HTTP: creation, lists, event streams."""

from typing import Any

import httpx
import pytest

from tests.helpers.sse_clients import SseClient


def create(api: httpx.Client, job_id: str, **fields: Any) -> dict[str, Any]:
    response = api.post("/v1/jobs", json={"job_id": job_id, "input_params": 1, **fields})
    assert response.status_code == 201, response.text
    return dict(response.json())


def listed(api: httpx.Client, *labels: str, **filters: str) -> list[str]:
    response = api.get("/v1/jobs", params={"label": labels, **filters})
    assert response.status_code == 200, response.text
    return [job["job_id"] for job in response.json()["items"]]


def test_a_job_is_found_by_its_labels(api: httpx.Client) -> None:
    labels = {"tenant": "acme", "site": "https://acme.example/a:b?c=d&e", "1": "ü"}
    assert create(api, "a", labels=labels)["labels"] == labels
    create(api, "b", labels={"tenant": "acme", "team": "blue"}, slate_id="s")
    create(api, "c", labels={"tenant": "other", "team": "blue"}, slate_id="s")
    create(api, "d")

    assert api.get("/v1/jobs/a").json()["labels"] == labels
    assert "labels" not in api.get("/v1/jobs/d").json()
    assert listed(api, "tenant:acme") == ["b", "a"]
    assert listed(api, "tenant:acme", "team:blue") == ["b"]
    assert listed(api, "site:https://acme.example/a:b?c=d&e", "1:ü") == ["a"]
    assert listed(api, "team:blue", slate_id="s") == ["c", "b"]
    assert listed(api, "team:blue", slate_id="s", status="running") == []
    assert listed(api, "tenant:acme", "tenant:other") == []
    assert listed(api, "tenant:ac") == []


def test_a_cursor_belongs_to_its_labels(api: httpx.Client) -> None:
    for job_id in ("a", "b", "c"):
        create(api, job_id, labels={"tenant": "acme"})
    page = api.get("/v1/jobs", params={"label": "tenant:acme", "limit": 2}).json()
    assert [job["job_id"] for job in page["items"]] == ["c", "b"]
    following = {"limit": "2", "cursor": page["next_cursor"]}
    assert listed(api, "tenant:acme", **following) == ["a"]
    create(api, "d", labels={"tenant": "acme", "team": "blue"})
    create(api, "e", labels={"tenant": "acme", "team": "blue"})
    both = api.get("/v1/jobs", params={"label": ["tenant:acme", "team:blue"], "limit": 1}).json()
    assert listed(api, "team:blue", "tenant:acme", limit="1", cursor=both["next_cursor"]) == ["d"]
    refused = api.get("/v1/jobs", params={"label": "tenant:other", **following})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "cursor")


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"Tenant": "acme"}, "labels"),
        ({"": "acme"}, "labels"),
        ({"a" * 33: "acme"}, "labels"),
        ({"a:b": "acme"}, "labels"),
        ({"tenant": ""}, "labels.tenant"),
        ({"tenant": "a" * 129}, "labels.tenant"),
        ({"tenant": "a\nb"}, "labels.tenant"),
        ({f"k{number}": "v" for number in range(11)}, "labels"),
        ({"tenant": "acme", "team": 5}, "labels.team"),
        ({"tenant": None}, "labels.tenant"),
        (["tenant"], "labels"),
        (None, "labels"),
    ],
)
def test_wrong_labels_are_named(api: httpx.Client, labels: Any, field: str) -> None:
    response = api.post("/v1/jobs", json={"job_id": "j", "input_params": 1, "labels": labels})
    assert (response.status_code, [one["field"] for one in response.json()["errors"]]) == (400, [field])
    assert api.get("/v1/jobs/j").status_code == 404


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/events"])
@pytest.mark.parametrize(
    "labels", [["null"], ["5"], ["tenant:"], [":acme"], ["Tenant:acme"], [""], [f"k:{number}" for number in range(6)]]
)
def test_a_wrong_filter_by_labels_is_refused(api: httpx.Client, path: str, labels: list[str]) -> None:
    response = api.get(path, params={"label": labels})
    assert (response.status_code, [one["field"] for one in response.json()["errors"]]) == (400, ["label"])


def test_only_labels_may_be_sent_several_times(api: httpx.Client) -> None:
    response = api.get("/v1/jobs", params={"label": ["a:1", "b:2"], "queue": ["a", "b"]})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "queue")


def test_equal_labels_in_another_order_are_the_same_request(api: httpx.Client) -> None:
    first = {"job_id": "j", "input_params": 1, "labels": {"a": "1", "b": "2"}}
    assert api.post("/v1/jobs", json=first).status_code == 201
    again = api.post("/v1/jobs", json=first | {"labels": {"b": "2", "a": "1"}})
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (201, "true")
    other = api.post("/v1/jobs", json=first | {"labels": {"a": "1"}})
    assert (other.status_code, other.json()["type"]) == (409, "urn:jobstate:problem:job-exists")


def test_a_stream_has_the_events_of_the_jobs_with_all_labels(api: httpx.Client) -> None:
    with SseClient(str(api.base_url), "/v1/events", label=["tenant:acme", "team:blue"]) as stream:
        stream.wait_until(lambda events: events, "hello")
        create(api, "none")
        create(api, "other", labels={"tenant": "acme", "team": "red"})
        create(api, "mine", labels={"tenant": "acme", "team": "blue", "x": "y"})
        api.post("/v1/jobs/mine/cancel").raise_for_status()
        api.delete("/v1/jobs/mine").raise_for_status()
        stream.wait_until(lambda events: len(events) >= 4, "the events of the job")
    received = [(one.event, one.json().get("job_id")) for one in stream.events[1:]]
    assert received == [("changed", "mine"), ("changed", "mine"), ("deleted", "mine")]
