"""The service behind a real nginx, set up as docs/deployment.md says: at the root of a host, and under a prefix."""

import asyncio
import re
import threading
from collections.abc import Iterator
from urllib.parse import urljoin

import httpx
import pytest

from jobstate import JobContext, Worker
from tests.helpers.cli_process import jobstate
from tests.helpers.nginx import BLOCKS, documented_block, nginx
from tests.helpers.polling import TIMEOUT, wait_until
from tests.helpers.service_process import Service
from tests.helpers.sse_clients import SseClient

HOST = "jobs.example.org"


@pytest.fixture(scope="module")
def trusting(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the documented settings."""
    environment = {"ALLOWED_HOSTS": f"{HOST},localhost", "TRUSTED_PROXIES": "127.0.0.1", "SHUTDOWN_DRAIN_SECONDS": "0"}
    with Service(tmp_path_factory.mktemp("trusting"), REDIS_URL=redis_url, **environment) as service:
        yield service


@pytest.fixture(scope="module", params=BLOCKS, ids=str)
def address(
    request: pytest.FixtureRequest, trusting: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the service behind nginx."""
    with nginx(tmp_path_factory.mktemp("nginx"), documented_block(request.param), trusting.url) as origin:
        yield origin.replace("127.0.0.1", "localhost") + BLOCKS[request.param]


@pytest.fixture
def proxied(api: httpx.Client, address: str) -> Iterator[httpx.Client]:
    """A client of the service behind nginx, on a database without jobs."""
    with httpx.Client(base_url=address, timeout=10) as http:
        yield http


def test_a_location_is_resolved_against_the_address_of_its_request(proxied: httpx.Client, address: str) -> None:
    created = proxied.post("/v1/jobs", json={"job_id": "behind", "input_params": 1})
    location = urljoin(f"{address}/v1/jobs", created.headers["location"])
    assert (created.status_code, location) == (201, f"{address}/v1/jobs/behind")
    assert httpx.get(location).json()["job_id"] == "behind"


def test_the_openapi_document_names_the_address_of_the_service(proxied: httpx.Client, address: str) -> None:
    document_address = f"{address}/schema/openapi.json"
    document = httpx.get(document_address).json()
    [server] = document["servers"]
    service = urljoin(document_address, server["url"]).removesuffix("/")
    assert (service, "/health" in document["paths"]) == (address, True)
    assert httpx.get(f"{service}/health").status_code == 200


@pytest.mark.parametrize("path", ["/", "/schema", "/schema/"])
def test_every_link_in_a_page_leads_to_the_service(proxied: httpx.Client, address: str, path: str) -> None:
    page = proxied.get(path)
    found = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.text)
    assert len(found) >= 5
    for one in found:
        if one.startswith("data:"):
            continue
        absolute = urljoin(f"{address}{path}", one)
        assert absolute.startswith(f"{address}/")
        assert httpx.get(absolute).status_code == 200, one


def test_a_problem_names_the_address_that_the_client_used(proxied: httpx.Client, address: str) -> None:
    prefix = httpx.URL(address).path.rstrip("/")
    detail = proxied.get("/nothing").json()["detail"]
    assert detail == f"There is no resource at '{prefix}/nothing'. {prefix}/schema/openapi.json lists all paths."


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (None, None, 201),
        (None, "{address}", 201),
        (HOST, f"http://{HOST}", 201),
        (f"{HOST}:80", f"http://{HOST}", 201),
        (HOST.upper(), f"http://{HOST}:80", 201),
        (f"{HOST}:443", f"https://{HOST}", 201),
        (HOST, f"https://{HOST}", 201),
        (HOST, f"http://{HOST}:8080", 403),
        (HOST, "https://evil.example", 403),
        ("evil.example", "http://evil.example", 421),
    ],
)
def test_only_pages_of_the_services_own_origin_may_change_jobs(
    proxied: httpx.Client, address: str, host: str | None, origin: str | None, status: int
) -> None:
    scheme_and_host = f"http://{httpx.URL(address).netloc.decode()}"
    headers = {"host": host} if host else {}
    if origin:
        headers["origin"] = origin.format(address=scheme_and_host)
    assert proxied.post("/v1/jobs", json={"input_params": 1}, headers=headers).status_code == status


def test_forwarded_headers_of_a_client_are_not_passed_on(proxied: httpx.Client, address: str) -> None:
    forged = {"X-Forwarded-Host": HOST, "X-Forwarded-Prefix": "/forged", "X-Forwarded-For": "192.0.2.1"}
    assert proxied.get("/v1/jobs", headers={**forged, "host": "evil.example"}).status_code == 421
    created = proxied.post("/v1/jobs", json={"input_params": 1}, headers=forged)
    assert "/forged" not in created.headers["location"]


def test_without_a_trusted_proxy_the_headers_have_no_effect(api: httpx.Client) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/forged", "Origin": "http://evil.example"}
    assert api.post("/v1/jobs", json={"input_params": 1}, headers=forged).status_code == 403
    del forged["Origin"]
    created = api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}, headers=forged)
    assert (created.status_code, created.headers["location"]) == (201, "/v1/jobs/j")


def test_events_arrive_one_by_one_while_their_stream_is_open(proxied: httpx.Client, address: str) -> None:
    with SseClient(address, "/v1/events") as all_jobs:
        all_jobs.wait_until(lambda events: [one for one in events if one.event == "hello"], "the first event")
        proxied.post("/v1/jobs", json={"job_id": "seen", "input_params": 1}).raise_for_status()
        with SseClient(address, "/v1/jobs/seen/events") as one_job:
            one_job.wait_until(lambda events: len(events) == 1, "the record as it is")
            all_jobs.wait_until(lambda events: len(events) == 2, "the creation")
            proxied.post("/v1/jobs/seen/cancel").raise_for_status()
            one_job.wait_until_closed()
            assert [status for _, status in one_job.types_and_statuses] == ["pending", "cancelled"]
        assert not all_jobs.closed.is_set()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/jobs/seen/events"])
def test_every_event_stream_tells_nginx_not_to_buffer_it(api: httpx.Client, path: str) -> None:
    api.post("/v1/jobs", json={"job_id": "seen", "input_params": 1}).raise_for_status()
    with api.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        assert (answer.status_code, answer.headers["x-accel-buffering"]) == (200, "no")


def test_the_cli_and_a_worker_accept_an_address_with_a_prefix(proxied: httpx.Client, address: str) -> None:
    def function(context: JobContext) -> str:
        return f"hello {context.input_params}"

    worker = Worker(f"{address}/", ["default"], function)
    thread = threading.Thread(target=lambda: asyncio.run(worker.serve()))
    thread.start()
    try:
        submitted = jobstate(address, "submit", "-", "--id", "j1", stdin=b'{"name": "world"}')
        assert submitted.code == 0, submitted.err
        watched = jobstate(f"{address}/", "watch", "j1", "--json")
        assert watched.code == 0, watched.err
        wait_until(lambda: proxied.get("/v1/jobs/j1").json()["status"] == "completed", "the end of the job")
        assert b"hello" in jobstate(address, "get", "j1", "--json").out
    finally:
        worker.stop()
        thread.join(TIMEOUT)


def test_a_body_that_is_too_large_is_rejected_by_the_service(proxied: httpx.Client) -> None:
    answer = proxied.post("/v1/jobs", json={"input_params": "x" * (1024 * 1024)})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:jobstate:problem:content-too-large")


def test_the_documented_nginx_blocks_differ_only_in_the_prefix() -> None:
    root, prefixed = map(documented_block, BLOCKS)
    lines = [line.partition("#")[0].strip() for line in root.splitlines()]
    others = [line.partition("#")[0].strip() for line in prefixed.splitlines()]
    assert {(one, other) for one, other in zip(lines, others, strict=True) if one != other} == {
        ("location / {", "location /sub/ {"),
        ("proxy_pass http://127.0.0.1:8000;", "proxy_pass http://127.0.0.1:8000/;"),
        ('proxy_set_header X-Forwarded-Prefix "";', "proxy_set_header X-Forwarded-Prefix /sub;"),
    }
