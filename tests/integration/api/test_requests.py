"""HEAD, OPTIONS, CORS, content codings and other parts of HTTP that proxies, probes and browsers use."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.api.test_api import create, invalid, problem
from tests.integration.server.test_limits import connect, received

pytestmark = pytest.mark.usefixtures("consistent_store")

#: Headers that may differ between two responses to the same request.
VARYING = {"date", "x-correlation-id", "transfer-encoding"}
JSON = {"Content-Type": "application/json"}


def head_of(response: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]]]:
    headers = [(name, value) for name, value in response.headers.raw if name.decode().lower() not in VARYING]
    return response.status_code, headers


def read_head(api: httpx.Client, path: str, headers: dict[str, str]) -> tuple[int, list[tuple[bytes, bytes]]]:
    with api.stream("GET", path, headers=headers) as response:
        return head_of(response)


class TestHead:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            *((path, 200) for path in ("/", "/health", "/ready", "/schema", "/schema/openapi.json")),
            *((path, 200) for path in ("/v1/jobs", "/v1/jobs/j", "/v1/jobs/j?wait=0", "/v1/jobs/j/history")),
            *((path, 200) for path in ("/v1/stats", "/v1/queues", "/v1/drain")),
            *((path, 200) for path in ("/v1/events", "/v1/jobs/j/events")),
            *((path, 404) for path in ("/nothing", "/jobs", "/v1/jobs/none", "/v1/jobs/j/result")),
            *((path, 400) for path in ("/v1/jobs/-", "/v1/jobs?limit=0")),
            *((path, 405) for path in ("/v1/claims", "/v1/batch-claim", "/v1/batch-get", "/v1/jobs/j/cancel")),
        ],
    )
    def test_it_has_the_status_and_headers_of_get(self, api: httpx.Client, path: str, status: int) -> None:
        create(api, job_id="j")
        head = api.head(path)
        assert head_of(head) == read_head(api, path, {})
        assert (head.status_code, head.content) == (status, b"")

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"none"'}, 200),
            ({"Accept": "text/html"}, 406),
            ({"Host": "elsewhere.example"}, 421),
        ],
        ids=str,
    )
    def test_it_evaluates_the_same_conditions(self, api: httpx.Client, headers: dict[str, str], status: int) -> None:
        create(api, job_id="j")
        head = api.head("/v1/jobs/j", headers=headers)
        assert head_of(head) == read_head(api, "/v1/jobs/j", headers)
        assert head.status_code == status

    def test_the_metrics_allow_it_too(self, api: httpx.Client) -> None:
        head = api.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == api.get("/metrics").headers["content-type"]

    def test_no_body_is_sent_and_the_connection_stays_usable(self, api: httpx.Client, shared_service: Service) -> None:
        create(api, job_id="j")
        paths = ("/v1/jobs/j", "/v1/jobs/none", "/v1/jobs/j/events", "/v1/events", "/")
        requests = [f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths]
        last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with connect(shared_service) as connection:
            received_bytes = b""
            for request in requests:
                connection.sendall(request)
                while not received_bytes.endswith(b"\r\n\r\n"):
                    received_bytes += connection.recv(65536)
                assert received_bytes.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 Not Found\r\n"))
                assert received_bytes.count(b"\r\n\r\n") == 1
                received_bytes = b""
            connection.sendall(last)
            assert received(connection).endswith(b'{"status":"ok","version":"0.3.0"}')

    def test_a_stream_releases_its_slot(self, api: httpx.Client) -> None:
        create(api, job_id="j")
        for _ in range(20):  # more than the limit of one client
            assert [api.head(path).status_code for path in ("/v1/jobs/j/events", "/v1/events")] == [200, 200]
        wait_until(lambda: "jobstate_http_requests_waiting 0.0" in api.get("/metrics").text, "no waiting request")

    def test_the_log_and_the_metrics_have_its_method_and_route(
        self, api: httpx.Client, shared_service: Service
    ) -> None:
        create(api, job_id="j")
        for path, route in (("/v1/jobs/j", "/v1/jobs/{job_id}"), ("/v1/jobs/j/events", "/v1/jobs/{job_id}/events")):
            correlation_id = api.head(path).headers["x-correlation-id"]

            def line(correlation_id: str = correlation_id) -> list[dict[str, Any]]:
                return [json.loads(line) for line in shared_service.log.splitlines() if correlation_id in line]

            [found] = wait_until(line, "the access line")
            assert (found["method"], found["route"], found["status"]) == ("HEAD", route, 200)
            assert f'method="HEAD",route="{route}",status="200"' in api.get("/metrics").text

    @pytest.mark.parametrize(
        "sent",
        [
            b"HEAD /v1/jobs/j?wait=20 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
            b"HEAD /v1/jobs HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n",
            b"HEAD /v1/jobs HTTP/1.1\r\nHost: localhost\r\nLarge: " + b"x" * 70_000 + b"\r\n\r\n",
        ],
        ids=["body", "header", "large"],
    )
    def test_a_rejection_by_the_server_has_no_body(
        self, api: httpx.Client, shared_service: Service, sent: bytes
    ) -> None:
        create(api, job_id="j")
        with connect(shared_service) as connection:
            connection.sendall(sent)
            response = received(connection)
        assert response.startswith(b"HTTP/1.1 4")
        assert response.endswith(b"\r\n\r\n")

    def test_every_path_with_get_allows_it(self, api: httpx.Client) -> None:
        assert api.options("/v1/jobs").headers["allow"] == "GET, HEAD, OPTIONS, POST"
        rejected = api.put("/v1/jobs")
        assert rejected.headers["allow"] == "GET, HEAD, OPTIONS, POST"
        assert "Use one of GET, HEAD, OPTIONS, POST" in problem(rejected, 405, "method-not-allowed")["detail"]
        assert api.get("/v1/claims").headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/v1/jobs/j", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/v1/jobs/j/result", "GET, HEAD, OPTIONS"),
        ("/v1/jobs/j/events", "GET, HEAD, OPTIONS"),
        ("/v1/jobs/j/cancel", "OPTIONS, POST"),
        ("/v1/claims", "OPTIONS, POST"),
        ("/v1/drain", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/schema", "GET, HEAD, OPTIONS"),
        ("/schema/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_lists_the_methods_of_a_path(api: httpx.Client, path: str, methods: str) -> None:
    response = api.options(path)
    assert (response.status_code, response.headers["allow"]) == (204, methods)


def test_options_lists_the_methods_of_every_operation(api: httpx.Client) -> None:
    for path, item in api.get("/schema/openapi.json").json()["paths"].items():
        allowed = api.options(path.replace("{", "").replace("}", "")).headers["allow"].split(", ")
        assert {method.upper() for method in item} | {"OPTIONS"} == set(allowed) - {"HEAD"}, path
        assert ("HEAD" in allowed) == ("GET" in allowed), path


@pytest.fixture(scope="module")
def cors(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service that allows the pages of one other origin."""
    settings = {"REDIS_URL": redis_url, "SHUTDOWN_DRAIN_SECONDS": "1", "CORS_ORIGINS": "https://a.example"}
    with (
        Service(tmp_path_factory.mktemp("cors"), **settings) as service,
        httpx.Client(base_url=service.url) as http,
    ):
        yield http


class TestPreflights:
    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/j", "/health", "/", "/nothing"])
    def test_a_rejected_one_is_a_problem(self, cors: httpx.Client, path: str) -> None:
        ask = {"Origin": "https://b.example", "Access-Control-Request-Method": "GET"}
        found = problem(cors.options(path, headers=ask), 403, "origin-not-allowed")
        assert "https://b.example" in found["detail"]
        assert "`CORS_ORIGINS`" in found["detail"]

    def test_an_allowed_one_is_answered(self, cors: httpx.Client) -> None:
        ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "PATCH"}
        response = cors.options("/v1/jobs/j", headers=ask)
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (204, "https://a.example")

    def test_options_without_a_preflight_lists_the_methods(self, cors: httpx.Client) -> None:
        response = cors.options("/v1/claims", headers={"Origin": "https://b.example"})
        assert (response.status_code, response.headers["allow"]) == (204, "OPTIONS, POST")
        assert "access-control-allow-origin" not in response.headers


class TestContentEncoding:
    @pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "gzip, identity"])
    def test_a_body_in_gzip_is_read(self, api: httpx.Client, coding: str) -> None:
        body = gzip.compress(b'{"job_id": "j", "input_params": [1.0, "\xc3\xa9"]}')
        created = api.post("/v1/jobs", content=body, headers={**JSON, "Content-Encoding": coding})
        assert created.status_code == 201
        assert '"input_params":[1.0, "é"]' in api.get("/v1/jobs/j").text

    def test_a_compressed_creation_equals_an_uncompressed_one(self, api: httpx.Client) -> None:
        body = b'{"job_id": "j", "input_params": 1}'
        api.post("/v1/jobs", content=body, headers=JSON).raise_for_status()
        again = api.post("/v1/jobs", content=gzip.compress(body), headers={**JSON, "Content-Encoding": "gzip"})
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")

    def test_every_operation_with_a_body_reads_gzip(self, api: httpx.Client) -> None:
        headers = {**JSON, "Content-Encoding": "gzip"}

        def send(method: str, path: str, body: Any) -> httpx.Response:
            content = gzip.compress(json.dumps(body).encode())
            return api.request(method, path, content=content, headers=headers).raise_for_status()

        send("POST", "/v1/jobs", {"job_id": "j", "input_params": 1})
        lease = send("POST", "/v1/claims", {"queues": ["default"], "worker": "w", "wait_seconds": 5}).json()["lease"]
        headers["Lease-Token"] = lease["token"]
        send("POST", "/v1/jobs/j/heartbeat", {})
        send("PATCH", "/v1/jobs/j", {"status": "running", "progress": {"current": 1}})
        send("POST", "/v1/jobs/j/release", {})
        send("POST", "/v1/jobs/j/cancel", {})
        send("PUT", "/v1/queues/q", {"paused": False})
        assert send("POST", "/v1/batch-get", {"job_ids": ["j"]}).json()["items"][0]["status"] == "cancelled"
        send("POST", "/v1/drain", {"seconds": 1})
        api.delete("/v1/drain").raise_for_status()

    @pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br"])
    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/j/cancel", "/v1/drain"])
    def test_another_coding_is_named(self, api: httpx.Client, coding: str, path: str) -> None:
        response = api.post(path, content=b'{"input_params": 1}', headers={**JSON, "Content-Encoding": coding})
        assert f"`Content-Encoding: {coding}`" in problem(response, 415, "unsupported-media-type")["detail"]
        assert response.headers["accept-encoding"] == "gzip"

    def test_another_media_type_gets_accept_and_no_accept_encoding(self, api: httpx.Client) -> None:
        response = api.post("/v1/jobs", content=b"1", headers={"Content-Type": "text/plain"})
        assert ("accept-encoding" in response.headers, response.headers["accept"]) == (False, "application/json")

    @pytest.mark.parametrize("end", [-1, -9, 5])
    def test_truncated_gzip_is_rejected_with_the_reason(self, api: httpx.Client, end: int) -> None:
        body = gzip.compress(b'{"input_params": 1}')[:end]
        rejected = invalid(api.post("/v1/jobs", content=body, headers={**JSON, "Content-Encoding": "gzip"}), "body")
        assert rejected["detail"] == "its gzip data is truncated"

    def test_a_body_that_is_not_gzip_is_rejected_with_the_reason(self, api: httpx.Client) -> None:
        body = b'{"input_params": 1}'
        rejected = invalid(api.post("/v1/jobs", content=body, headers={**JSON, "Content-Encoding": "gzip"}), "body")
        assert "not valid gzip" in rejected["detail"]

    @pytest.mark.parametrize("is_chunked", [False, True])
    @pytest.mark.parametrize(("size", "status"), [(60_000, 201), (70_000, 413), (30_000_000, 413)])
    def test_the_body_limit_counts_uncompressed_bytes(
        self, api: httpx.Client, size: int, status: int, is_chunked: bool
    ) -> None:
        body = gzip.compress(b'{"input_params": "' + b"a" * size + b'"}')
        content: Any = iter([body]) if is_chunked else body
        response = api.post("/v1/jobs", content=content, headers={**JSON, "Content-Encoding": "gzip"})
        assert response.status_code == status
        if status == 413:
            problem(response, 413, "content-too-large")


class TestJson:
    @pytest.mark.parametrize(
        "sent",
        [
            *("application/json; charset=utf8", 'application/json; charset="UTF-8"', "application/json;charset=UTF-8"),
            *("application/json; charset=us-ascii", "Application/JSON", "application/json;"),
        ],
    )
    def test_every_name_of_utf8_is_accepted(self, api: httpx.Client, sent: str) -> None:
        body = '{"input_params": "é"}'.encode()
        assert api.post("/v1/jobs", content=body, headers={"Content-Type": sent}).json()["input_params"] == "é"

    @pytest.mark.parametrize("charset", ["latin-1", "utf-16", "utf-7", "unknown"])
    def test_another_charset_is_named(self, api: httpx.Client, charset: str) -> None:
        headers = {"Content-Type": f"application/json; charset={charset}"}
        rejected = problem(api.post("/v1/jobs", content=b"{}", headers=headers), 415, "unsupported-media-type")
        assert f"`Content-Type: application/json; charset={charset}`" in rejected["detail"]

    def test_a_byte_order_mark_is_skipped(self, api: httpx.Client) -> None:
        for body in (b'\xef\xbb\xbf{"job_id": "j", "input_params": 1}', b'{"job_id": "j", "input_params": 1}'):
            assert api.post("/v1/jobs", content=body, headers=JSON).status_code == 201
        for path in ("/v1/jobs/j/cancel", "/v1/drain"):
            assert api.post(path, content=b"\xef\xbb\xbf{}", headers=JSON).status_code == 200
        api.delete("/v1/drain").raise_for_status()


def test_unknown_query_parameters_are_rejected_under_v1_only(api: httpx.Client) -> None:
    for path in ("/", "/health", "/ready", "/metrics", "/schema", "/schema/openapi.json"):
        for query in ("utm_source=mail", "a=1&a=2", "a=%ff"):
            assert api.get(f"{path}?{query}").status_code == 200, path
    create(api, job_id="j")
    for path in ("/v1/jobs", "/v1/jobs/j", "/v1/stats", "/v1/events", "/v1/queues"):
        invalid(api.get(f"{path}?utm_source=mail"), "utm_source")
        invalid(api.get(f"{path}?a=%ff"), "query")


def test_a_browser_is_redirected_from_a_view_to_the_dashboard(api: httpx.Client) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for method in ("GET", "HEAD"):
        response = api.request(method, "/jobs?status=failed", headers=browser)
        assert (response.status_code, response.headers["location"]) == (302, "./#/jobs?status=failed")
    problem(api.get("/jobs"), 404, "unknown-route")
