"""Limits: the number of connections, time-outs, sizes of requests, rate limits."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.problems import ALL_PROBLEM_TYPES
from service.server.protocol import MAX_REJECTED_CONNECTIONS, MAX_TRAILING_BODY_BYTES
from service.server.security_headers import SECURITY_HEADERS
from tests.helpers.deployments import sync_client
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service

#: A request whose body is incomplete.
HALF = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
#: `CLIENT_TIMEOUT_SECONDS` in these tests.
CLIENT_TIMEOUT = 1


@pytest.fixture(scope="module")
def strict(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with narrow limits."""
    environment = {
        "CLIENT_TIMEOUT_SECONDS": str(CLIENT_TIMEOUT),
        "KEEP_ALIVE_SECONDS": str(CLIENT_TIMEOUT),
        "MAX_CONNECTIONS": "5",
        "MAX_BODY_BYTES": str(8 * 1024 * 1024),
    }
    with Service(tmp_path_factory.mktemp("strict"), REDIS_URL=redis_url, **environment) as service:
        yield service


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service with limits that the test sets."""
    with contextlib.ExitStack() as started:

        def start(**environment: str) -> Service:
            limits = {"MAX_BODY_BYTES": str(16 * 1024 * 1024), **environment}
            return started.enter_context(Service(tmp_path, REDIS_URL=redis_url, **limits))

        yield start


def connect(service: Service) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def received(connection: socket.socket) -> bytes:
    """Return all bytes until the service closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found


def problem_in(answer: bytes) -> tuple[int, str, dict[str, str]]:
    head, body = answer.split(b"\r\n\r\n", 1)
    first, *lines = head.decode().split("\r\n")
    headers = dict(re.split(": ", line.lower(), maxsplit=1) for line in lines)
    problem = json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert {name: headers.get(name) for name, _ in SECURITY_HEADERS} == {
        name: value.lower() for name, value in SECURITY_HEADERS
    }
    assert problem["correlation_id"] == headers["x-correlation-id"]
    assert problem["status"] == int(first.split()[1])
    return problem["status"], problem["type"].rpartition(":")[2], problem


def logged(service: Service, correlation_id: str) -> dict[str, Any]:
    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in service.log.splitlines() if f'"{correlation_id}"' in line]

    return dict(wait_until(lines, "the log line")[0])


@pytest.mark.parametrize(
    "sent",
    [b"GET /v1/jobs HTTP/1.1\r\nHost: loc", HALF],
    ids=["head", "body"],
)
def test_an_incomplete_request_times_out(strict: Service, sent: bytes) -> None:
    lines = strict.log.count('"request"')
    with connect(strict) as connection:
        connection.sendall(sent)
        started = time.monotonic()
        answer = received(connection)
    assert CLIENT_TIMEOUT * 0.9 < time.monotonic() - started < 10
    status, name, problem = problem_in(answer)
    assert (status, name) == (408, "request-timeout")
    assert logged(strict, problem["correlation_id"])["status"] == 408
    assert not [line for line in strict.log.splitlines() if json.loads(line)["level"] == "error"]
    assert strict.log.count('"request"') == lines + 1


def test_a_client_that_disconnects_during_its_request_causes_no_error(
    start: Callable[..., Service],
) -> None:
    service = start()
    with connect(service) as connection:
        connection.sendall(HALF)
    [line] = wait_until(lambda: [one for one in service.log.splitlines() if '"request"' in one], "the log line")
    assert (json.loads(line)["status"], json.loads(line).get("problem")) == (499, None)
    assert '"error"' not in service.log
    counters = [
        line
        for line in httpx.get(f"{service.url}/metrics").text.splitlines()
        if "jobstate_http_problems_total{" in line
    ]
    assert len(counters) == len(ALL_PROBLEM_TYPES), "every problem type has a counter at startup"
    assert {line.rpartition(" ")[2] for line in counters} == {"0.0"}


def test_single_bytes_do_not_extend_the_read_timeout(strict: Service) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nX-Slow: ")
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 10:
                connection.sendall(b"a")
                connection.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        break
        assert time.monotonic() - started < 10


def test_a_connection_without_a_request_is_closed(strict: Service) -> None:
    with connect(strict) as connection:
        assert received(connection) == b""


def test_an_idle_connection_is_closed_after_its_response(strict: Service) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in answer


@contextlib.contextmanager
def response_of_12_mb(service: Service) -> Iterator[tuple[socket.socket, int]]:
    """Yield a connection that has requested more than the system buffers hold, and the size of the body.

    The job is created first: a connection made before might exceed the client timeout of 1 s.
    """
    with httpx.Client(base_url=service.url, timeout=30) as api:
        large = {"job_id": "large", "input_params": "x" * (12 * 1024 * 1024)}
        # A slow disk may keep Redis from replying to so large a change in time: 503.
        wait_until(lambda: api.post("/v1/jobs", json=large).status_code == 201, "the creation", timeout=30)
        size = len(api.get("/v1/jobs/large").content)
    with connect(service) as connection:
        connection.sendall(b"GET /v1/jobs/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield connection, size


def test_a_client_that_does_not_read_its_response_is_disconnected(start: Callable[..., Service]) -> None:
    service = start(CLIENT_TIMEOUT_SECONDS="1", KEEP_ALIVE_SECONDS="60")
    with response_of_12_mb(service):
        wait_until(lambda: open_connections(service) == 0, "the end of the connection", timeout=20)


@pytest.mark.parametrize("then", [b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /hea"], ids=["all", "half"])
def test_a_client_that_sends_another_request_but_does_not_read_is_disconnected(
    start: Callable[..., Service], then: bytes
) -> None:
    service = start(CLIENT_TIMEOUT_SECONDS="2", KEEP_ALIVE_SECONDS="60")
    with response_of_12_mb(service) as (connection, _):
        connection.recv(1)
        connection.sendall(then)
        wait_until(lambda: open_connections(service) == 0, "the end of the connection", timeout=20)


def test_a_client_that_reads_slowly_gets_its_whole_response(start: Callable[..., Service]) -> None:
    service = start(CLIENT_TIMEOUT_SECONDS="2", KEEP_ALIVE_SECONDS="1")
    with response_of_12_mb(service) as (connection, size):
        read, started = 0, time.monotonic()
        while read < size and (data := connection.recv(65536)):
            read += len(data)
            while read > (time.monotonic() - started) * size / 5:  # 5 s in all, longer than both limits
                time.sleep(0.02)
    assert read > size


def open_connections(service: Service) -> int:
    """Return the number of client connections, according to the kernel."""
    port = f"{int(service.url.rpartition(':')[2]):04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port}") and line.split()[3] == "01"
    }
    held = {str(link.readlink()) for link in Path(f"/proc/{service.process.pid}/fd").iterdir() if link.is_symlink()}
    return len({f"socket:[{inode}]" for inode in inodes} & held)


def test_a_large_head_is_rejected(strict: Service) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nX-Large: " + b"a" * 80 * 1024 + b"\r\n\r\n")
        status, name, _ = problem_in(received(connection))
    assert (status, name) == (431, "headers-too-large")


def test_a_client_that_sends_an_endless_head_is_disconnected(start: Callable[..., Service]) -> None:
    service = start()
    with connect(service) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nX-Large: ")
        for _ in range(100):
            connection.sendall(b"a" * 64 * 1024)
        pytest.fail("the service read 6 MB")
    wait_until(lambda: '"problem":"headers-too-large"' in service.log, "the log line")


def test_a_client_that_keeps_sending_a_rejected_body_is_disconnected(start: Callable[..., Service]) -> None:
    service, piece = start(MAX_BODY_BYTES="65536"), b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with connect(service) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                connection.sendall(piece)
            pytest.fail("the service read 64 MB of a rejected body")
    wait_until(lambda: '"problem":"content-too-large"' in service.log, "the log line")


def test_a_client_whose_body_is_slightly_too_large_gets_the_problem(start: Callable[..., Service]) -> None:
    with connect(start(MAX_BODY_BYTES="65536")) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            + b"18000\r\n"
            + b"x" * 0x18000
            + b"\r\n0\r\n\r\n"
        )
        assert problem_in(received(connection))[:2] == (413, "content-too-large")


def test_a_connection_stays_open_after_a_body_above_the_largest_limit(start: Callable[..., Service]) -> None:
    size = 65536 + MAX_TRAILING_BODY_BYTES
    with connect(start(MAX_BODY_BYTES="65536", MAX_BATCH_BYTES="65536")) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"x" * size)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200 ")


def test_trailers_count_towards_the_header_limit(strict: Service) -> None:
    with connect(strict) as connection:
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
        connection.sendall(head + b"".join(b"X-%d: " % n + b"a" * 1000 + b"\r\n" for n in range(80)))
        status, name, _ = problem_in(received(connection))
    assert (status, name) == (431, "headers-too-large")


def test_the_header_limit_applies_to_each_pipelined_request(start: Callable[..., Service]) -> None:
    service, count = start(), 4000
    with connect(service) as connection:
        connection.sendall(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Some: more\r\n\r\n" * count + b"GET /health HTTP/1.1\r\nHo"
        )
        answers = b""  # the service still waits for the rest of the last request
        while answers.count(b"HTTP/1.1 200") < count:
            data = connection.recv(65536)
            assert data, answers[-500:]
            answers += data


def test_line_breaks_do_not_keep_a_connection_open(strict: Service) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert b"request-timeout" in received(connection)


def test_input_that_is_not_http_gets_a_problem(strict: Service) -> None:
    with connect(strict) as connection:
        connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
        status, name, problem = problem_in(received(connection))
    assert (status, name) == (400, "malformed-request")
    assert logged(strict, problem["correlation_id"])["problem"] == "malformed-request"


def test_connections_over_the_limit_get_503_until_others_close(strict: Service) -> None:
    wait_until(lambda: open_connections(strict) == 0, "an idle service")
    request = b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as opened:
        first = [opened.enter_context(connect(strict)) for _ in range(5)]
        for connection in first:
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(strict) as excess:
            excess.sendall(request)
            status, name, problem = problem_in(received(excess))
        assert (status, name) == (503, "overloaded")
        assert "MAX_CONNECTIONS" in problem["detail"]
        probe = opened.enter_context(connect(strict))
        probe.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert probe.recv(65536).startswith(b"HTTP/1.1 200")
    wait_until(lambda: httpx.get(f"{strict.url}/v1/jobs").status_code == 200, "a free connection")


def test_a_flood_of_connections_is_disconnected_and_survived(start: Callable[..., Service]) -> None:
    service = start(MAX_CONNECTIONS="5")
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(connect(service))
        wait_until(lambda: open_connections(service) == 5 + MAX_REJECTED_CONNECTIONS, "the cut", timeout=15)
    wait_until(lambda: httpx.get(f"{service.url}/v1/jobs").status_code == 200, "a free connection")


def test_another_host_name_is_rejected_on_loopback(strict: Service) -> None:
    response = httpx.post(f"{strict.url}/v1/jobs", json={"input_params": 1}, headers={"Host": "evil.example"})
    assert response.status_code == 421
    assert response.json()["type"] == "urn:jobstate:problem:host-not-allowed"
    assert httpx.get(f"{strict.url}/ready", headers={"Host": "10.1.2.3:8000"}).status_code == 200


@pytest.fixture
def limited(redis_url: str, tmp_path: Path) -> Iterator[Service]:
    with sync_client(redis_url) as client:
        client.flushall()
    environment = {"RATE_LIMIT": "3/minute", "TRUSTED_PROXIES": "127.0.0.1", "CORS_ORIGINS": "https://a.example"}
    with Service(tmp_path, REDIS_URL=redis_url, **environment) as service:
        yield service


def test_a_client_over_the_rate_limit_gets_429_with_retry_after(limited: Service) -> None:
    with httpx.Client(base_url=limited.url) as api:
        answers = [api.get("/v1/jobs") for _ in range(3)] + [api.post("/v1/jobs", content=b"no json")]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit"].split(";t=")[0] for answer in answers] == [
            *('"default";r=2', '"default";r=1', '"default";r=0', '"default";r=0')
        ]
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"default";q=3;w=60'}
        rejected = answers[-1]
        assert rejected.json()["type"] == "urn:jobstate:problem:rate-limited"
        assert 1 <= int(rejected.headers["retry-after"]) <= 20

        exempt = [api.get(path).status_code for path in ("/health", "/ready", "/metrics", "/schema/openapi.json")]
        assert exempt == [200] * 4
        page = api.get("/v1/jobs", headers={"Origin": "https://a.example"})
        assert "RateLimit" in page.headers["access-control-expose-headers"]


def test_clients_behind_a_trusted_proxy_are_limited_separately(limited: Service) -> None:
    def ask(client: str) -> int:
        return httpx.get(f"{limited.url}/v1/jobs", headers={"X-Forwarded-For": client}).status_code

    assert [ask("192.0.2.1") for _ in range(4)] == [200, 200, 200, 429]
    assert ask("192.0.2.2") == 200
    assert [ask(f"2001:db8:0:1::{number}") for number in range(4)] == [200, 200, 200, 429]
    assert ask("2001:db8:0:2::1") == 200


def test_ipv4_clients_of_a_dual_stack_socket_are_limited_separately(redis_url: str, tmp_path: Path) -> None:
    with (
        Service(tmp_path, REDIS_URL=redis_url, RATE_LIMIT="1/hour", JOBSTATE_HOST="::", ALLOW_ANONYMOUS="1") as service,
        sync_client(redis_url) as client,
    ):
        client.flushall()
        url = f"http://127.0.0.1:{service.url.rpartition(':')[2]}/v1/jobs"
        codes = []
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as http:
                codes.append(http.get(url).status_code)
        assert '"client":"127.0.0.2"' in service.log
    assert codes == [200, 200, 429]


def test_x_forwarded_for_is_ignored_without_a_trusted_proxy(redis_url: str, tmp_path: Path) -> None:
    with (
        Service(tmp_path, REDIS_URL=redis_url, RATE_LIMIT="2/hour") as service,
        sync_client(redis_url) as client,
    ):
        client.flushall()
        codes = [
            httpx.get(f"{service.url}/v1/jobs", headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
            for number in range(3)
        ]
    assert codes == [200, 200, 429]


def test_a_rate_limit_adds_no_delay_while_redis_is_unavailable(tmp_path: Path) -> None:
    settings = {"REDIS_URL": "redis://127.0.0.1:1/0", "RATE_LIMIT": "3/minute", "SHUTDOWN_DRAIN_SECONDS": "0"}
    with Service(tmp_path, **settings) as service:
        started = time.monotonic()
        response = httpx.get(f"{service.url}/v1/jobs", timeout=10)
        assert time.monotonic() - started < 3.5
    assert response.json()["type"] == "urn:jobstate:problem:store-unreachable"
