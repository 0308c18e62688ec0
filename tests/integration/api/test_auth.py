"""API keys: what each scope allows, in Python and in the terminal client; no key is ever disclosed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.api_keys import Scope, generate_key, hash_key
from service.server.security_headers import SECURITY_HEADERS
from tests.helpers.cli_process import jobstate
from tests.helpers.deployments import sync_client
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.worker.test_job_worker import working

pytestmark = pytest.mark.usefixtures("consistent_store")

FRIEND = "https://friend.example"
KEYS = {scope: generate_key() for scope in Scope}


def entry(name: str, key: str, scope: str) -> str:
    return f"{name}:{scope}:{hash_key(key.encode()).hex()}"


@pytest.fixture(scope="module")
def guarded(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a key for each scope, one of them from a file, and debug logs."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(entry("key-of-admin", KEYS[Scope.ADMIN], "admin") + "\n")
    entries = ",".join(entry(f"key-of-{scope}", key, scope) for scope, key in KEYS.items() if scope != "admin")
    settings = {
        "API_KEYS": entries,
        "API_KEYS_FILE": str(folder / "keys"),
        "CORS_ORIGINS": FRIEND,
        "LOG_LEVEL": "debug",
        "SHUTDOWN_DRAIN_SECONDS": "1",
    }
    with Service(folder, REDIS_URL=redis_url, **settings) as service:
        yield service


@pytest.fixture
def send_as(guarded: Service, api: httpx.Client) -> Callable[..., httpx.Response]:
    """Send a request with the key of a scope to an empty database; responses are checked against the API document."""
    api.base_url = guarded.url

    def send(scope: Scope | None, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        return api.request(method, path, headers={**bearer(scope), **(headers or {})}, **more)

    return send


def bearer(scope: Scope | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[scope]}"} if scope else {}


def test_a_worker_needs_only_the_scope_work(
    send_as: Callable[..., httpx.Response], guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in ("by-argument", "by-variable"):
        send_as(Scope.WRITE, "POST", "/v1/jobs", json={"job_id": job_id, "input_params": 1}).raise_for_status()
    with working(guarded.url, lambda work: work.job_id, api_key=KEYS[Scope.WORK]):
        wait_until(lambda: send_as(Scope.READ, "GET", "/v1/jobs/by-variable/result").status_code == 200, "both")
    send_as(Scope.WRITE, "POST", "/v1/jobs", json={"job_id": "third", "input_params": 1}).raise_for_status()
    monkeypatch.setenv("JOBSTATE_API_KEY", KEYS[Scope.WORK] + "\n")
    with working(guarded.url, lambda work: work.job_id):
        wait_until(lambda: send_as(Scope.READ, "GET", "/v1/jobs/third/result").status_code == 200, "the third")
    assert send_as(Scope.READ, "GET", "/v1/jobs/by-argument/result").json() == "by-argument"


def test_the_history_names_the_key_that_made_each_change(send_as: Callable[..., httpx.Response]) -> None:
    def done(scope: Scope, path: str, body: dict[str, Any], token: str = "", method: str = "POST") -> httpx.Response:
        response = send_as(scope, method, path, {"Lease-Token": token} if token else {}, json=body)
        return response.raise_for_status()

    job = {"job_id": "j", "input_params": 1, "max_attempts": 2, "run_timeout_seconds": 1}
    done(Scope.WRITE, "/v1/jobs", job)
    claim = {"queues": ["default"], "worker": "w", "max_jobs": 1}
    [first] = done(Scope.WORK, "/v1/batch-claim", claim).json()["items"]
    done(Scope.WORK, "/v1/jobs/j/heartbeat", {"progress": {"current": 1}}, first["lease"]["token"])
    done(Scope.WORK, "/v1/jobs/j/release", {}, first["lease"]["token"])
    [second] = done(Scope.WORK, "/v1/batch-claim", claim).json()["items"]
    done(Scope.WRITE, "/v1/jobs/j/cancel", {})
    done(Scope.WORK, "/v1/jobs/j", {"status": "failed"}, second["lease"]["token"], "PATCH")
    done(Scope.WRITE, "/v1/jobs/j/retry", {})
    done(Scope.WORK, "/v1/batch-claim", claim)
    wait_until(lambda: send_as(Scope.READ, "GET", "/v1/jobs/j").json()["status"] == "pending", "the time-out")

    items = send_as(Scope.READ, "GET", "/v1/jobs/j/history").json()["items"]
    assert [(item["change"], item.get("by")) for item in items] == [
        ("created", "key-of-write"),
        *(("running", "key-of-work"), ("pending", "key-of-work"), ("running", "key-of-work")),
        *(("cancel-requested", "key-of-write"), ("failed", "key-of-work"), ("retried", "key-of-write")),
        *(("running", "key-of-work"), ("pending", None)),
    ], "the last change is that of the reaper"


def test_a_worker_cannot_change_a_job_without_its_lease(send_as: Callable[..., httpx.Response]) -> None:
    send_as(Scope.WRITE, "POST", "/v1/jobs", json={"job_id": "free", "input_params": 1}).raise_for_status()
    for token, status in (({}, 403), ({"Lease-Token": ""}, 403), ({"Lease-Token": "1-made-up"}, 409)):
        response = send_as(Scope.WORK, "PATCH", "/v1/jobs/free", json={"status": "cancelled"}, headers=token)
        assert response.status_code == status
    assert send_as(Scope.READ, "GET", "/v1/jobs/free").json()["status"] == "pending"
    assert response.json()["type"].endswith("lease-lost")


def test_a_rejection_names_the_missing_key_or_scope(send_as: Callable[..., httpx.Response]) -> None:
    anonymous = send_as(None, "GET", "/v1/stats")
    assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, 'Bearer realm="jobstate"')
    wrong = send_as(None, "GET", "/v1/stats", headers={"Authorization": "Bearer jobstate_wrong"})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (
        401,
        'Bearer realm="jobstate", error="invalid_token"',
    )
    other = send_as(Scope.READ, "POST", "/v1/drain")
    assert (other.status_code, other.json()["scope"]) == (403, "admin")
    assert 'error="insufficient_scope", scope="admin"' in other.headers["www-authenticate"]
    assert send_as(Scope.ADMIN, "DELETE", "/v1/drain").status_code == 200


def test_a_body_without_a_valid_key_is_not_read(send_as: Callable[..., httpx.Response]) -> None:
    assert send_as(None, "POST", "/v1/jobs", content=b"x" * 2_000_000).status_code == 401


def test_probes_and_pages_need_no_key(guarded: Service) -> None:
    for path in ("/health", "/ready", "/", "/schema", "/schema/openapi.json"):
        assert httpx.get(f"{guarded.url}{path}").status_code == 200, path
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401
    assert httpx.get(f"{guarded.url}/metrics", headers=bearer(Scope.READ)).status_code == 200


def test_a_page_of_an_allowed_origin_can_send_a_key_and_read_a_401(guarded: Service) -> None:
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    may = httpx.options(f"{guarded.url}/v1/jobs", headers={"Origin": FRIEND, **preflight})
    assert may.status_code == 204
    assert "authorization" in may.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in may.headers
    rejected = httpx.get(f"{guarded.url}/v1/jobs", headers={"Origin": FRIEND})
    assert (rejected.status_code, rejected.headers["access-control-allow-origin"]) == (401, FRIEND)
    assert "WWW-Authenticate" in rejected.headers["access-control-expose-headers"]
    other = httpx.options(f"{guarded.url}/v1/jobs", headers={"Origin": "https://evil.example", **preflight})
    assert "access-control-allow-origin" not in other.headers


def test_the_terminal_client_sends_its_key(send_as: Callable[..., httpx.Response], guarded: Service) -> None:
    rejected = jobstate(guarded.url, "list")
    assert (rejected.code, rejected.out) == (1, b"")
    assert "JOBSTATE_API_KEY" in rejected.err
    made = jobstate(guarded.url, "submit", "-", "--id", "typed", stdin=b"1", JOBSTATE_API_KEY=KEYS[Scope.WRITE])
    assert (made.code, made.out) == (0, b"typed\n")
    read = jobstate(guarded.url, "get", "typed", "--json", "--api-key", KEYS[Scope.READ])
    assert json.loads(read.out)["job_id"] == "typed"
    send_as(Scope.WRITE, "POST", "/v1/jobs/typed/cancel").raise_for_status()
    assert jobstate(guarded.url, "watch", "typed", JOBSTATE_API_KEY=KEYS[Scope.READ]).code == 4


def test_every_response_has_the_security_headers(send_as: Callable[..., httpx.Response], guarded: Service) -> None:
    created = send_as(Scope.WRITE, "POST", "/v1/jobs", json={"job_id": "one", "input_params": 1})
    asset = httpx.get(guarded.url).text.split('src="')[1].split('"')[0]
    responses = [
        created,
        send_as(None, "GET", "/v1/jobs"),
        send_as(Scope.READ, "GET", "/v1/jobs/one"),
        send_as(Scope.READ, "GET", "/v1/jobs/one", headers={"If-None-Match": created.headers["etag"]}),
        send_as(Scope.READ, "GET", "/v1/jobs/none"),
        send_as(Scope.READ, "GET", "/v1/jobs", headers={"Host": "evil.example"}),
        *(httpx.get(f"{guarded.url}{path}") for path in ("/", f"/{asset}", "/schema", "/nothing", "/ready")),
        *(httpx.request(method, f"{guarded.url}/v1/jobs") for method in ("OPTIONS", "PUT")),
    ]
    with httpx.stream("GET", f"{guarded.url}/v1/events", headers=bearer(Scope.READ)) as stream:
        responses.append(stream)
    for response in responses:
        assert [(name, response.headers.get_list(name)) for name, _ in SECURITY_HEADERS] == [
            (name, [value]) for name, value in SECURITY_HEADERS
        ], response.url
    of_jobs = [
        response for response in responses if "/v1/" in str(response.url) and response.request.method != "OPTIONS"
    ]
    assert {response.headers.get("cache-control", "").split(",")[0] for response in of_jobs} == {"no-store"}


def test_the_log_has_the_name_of_the_key_and_no_key(send_as: Callable[..., httpx.Response], guarded: Service) -> None:
    preflight = {"X-Correlation-ID": "named"}
    send_as(Scope.READ, "GET", "/v1/stats", headers=preflight).raise_for_status()
    for header in ({"Authorization": f"Basic {KEYS[Scope.READ]}"}, {"Authorization": f"Bearer {KEYS[Scope.READ]}x"}):
        assert send_as(None, "GET", "/v1/stats", headers=header).status_code == 401
    send_as(Scope.READ, "GET", "/v1/jobs", headers={"Accept": KEYS[Scope.WORK]})
    wait_until(lambda: '"named"' in guarded.log, "the access line")
    [line] = [json.loads(one) for one in guarded.log.splitlines() if '"named"' in one]
    assert (line["key"], line["client"], line["status"]) == ("key-of-read", "127.0.0.1", 200)
    assert not [key for key in KEYS.values() if key in guarded.log]


def test_each_key_has_its_own_rate_limit(redis_url: str, tmp_path: Path) -> None:
    keys = {scope: entry(f"of-{scope}", KEYS[scope], "read") for scope in (Scope.READ, Scope.WORK)}
    with (
        Service(tmp_path, REDIS_URL=redis_url, RATE_LIMIT="1/hour", API_KEYS=" ".join(keys.values())) as service,
        sync_client(redis_url) as client,
    ):
        client.flushall()
        scopes = (Scope.READ, Scope.READ, Scope.WORK, None, Scope.WORK)
        codes = [httpx.get(f"{service.url}/v1/queues", headers=bearer(scope)).status_code for scope in scopes]
    assert codes == [200, 429, 200, 401, 429]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"JOBSTATE_HOST": "0.0.0.0"}, ["JOBSTATE_HOST='0.0.0.0'", "API_KEYS", "ALLOW_ANONYMOUS=1"]),
        ({"API_KEYS": f"ci:read:{KEYS[Scope.READ]}"}, ["API_KEYS='…' is not allowed", "NAME:SCOPE+SCOPE:SHA256"]),
    ],
)
def test_invalid_access_settings_prevent_the_start(environment: dict[str, str], expected: list[str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JOB", "API_", "REDIS_"))}
    process = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0"],
        env={**inherited, "REDIS_URL": "redis://127.0.0.1:1/0", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert all(words in process.stderr for words in expected)
    assert KEYS[Scope.READ] not in process.stderr
