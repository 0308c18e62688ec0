"""Every response below 500 that the API document declares occurs; the reverse of `conformance.py`."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.problems import HEADERS_TOO_LARGE, MALFORMED_REQUEST, MEDIA_TYPE, REQUEST_TIMEOUT, TYPE_PREFIX
from service.domain.api_keys import Scope, generate_key, hash_key
from tests.helpers.conformance import DOCUMENT, operation_of
from tests.helpers.service_process import Service

pytestmark = pytest.mark.usefixtures("consistent_store")

#: An operation's id, the status, and the name of the problem.
Answered = tuple[str, int, str | None]

#: Problems that the server sends before the operation is known; `test_limits.py` tests them.
OF_NO_OPERATION = {kind.name for kind in (MALFORMED_REQUEST, REQUEST_TIMEOUT, HEADERS_TOO_LARGE)}


def declared() -> set[Answered]:
    return {
        (operation["operationId"], int(status), problem)
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for status, response in operation["responses"].items()
        for problem in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", [None])
        if int(status) < 500 and problem not in OF_NO_OPERATION
    }


def use_jobs(api: httpx.Client) -> None:
    """Cause the responses of the operations on jobs."""
    read_and_reject(api, "nobody")
    for job_id, end in (("done", {"status": "completed", "result": 1}), ("bare", {"status": "completed"})):
        create(api, job_id)
        read_and_reject(api, job_id)
        start = {"Idempotency-Key": f"start-{job_id}"}
        api.patch(f"/v1/jobs/{job_id}", json={"status": "running"}, headers=start)
        api.patch(f"/v1/jobs/{job_id}", json={"status": "failed"}, headers=start)
        api.post(f"/v1/jobs/{job_id}/cancel", headers=start)
        api.patch(f"/v1/jobs/{job_id}", json=end)
        api.post(f"/v1/jobs/{job_id}/cancel")
        read_and_reject(api, job_id)
    for job_id in ("failed", "cancelled"):
        create(api, job_id)
        api.patch(f"/v1/jobs/{job_id}", json={"status": job_id})
        api.get(f"/v1/jobs/{job_id}/result")
    api.get("/v1/queues/default")
    for size in (1, 8 * 1024 * 1024):
        api.post("/v1/batch-create", json={"jobs": [{"input_params": "x" * size}]})
    api.post("/v1/jobs/nobody/retry")
    api.post("/v1/jobs/failed/retry", headers={"If-Match": '"old"'})
    for attempts in (1, 2):
        api.post("/v1/jobs/failed/retry", json={"max_attempts": attempts}, headers={"Idempotency-Key": "retried"})
    api.post("/v1/jobs/failed/retry")
    for input_params in (1, 2):
        api.post("/v1/jobs", json={"input_params": input_params}, headers={"Idempotency-Key": "reused"})
        create(api, "one", input_params)
    api.post("/v1/jobs/one/cancel")
    api.post("/v1/batch-get", json={"job_ids": ["one"]})
    for path in ("/health", "/ready", "/metrics", "/v1/stats", "/v1/jobs"):
        api.get(path)


def act_in_bulk(api: httpx.Client) -> None:
    """Cause the responses of the operations on bulk actions."""
    for queue in ("a", "b"):
        action = {"action": "cancel", "filter": {"queue": queue}}
        api.post("/v1/bulk-actions", json=action, headers={"Idempotency-Key": "k"})
    [action] = api.get("/v1/bulk-actions").json()["items"]
    for action_id in (action["bulk_action_id"], "nothing"):
        api.get(f"/v1/bulk-actions/{action_id}")
        api.delete(f"/v1/bulk-actions/{action_id}")


def work(api: httpx.Client) -> None:
    """Cause the responses of the operations of workers."""
    claim = {"queues": ["work"], "worker": "w"}
    api.post("/v1/claims", json=claim)
    api.post("/v1/jobs", json={"job_id": "work", "queue": "work", "input_params": 1})
    key = {"Idempotency-Key": "claim"}
    token = {"Lease-Token": api.post("/v1/claims", json=claim, headers=key).json()["lease"]["token"]}
    api.post("/v1/claims", json=claim | {"worker": "another"}, headers=key)
    api.post("/v1/batch-claim", json=claim | {"max_jobs": 2}, headers=key)
    api.post("/v1/batch-claim", json=claim | {"max_jobs": 2})
    for job_id, header in (("work", {"Lease-Token": "1-other"}), ("nobody", token), ("work", token)):
        api.post(f"/v1/jobs/{job_id}/heartbeat", json={}, headers=header)
    api.patch("/v1/jobs/work", json={"status": "completed"})
    api.post("/v1/jobs/work/cancel", headers={"Lease-Token": "1-other"})
    for job_id, header in (("nobody", token), ("work", {"Lease-Token": "1-other"}), ("work", token), ("work", {})):
        api.post(f"/v1/jobs/{job_id}/release", json={}, headers={"Idempotency-Key": "back", **header})
    api.post("/v1/jobs/work/release", json={"error_message": 1}, headers={"Idempotency-Key": "back", **token})
    api.post("/v1/jobs/work/release", json={})
    api.post("/v1/batch-claim", json=claim | {"max_jobs": 2})
    api.post("/v1/jobs/work/cancel")


def watch(api: httpx.Client) -> None:
    """Cause the responses of the event streams."""
    create(api, "watched")
    api.patch("/v1/jobs/watched", json={"status": "cancelled"})
    seen = api.get("/v1/jobs/watched").headers["etag"].strip('"')
    for job_id, headers in (("watched", {}), ("watched", {"Last-Event-ID": seen}), ("nobody", {})):
        api.get(f"/v1/jobs/{job_id}/events", headers=headers)
    with api.stream("GET", "/v1/events"):
        pass


def exceed_watch_limit(api: httpx.Client) -> None:
    """Exceed a limit of one watcher per client."""
    create(api, "pending")
    with api.stream("GET", "/v1/events"):
        for path in ("/v1/events", "/v1/jobs/pending/events", "/v1/jobs/pending?wait=1"):
            api.get(path)


def operate(api: httpx.Client) -> None:
    """Cause the responses of the operations on queues and the drain."""
    api.get("/v1/queues")
    api.put("/v1/queues/capped", json={"max_running": 1})
    api.put("/v1/queues/capped", json={"max_running": None})
    api.post("/v1/drain")
    api.get("/v1/drain")
    create(api, "late")
    api.post("/v1/claims", json={"queues": ["work"], "worker": "w"})
    api.post("/v1/batch-claim", json={"queues": ["work"], "worker": "w", "max_jobs": 2})
    api.delete("/v1/drain")


def create(api: httpx.Client, job_id: str, input_params: int = 1) -> None:
    api.post("/v1/jobs", json={"job_id": job_id, "input_params": input_params})


def read_and_reject(api: httpx.Client, job_id: str) -> None:
    """Read a job in every way, then try changes that it rejects; if it is finished, delete it."""
    api.get(f"/v1/jobs/{job_id}/history")
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/result"):
        tag = api.get(path).headers.get("etag", "*")
        api.get(path, headers={"If-None-Match": tag})
    old = {"If-Match": '"old"'}
    api.post(f"/v1/jobs/{job_id}/cancel", headers=old)
    api.patch(f"/v1/jobs/{job_id}", json={"status": "pending"}, headers=old)
    api.patch(f"/v1/jobs/{job_id}", json={"status": "pending"})
    api.delete(f"/v1/jobs/{job_id}", headers=old)
    api.delete(f"/v1/jobs/{job_id}")


def send_invalid_requests(api: httpx.Client) -> None:
    """Send invalid requests and bodies to every operation."""
    for path, item in DOCUMENT["paths"].items():
        url = re.sub(r"{\w+}", "one", path)
        for method, operation in item.items():
            api.request(method, url, params={"nothing": "of the kind"})
            api.request(method, url, headers={"Host": "no host"})
            api.request(method, url, headers={"Accept": "text/html"})
            if "421" in operation["responses"]:
                api.request(method, url, headers={"Host": "elsewhere.example"})
            if "403" in operation["responses"] and method != "get":
                api.request(method, url, headers={"Origin": "https://elsewhere.example"})
            if "413" in operation["responses"]:
                api.request(method, url, json={"input_params": "x" * 65536})
            if "415" in operation["responses"]:
                api.request(method, url, content=b"x", headers={"Content-Type": "text/plain"})
                api.request(method, url, content=b"x", headers={"Content-Encoding": "br"})


def exceed_rate_limit(api: httpx.Client, bearers: dict[Scope, dict[str, str]]) -> None:
    """Exceed a rate limit of one request per hour in every operation that has one."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if "429" in operation["responses"]:
                [scope, *_] = operation["security"][0].values()
                api.request(method, re.sub(r"{\w+}", "one", path), headers=bearers[Scope(scope[0])])
                api.request(method, re.sub(r"{\w+}", "one", path), headers=bearers[Scope(scope[0])])


def send_without_scope(api: httpx.Client, bearers: dict[Scope, dict[str, str]]) -> None:
    """Send requests without a key and with another scope to every operation that requires one."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            others = [bearer for scope, bearer in bearers.items() if {"apiKey": [scope]} not in operation["security"]]
            for headers in ({}, others[0]) if operation["security"] else ():
                api.request(method, re.sub(r"{\w+}", "one", path), headers=headers)


def test_every_declared_response_occurs(api: httpx.Client, redis_url: str, tmp_path: Path) -> None:
    seen: set[Answered] = set()

    def record(response: httpx.Response) -> None:
        operation: dict[str, Any] = operation_of(response.request) or {}
        problem = response.json()["type"].removeprefix(TYPE_PREFIX) if response.status_code >= 400 else None
        seen.add((operation["operationId"], response.status_code, problem))

    api.event_hooks["response"].append(record)
    use_jobs(api)
    act_in_bulk(api)
    work(api)
    watch(api)
    operate(api)
    send_invalid_requests(api)
    settings = {"REDIS_URL": redis_url, "SHUTDOWN_DRAIN_SECONDS": "1"}  # their ends are not to wait for leases
    with Service(tmp_path, MAX_WATCHERS_PER_CLIENT="1", **settings) as service:
        api.base_url = service.url
        exceed_watch_limit(api)
    keys = {scope: generate_key() for scope in Scope}
    entries = ",".join(f"{scope}:{scope}:{hash_key(key.encode()).hex()}" for scope, key in keys.items())
    with Service(tmp_path, RATE_LIMIT="1/hour", API_KEYS=entries, **settings) as service:
        api.base_url = service.url
        bearers = {scope: {"Authorization": f"Bearer {key}"} for scope, key in keys.items()}
        send_without_scope(api, bearers)
        exceed_rate_limit(api, bearers)

    assert declared() - seen == set()
