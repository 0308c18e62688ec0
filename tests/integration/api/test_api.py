"""The service over HTTP."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import __version__
from service.api.problems import TYPE_PREFIX
from service.domain import constraints
from tests.helpers.cluster_clients import sync_command_calls
from tests.helpers.deployments import sync_client
from tests.helpers.partitions import PARTITIONS, job_key
from tests.helpers.service_process import Service

pytestmark = pytest.mark.usefixtures("consistent_store")


def create(api: httpx.Client, **fields: Any) -> httpx.Response:
    return api.post("/v1/jobs", json={"input_params": {"a": 1}, **fields})


def change(api: httpx.Client, job_id: str, status: str, **fields: Any) -> httpx.Response:
    return api.patch(f"/v1/jobs/{job_id}", json={"status": status, **fields})


def problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Check a problem and return it."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found: dict[str, Any] = response.json()
    assert (response.status_code, found["status"], found["type"]) == (status, status, TYPE_PREFIX + name), response.text
    assert found["title"]
    assert found["detail"]
    assert found["correlation_id"] == response.headers["x-correlation-id"]
    return found


def invalid(response: httpx.Response, field: str) -> dict[str, Any]:
    """Check that a problem names one field and what is allowed, and return this error."""
    [error] = problem(response, 400, "invalid-request")["errors"]
    assert error["field"] == field, error
    assert error["allowed"]
    return dict(error)


def test_a_job_from_creation_to_deletion(api: httpx.Client) -> None:
    created = create(api, slate_id="daytona", scenario_count=10)
    assert created.status_code == 201
    job_id = created.json()["job_id"]
    assert created.headers["location"] == f"/v1/jobs/{job_id}"
    assert re.fullmatch(r'"\d{16}-1"', created.headers["etag"])

    read = api.get(created.headers["location"])
    assert (read.status_code, read.content) == (200, created.content)
    assert (read.headers["etag"], read.headers["retry-after"]) == (created.headers["etag"], "1")

    running = change(api, job_id, "running", progress={"current": 0, "total": 10})
    assert (running.status_code, running.json()["revision"], running.json()["attempt"]) == (200, 2, 1)

    completed = change(api, job_id, "completed", result={"lineups": []})
    assert completed.status_code == 200
    assert "retry-after" not in completed.headers
    assert completed.json()["result"] == {"lineups": []}
    assert api.get(f"/v1/jobs/{job_id}/result").json() == {"lineups": []}

    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    problem(api.get(f"/v1/jobs/{job_id}"), 404, "job-not-found")


def test_an_existing_job_and_an_unknown_one_are_read_once(api: httpx.Client, redis_url: str) -> None:
    create(api, job_id="j")
    with sync_client(redis_url) as redis:

        def reads() -> int:
            return sync_command_calls(redis)["hgetall"]

        api.get("/v1/jobs/j").raise_for_status()
        before = reads()
        problem(api.get("/v1/jobs/none"), 404, "job-not-found")
        assert reads() - before == 1
        api.get("/v1/jobs/j").raise_for_status()
        assert reads() - before == 2


def test_absent_fields_are_left_out_and_null_is_kept(api: httpx.Client) -> None:
    create(api, job_id="j", input_params=None)
    change(api, "j", "running")
    change(api, "j", "completed", result=None)

    job = api.get("/v1/jobs/j").json()

    assert job["input_params"] is None
    assert job["result"] is None
    assert not {"error_message", "progress", "slate_id", "scenario_count", "lease_expires_at"} & set(job)


@pytest.mark.parametrize(
    "text", ['{"b": 1,  "a":1.0, "b":1e999}', "12345678901234567890", "[]", "{}", "0", "false", '""', '"\\u00e9é"']
)
def test_json_is_returned_as_the_text_that_was_sent(api: httpx.Client, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    api.post("/v1/jobs", content=f'{{"job_id": "j", "input_params": {text}}}', headers=headers)
    change(api, "j", "running")
    api.patch("/v1/jobs/j", content=f'{{"status":"completed","result": {text}}}', headers=headers)

    assert f'"input_params":{text},"result":{text},' in api.get("/v1/jobs/j").text
    assert api.get("/v1/jobs/j/result").text == text


def test_the_result_of_a_job_in_every_state(api: httpx.Client) -> None:
    problem(api.get("/v1/jobs/j/result"), 404, "job-not-found")
    create(api, job_id="j")
    waiting = api.get("/v1/jobs/j/result")
    assert problem(waiting, 404, "result-not-ready")["current_status"] == "pending"
    assert waiting.headers["retry-after"] == "1"
    change(api, "j", "failed", error_message={"reason": None})
    assert problem(api.get("/v1/jobs/j/result"), 409, "job-failed")["error_message"] == {"reason": None}
    create(api, job_id="c")
    api.post("/v1/jobs/c/cancel")
    assert "error_message" not in problem(api.get("/v1/jobs/c/result"), 409, "job-cancelled")
    create(api, job_id="n")
    change(api, "n", "running")
    change(api, "n", "completed")
    nothing = api.get("/v1/jobs/n/result")
    assert (nothing.status_code, nothing.content) == (204, b"")
    create(api, job_id="null")
    change(api, "null", "running")
    change(api, "null", "completed", result=None)
    assert (api.get("/v1/jobs/null/result").status_code, api.get("/v1/jobs/null/result").text) == (200, "null")


def test_a_get_with_the_current_etag_returns_304(api: httpx.Client) -> None:
    tag = create(api, job_id="j").headers["etag"]

    same = api.get("/v1/jobs/j", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert api.get("/v1/jobs/j", headers={"If-None-Match": "*"}).status_code == 304

    change(api, "j", "running")
    assert api.get("/v1/jobs/j", headers={"If-None-Match": tag}).status_code == 200


def test_a_change_can_require_a_version(api: httpx.Client) -> None:
    tag = create(api, job_id="j").headers["etag"]
    running = api.patch("/v1/jobs/j", json={"status": "running"}, headers={"If-Match": tag})
    assert running.status_code == 200

    late = api.patch("/v1/jobs/j", json={"status": "failed"}, headers={"If-Match": tag})

    found = problem(late, 412, "precondition-failed")
    assert (found["current_status"], found["revision"]) == ("running", 2)
    problem(api.delete("/v1/jobs/j", headers={"If-Match": tag}), 412, "precondition-failed")
    problem(api.post("/v1/jobs/j/cancel", headers={"If-Match": '""'}), 412, "precondition-failed")
    assert api.post("/v1/jobs/j/cancel", headers={"If-Match": running.headers["etag"]}).status_code == 200
    assert api.post("/v1/jobs/j/cancel", headers={"If-Match": "*"}).status_code == 200


def test_an_idempotency_key_determines_the_id_and_makes_a_repeated_request_a_replay(api: httpx.Client) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = api.post("/v1/jobs", json={"input_params": 1}, headers=key)
    again = api.post("/v1/jobs", json={"input_params": 1}, headers={**key, "X-Correlation-ID": "other"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    problem(api.post("/v1/jobs", json={"input_params": 2}, headers=key), 422, "idempotency-key-reused")


def test_the_client_s_job_id_takes_precedence_over_the_key(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"job_id": "mine", "input_params": 1}
    assert api.post("/v1/jobs", json=body, headers=headers).json()["job_id"] == "mine"
    assert api.post("/v1/jobs", json=body).headers["idempotency-replayed"] == "true"

    rejected = problem(api.post("/v1/jobs", json={**body, "input_params": 2}, headers=headers), 409, "job-exists")

    assert (rejected["current_status"], rejected["revision"]) == ("pending", 1)


def test_without_id_and_key_every_request_is_a_new_job(api: httpx.Client) -> None:
    first, second = create(api).json()["job_id"], create(api).json()["job_id"]

    assert first < second
    assert first[14] == "7"


def test_a_repeated_change_with_the_same_key_changes_nothing(api: httpx.Client) -> None:
    create(api, job_id="j")
    key = {"Idempotency-Key": "start"}
    first = api.patch("/v1/jobs/j", json={"status": "running"}, headers=key)
    again = api.patch("/v1/jobs/j", json={"status": "running"}, headers=key)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    other = api.patch("/v1/jobs/j", json={"status": "cancelled"}, headers=key)
    problem(other, 422, "idempotency-key-reused")
    problem(change(api, "j", "running"), 409, "illegal-transition")


def test_the_correlation_id_comes_from_the_body_the_header_or_the_service(api: httpx.Client) -> None:
    header = {"X-Correlation-ID": "from-header"}
    both = api.post("/v1/jobs", json={"input_params": 1, "correlation_id": "from-body"}, headers=header)
    one = api.post("/v1/jobs", json={"input_params": 1}, headers=header)
    made = api.post("/v1/jobs", json={"input_params": 1})

    assert both.json()["correlation_id"] == "from-body"
    assert one.json()["correlation_id"] == "from-header"
    assert [both.headers["x-correlation-id"], one.headers["x-correlation-id"]] == ["from-header"] * 2
    assert made.json()["correlation_id"] == made.headers["x-correlation-id"]
    [found] = api.get("/v1/jobs", params={"correlation_id": "from-header"}).json()["items"]
    assert found["job_id"] == one.json()["job_id"]


@pytest.mark.parametrize("sent", ["", "x" * 129, "tab\there", b"\xff"])
def test_an_invalid_correlation_id_is_replaced(api: httpx.Client, sent: str | bytes) -> None:
    response = api.get("/health", headers={"X-Correlation-ID": sent})

    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-correlation-id"])


def test_the_trace_context_of_the_client_is_stored(api: httpx.Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    kept = api.post("/v1/jobs", json={"input_params": 1}, headers={"traceparent": trace})
    broken = api.post("/v1/jobs", json={"input_params": 1}, headers={"traceparent": "nonsense"})

    assert kept.json()["traceparent"] == trace
    assert "traceparent" not in broken.json()


def test_a_list_can_be_read_page_by_page(api: httpx.Client) -> None:
    made = [create(api, queue="q", slate_id="s").json()["job_id"] for _ in range(7)]
    create(api)
    seen: list[str] = []
    params: dict[str, Any] = {"queue": "q", "slate_id": "s", "status": "pending", "limit": 3}
    while True:
        page = api.get("/v1/jobs", params=params).json()
        seen += [job["job_id"] for job in page["items"]]
        assert not any("input_params" in job for job in page["items"])
        if "next_cursor" not in page:
            break
        params["cursor"] = page["next_cursor"]

    assert seen == made[::-1]
    included = api.get("/v1/jobs", params={"include": "input_params,result", "limit": 1}).json()
    assert included["items"][0]["input_params"] == {"a": 1}


def test_a_list_may_be_bounded_by_times_of_creation(api: httpx.Client) -> None:
    first, second, third = (create(api).json() for _ in range(3))
    bounds = {"created_after": first["created_at"], "created_before": third["created_at"]}
    assert [job["job_id"] for job in api.get("/v1/jobs", params=bounds).json()["items"]] == [second["job_id"]]
    page = api.get("/v1/jobs", params={"created_after": "2026-01-01T01:00:00+01:00", "limit": 1}).json()
    assert page["items"][0]["job_id"] == third["job_id"]
    rest = {"cursor": page["next_cursor"], "created_after": "2026-01-01T01:00:00+01:00"}
    assert len(api.get("/v1/jobs", params=rest).json()["items"]) == 2
    invalid(api.get("/v1/jobs", params=rest | {"created_after": first["created_at"]}), "cursor")
    for field in ("created_after", "created_before"):
        for wrong in ("yesterday", "", "2026-01-01T00:00:00", "2026-01-01T00:00:00 01:00"):
            invalid(api.get("/v1/jobs", params={field: wrong}), field)


def test_a_cursor_is_valid_for_its_filters_only(api: httpx.Client) -> None:
    for _ in range(2):
        create(api)
    cursor = api.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]

    for params in ({"cursor": cursor, "queue": "other"}, {"cursor": cursor[:-1]}, {"cursor": ""}, {"cursor": "é"}):
        invalid(api.get("/v1/jobs", params=params), "cursor")
    assert api.get("/v1/jobs", params={"cursor": cursor, "limit": 9}).status_code == 200


def test_many_jobs_can_be_read_in_one_request(api: httpx.Client) -> None:
    create(api, job_id="a")

    batch = api.post("/v1/batch-get", json={"job_ids": ["b", "a", "b"]}).json()

    assert [job["job_id"] for job in batch["items"]] == ["a"]
    assert batch["not_found"] == ["b"]


def test_stats_count(api: httpx.Client) -> None:
    create(api, job_id="a", queue="q")
    create(api, job_id="b", delay_seconds=60)
    change(api, "a", "running")

    stats = api.get("/v1/stats").json()

    nothing = {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}
    assert stats["statuses"] == {**nothing, "pending": 1, "running": 1}
    assert stats["queues"] == {"default": {**nothing, "pending": 1}, "q": {**nothing, "running": 1}}
    assert (stats["delayed"], stats["running"]) == (1, {"leased": 0, "unleased": 1})
    assert stats["oldest_pending"]["job_id"] == "b"


def test_health_and_readiness(api: httpx.Client) -> None:
    assert api.get("/health").json() == {"status": "ok", "version": "0.3.0"}
    assert __version__ == "0.3.0"
    assert (api.get("/ready").status_code, api.get("/ready").json()["status"]) == (200, "ready")


#: From Python 3.14 on, the decoder of the body accepts so many levels, and the check of the field rejects them.
TOO_DEEP_FIELD = "input_params" if sys.version_info >= (3, 14) else "body"
BODIES: list[tuple[str, bytes, str]] = [
    ("body", b"", "a JSON object"),
    ("body", b"{", "a JSON object"),
    ("body", b"[]", "a JSON object"),
    ("body", b'{"input_params": NaN}', "a JSON object"),
    ("body", b'{"input_params": "\xff"}', "JSON in UTF-8"),
    (TOO_DEEP_FIELD, b'{"input_params": ' + b"[" * 20000 + b"]" * 20000 + b"}", "200 levels"),
    ("input_params", b'{"input_params": ' + b"[" * 201 + b"]" * 201 + b"}", "200 levels"),
    ("input_params", b"{}", "any JSON value"),
    ("inputs", b'{"input_params": 1, "inputs": 2}', "input_params, queue, slate_id"),
    ("job_id", b'{"input_params": 1, "job_id": "a b"}', "1 to 128 characters"),
    ("job_id", b'{"input_params": 1, "job_id": "a\\u0000"}', "1 to 128 characters"),
    ("job_id", b'{"input_params": 1, "job_id": "a\\n"}', "1 to 128 characters"),
    ("job_id", b'{"input_params": 1, "job_id": ""}', "1 to 128 characters"),
    ("queue", b'{"input_params": 1, "queue": 7}', "1 to 64 characters"),
    ("slate_id", b'{"input_params": 1, "slate_id": "a\\r\\nb"}', "without control characters"),
    ("scenario_count", b'{"input_params": 1, "scenario_count": 1.5}', "an integer from 0"),
    ("scenario_count", b'{"input_params": 1, "scenario_count": 9007199254740992}', "an integer from 0"),
    ("max_attempts", b'{"input_params": 1, "max_attempts": 0}', "an integer from 1 to 1000"),
    ("retry_delay_seconds", b'{"input_params": 1, "retry_delay_seconds": "5"}', "an integer from 0 to 3600"),
    ("delay_seconds", b'{"input_params": 1, "delay_seconds": true}', "an integer from 0"),
    ("priority", b'{"input_params": 1, "priority": 86401}', "an integer from -86400 to 86400"),
    ("priority", b'{"input_params": 1, "priority": "high"}', "an integer from -86400 to 86400"),
]


@pytest.mark.parametrize(("field", "body", "allowed"), BODIES)
def test_an_invalid_body_is_rejected_by_field_with_what_is_allowed(
    api: httpx.Client, redis_url: str, field: str, body: bytes, allowed: str
) -> None:
    response = api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})

    assert allowed in invalid(response, field)["allowed"]
    with sync_client(redis_url) as client:
        kept = {name for one in PARTITIONS for name in (one.events, one.version, one.partitions)} | {"jobs:version"}
        assert {name.decode() for name in client.scan_iter()} <= kept


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("status", {}),
        ("status", {"status": "done"}),
        ("status", {"status": None}),
        ("result", {"status": "failed", "result": None}),
        ("error_message", {"status": "completed", "error_message": "x"}),
        ("progress.current", {"status": "running", "progress": {}}),
        ("progress.percent", {"status": "running", "progress": {"current": 1, "percent": 2}}),
        ("progress.total", {"status": "running", "progress": {"current": 1, "total": -2}}),
        ("lease", {"status": "running", "lease": 1}),
    ],
)
def test_an_invalid_change_is_rejected_by_field(api: httpx.Client, field: str, body: dict[str, Any]) -> None:
    tag = create(api, job_id="j").headers["etag"]

    invalid(api.patch("/v1/jobs/j", json=body), field)

    assert api.get("/v1/jobs/j").headers["etag"] == tag


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "/v1/jobs?status=done", "status"),
        ("GET", "/v1/jobs?queue=a:b", "queue"),
        ("GET", "/v1/jobs?queue=", "queue"),
        ("GET", "/v1/jobs?slate_id=%00", "slate_id"),
        ("GET", "/v1/jobs?slate_id=%ff", "query"),
        ("GET", "/v1/jobs?limit=0", "limit"),
        ("GET", "/v1/jobs?limit=201", "limit"),
        ("GET", "/v1/jobs?limit=ten", "limit"),
        ("GET", "/v1/jobs?limit=1&limit=2", "limit"),
        ("GET", "/v1/jobs?include=everything", "include"),
        ("GET", "/v1/jobs?page=2", "page"),
        ("GET", "/v1/jobs/j?wait=x", "wait"),
        *(
            ("GET", f"/v1/{path}={value}", path.partition("?")[2])
            for path in ("jobs?limit", "jobs/j?wait")
            for value in (
                *("5.0", "1e2", "null", "-0", "05", "%2B5", "+5", "5+", "0x5", "1_0", "true", ""),
                *("%EF%BC%95", "10000000000000000000", "9" * 5000),  # a full-width 5; 2^63 and more
            )
        ),
        ("GET", "/v1/jobs/a%20b", "job_id"),
        ("GET", "/v1/jobs/a%0A", "job_id"),
        ("GET", "/v1/jobs/%00/result", "job_id"),
        ("DELETE", f"/v1/jobs/{'x' * 129}", "job_id"),
        ("POST", "/v1/jobs/a%20b/cancel", "job_id"),
    ],
)
def test_an_invalid_path_or_query_is_rejected_by_parameter(
    api: httpx.Client, method: str, path: str, field: str
) -> None:
    invalid(api.request(method, path), field)


def test_an_invalid_id_in_the_path_is_shown_with_what_is_allowed(api: httpx.Client) -> None:
    detail = api.get("/v1/jobs/a%20b").json()["detail"]
    assert detail == f"`job_id`: 'a b' is not allowed; allowed: {constraints.JOB_ID.allowed}"


@pytest.mark.parametrize("name", ["queue", "slate_id", "correlation_id"])
def test_the_word_null_in_a_query_is_a_text(api: httpx.Client, name: str) -> None:
    create(api, job_id="other")
    create(api, job_id="named", **{name: "null"})

    assert [job["job_id"] for job in api.get(f"/v1/jobs?{name}=null").json()["items"]] == ["named"]


@pytest.mark.parametrize("path", ["/v1/jobs?status", "/v1/jobs?cursor", "/v1/jobs?include", "/v1/events?since"])
def test_the_word_null_in_a_query_does_not_stand_for_an_absent_value(api: httpx.Client, path: str) -> None:
    invalid(api.get(f"{path}=null"), path.partition("?")[2])


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, b"\xff"])
def test_an_invalid_idempotency_key_is_rejected(api: httpx.Client, key: str | bytes) -> None:
    headers: Any = {"Idempotency-Key": key}
    create(api, job_id="j")

    invalid(api.post("/v1/jobs", json={"input_params": 1}, headers=headers), "Idempotency-Key")
    invalid(api.post("/v1/jobs", json={"job_id": "own", "input_params": 1}, headers=headers), "Idempotency-Key")
    invalid(api.patch("/v1/jobs/j", json={"status": "running"}, headers=headers), "Idempotency-Key")
    invalid(api.post("/v1/jobs/j/cancel", headers=headers), "Idempotency-Key")
    invalid(api.delete("/v1/jobs/j", headers=headers), "Idempotency-Key")


@pytest.mark.parametrize("tag", ["1-1", '"a" "b"', '"unclosed', "*, *"])
def test_an_invalid_entity_tag_is_rejected(api: httpx.Client, tag: str) -> None:
    create(api, job_id="j")

    invalid(api.patch("/v1/jobs/j", json={"status": "running"}, headers={"If-Match": tag}), "If-Match")
    invalid(api.get("/v1/jobs/j", headers={"If-None-Match": tag}), "If-None-Match")


def test_a_cancellation_takes_no_content(api: httpx.Client) -> None:
    create(api, job_id="j")

    invalid(api.post("/v1/jobs/j/cancel", json={"error_message": "x"}), "error_message")
    assert api.post("/v1/jobs/j/cancel", json={}).status_code == 200


def test_unknown_paths_and_wrong_methods_are_problems(api: httpx.Client) -> None:
    problem(api.get("/v2/jobs"), 404, "unknown-route")
    problem(api.get("/v1/jobs/a/b/c"), 404, "unknown-route")
    rejected = api.put("/v1/jobs/j", json={})
    problem(rejected, 405, "method-not-allowed")
    assert {"GET", "PATCH", "DELETE"} <= {method.strip() for method in rejected.headers["allow"].split(",")}


def test_unsupported_media_types_are_rejected(api: httpx.Client) -> None:
    problem(api.post("/v1/jobs", data={"input_params": "1"}), 415, "unsupported-media-type")
    text = {"Content-Type": "application/json; charset=latin-1"}
    problem(api.post("/v1/jobs", content=b'{"input_params":1}', headers=text), 415, "unsupported-media-type")
    problem(api.get("/health", headers={"Accept": "text/html"}), 406, "not-acceptable")
    for accept in ("*/*", "application/*", "text/html, application/json;q=0.5", "application/problem+json"):
        assert api.get("/health", headers={"Accept": accept}).status_code == 200


def test_a_body_over_the_limit_is_rejected_by_its_announced_length(api: httpx.Client) -> None:
    found = problem(create(api, input_params="x" * 65536), 413, "content-too-large")

    assert "65536" in found["detail"]


def test_a_body_over_the_limit_is_rejected_while_it_is_read(api: httpx.Client) -> None:
    def large_body() -> Iterator[bytes]:
        yield b'{"input_params": "'
        for _ in range(100_000):  # 800 MB in total
            yield b"x" * 8192

    with httpx.Client(base_url=api.base_url, timeout=10) as client:
        try:
            response = client.post("/v1/jobs", content=large_body(), headers={"Content-Type": "application/json"})
        except httpx.WriteError:
            return  # the service responded and closed the connection while the client was sending
    problem(response, 413, "content-too-large")


def test_the_api_document_lists_every_operation(api: httpx.Client) -> None:
    document = api.get("/schema/openapi.json").json()

    operations = {
        (method, path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert document["openapi"].startswith("3.1")
    assert operations == {
        ("get", "/health"),
        ("get", "/ready"),
        ("get", "/metrics"),
        ("get", "/v1/jobs"),
        ("post", "/v1/jobs"),
        ("get", "/v1/jobs/{job_id}"),
        ("patch", "/v1/jobs/{job_id}"),
        ("delete", "/v1/jobs/{job_id}"),
        ("get", "/v1/jobs/{job_id}/result"),
        ("get", "/v1/jobs/{job_id}/history"),
        ("get", "/v1/jobs/{job_id}/events"),
        ("get", "/v1/events"),
        ("post", "/v1/jobs/{job_id}/cancel"),
        ("post", "/v1/jobs/{job_id}/retry"),
        ("post", "/v1/batch-get"),
        ("post", "/v1/batch-create"),
        ("post", "/v1/bulk-actions"),
        ("get", "/v1/bulk-actions"),
        ("get", "/v1/bulk-actions/{bulk_action_id}"),
        ("delete", "/v1/bulk-actions/{bulk_action_id}"),
        ("get", "/v1/stats"),
        ("post", "/v1/claims"),
        ("post", "/v1/batch-claim"),
        ("post", "/v1/jobs/{job_id}/heartbeat"),
        ("post", "/v1/jobs/{job_id}/release"),
        ("get", "/v1/queues"),
        ("get", "/v1/queues/{queue}"),
        ("put", "/v1/queues/{queue}"),
        ("post", "/v1/drain"),
        ("get", "/v1/drain"),
        ("delete", "/v1/drain"),
    }
    assert "input_params" in document["components"]["schemas"]["CreateJob"]["required"]
    assert document["components"]["schemas"]["Job"]["properties"]["finished_at"]["format"] == "date-time"


def test_a_key_of_an_unexpected_type_is_a_problem_without_a_traceback(
    api: httpx.Client, redis_url: str, shared_service: Service
) -> None:
    with sync_client(redis_url) as client:
        client.set(job_key("j"), "foreign", ex=600)
        try:
            response = api.get("/v1/jobs/j")
        finally:
            client.delete(job_key("j"))

    found = problem(response, 500, "store-corrupt")
    assert "Traceback" not in response.text
    lines = [json.loads(line) for line in shared_service.log.splitlines()]
    [line] = [line for line in lines if line.get("correlation_id") == found["correlation_id"] and "exception" in line]
    assert "WRONGTYPE" in line["exception"]
