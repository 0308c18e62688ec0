"""HTTP of proxies, HTTP/1.0 clients and unusual clients, on raw sockets."""

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import pytest

from tests.helpers.service_process import Service
from tests.integration.server.test_limits import connect, received

JOB = b'{"job_id":"%s","input_params":1}'
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
SMUGGLED = b"DELETE /v1/jobs/j HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


def replies(answer: bytes) -> list[Reply]:
    """Return the responses on a connection. Each has a Content-Length or ends with the connection."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(first.split()[1])
        length = 0 if status in (100, 204, 304) else int(headers.get("content-length", len(rest)))
        found.append(Reply(status, headers, rest[:length]))
        answer = rest[length:]
    return [reply for reply in found if reply.status != 100]


def exchange(service: Service, *segments: bytes) -> list[Reply]:
    with connect(service) as connection:
        for segment in segments:
            connection.sendall(segment)
        return replies(received(connection))


def get(
    service: Service, path: str, *headers: bytes, version: bytes = b"1.1", host: bytes = b"Host: localhost"
) -> Reply:
    """Return the response to one request with these lines in its head."""
    lines = [line for line in (host, b"Connection: close", *headers) if line]
    [reply] = exchange(service, b"\r\n".join((b"GET %s HTTP/%s" % (path.encode(), version), *lines, b"", b"")))
    return reply


@pytest.fixture(scope="module")
def proxied(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that trusts a proxy on this machine and limits the rate of its clients."""
    environment = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMIT": "100000/minute", "SHUTDOWN_DRAIN_SECONDS": "1"}
    with Service(tmp_path_factory.mktemp("proxied"), REDIS_URL=redis_url, **environment) as service:
        yield service


@pytest.fixture
def job(api: httpx.Client) -> str:
    """The ETag of a job `j`."""
    return str(api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}).raise_for_status().headers["etag"])


def creation(name: str, *headers: bytes, is_chunked: bool = False) -> bytes:
    body = JOB % name.encode()
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    head = b"\r\n".join((b"POST /v1/jobs HTTP/1.1", b"Host: localhost", *headers, framing, b"", b""))
    return head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)


LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_a_transfer_coding_other_than_chunked_is_rejected(shared_service: Service, api: httpx.Client) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n"
    [reply] = exchange(shared_service, head + b"Connection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    assert (reply.status, reply.problem["errors"][0]["field"]) == (400, "Transfer-Encoding")


class TestRejectedAfterCompleteRequests:
    CREATE = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 36\r\n\r\n" + JOB % b"behind"
    HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    @pytest.mark.parametrize(
        "rest",
        [
            b"garbage\r\n\r\n",
            b"GET /health HTTP/1.1\r\nBad Header\r\n\r\n",
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
            b"GET /%s HTTP/1.1\r\n\r\n" % (b"a" * 70_000),
        ],
        ids=["no HTTP", "bad header", "bad chunk", "too large headers"],
    )
    def test_they_get_their_own_responses_and_the_connection_closes(
        self, shared_service: Service, api: httpx.Client, rest: bytes
    ) -> None:
        assert [reply.status for reply in exchange(shared_service, self.CREATE + rest)] == [201]
        assert api.get("/v1/jobs/behind").status_code == 200
        found = exchange(shared_service, self.HEALTH + self.CREATE + self.HEALTH + rest)
        assert [reply.status for reply in found] == [200, 201, 200]


class TestUpgrade:
    def test_a_body_is_not_read_as_the_next_request(self, shared_service: Service, api: httpx.Client, job: str) -> None:
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n" % (H2C, len(SMUGGLED))
        for segments in ((head + SMUGGLED + LAST,), (head, SMUGGLED, LAST), (head + SMUGGLED[:9], SMUGGLED[9:] + LAST)):
            rejected, last = exchange(shared_service, *segments)
            assert (rejected.status, rejected.problem["errors"][0]["field"]) == (400, "body")
            assert (last.status, last.body[:14]) == (200, b'{"status":"ok"')
        assert api.get("/v1/jobs/j").headers["etag"] == job

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_jobs_are_created_regardless_of_segment_boundaries(
        self, shared_service: Service, api: httpx.Client, is_chunked: bool
    ) -> None:
        generator = random.Random(is_chunked)
        upgrade = H2C.rstrip().split(b"\r\n")
        for number in range(20):
            names = [f"{number}-{one}" for one in range(3)]
            sent = b"".join(creation(name, *upgrade, is_chunked=is_chunked) for name in names) + LAST
            marks = [0, *sorted(generator.sample(range(len(sent)), 5)), len(sent)]
            found = exchange(shared_service, *(sent[start:end] for start, end in pairwise(marks)))
            assert [reply.status for reply in found] == [201, 201, 201, 200], marks
            assert [api.get(f"/v1/jobs/{name}").status_code for name in names] == [200] * 3

    @pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
    def test_curl_creates_a_job_while_it_offers_http2(self, shared_service: Service, api: httpx.Client) -> None:
        sent = ["-H", "Content-Type: application/json", "--data-binary", (JOB % b"j").decode()]
        command = ["curl", "--http2", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"]
        done = subprocess.run(
            [*command, *sent, f"{shared_service.url}/v1/jobs"], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout == "201 1.1"
        assert api.get("/v1/jobs/j").json()["input_params"] == 1

    def test_a_connect_request_closes_the_connection(
        self, shared_service: Service, api: httpx.Client, job: str
    ) -> None:
        for target, status in ((b"/v1/jobs", 405), (b"localhost:443", 400)):
            [rejected] = exchange(shared_service, b"CONNECT %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target + SMUGGLED)
            assert (rejected.status, rejected.headers["connection"]) == (status, "close")
        assert api.get("/v1/jobs/j").headers["etag"] == job


class TestDuplicateHeaders:
    @pytest.mark.parametrize(
        "lines",
        [
            (b'If-None-Match: "other"', b"If-None-Match: %s"),
            (b"If-None-Match: %s", b'If-None-Match: "other"'),
            (b'If-None-Match: W/"other", "more"', b"if-none-match: W/%s", b"IF-NONE-MATCH: "),
            (b"If-None-Match:", b"If-None-Match: *"),
        ],
    )
    def test_any_line_of_if_none_match_counts(self, shared_service: Service, job: str, lines: Sequence[bytes]) -> None:
        sent = [line.replace(b"%s", job.encode()) for line in lines]
        assert get(shared_service, "/v1/jobs/j", *sent).status == 304

    def test_a_star_and_a_tag_are_rejected(self, shared_service: Service, job: str) -> None:
        found = get(shared_service, "/v1/jobs/j", b"If-None-Match: *", b'If-None-Match: "other"')
        assert (found.status, found.problem["errors"][0]["field"]) == (400, "If-None-Match")

    @pytest.mark.parametrize(("others", "status"), [(1, 200), (2, 412)])
    def test_any_line_of_if_match_counts(self, shared_service: Service, job: str, others: int, status: int) -> None:
        lines = [b'If-Match: "other"', b"If-Match: %s" % (job.encode() if others == 1 else b'"more"')]
        body = b'{"status":"cancelled"}'
        first = [b"PATCH /v1/jobs/j HTTP/1.1", b"Host: localhost", b"Connection: close"]
        head = b"\r\n".join((*first, *lines, b"Content-Length: %d" % len(body), b"", b""))
        assert [reply.status for reply in exchange(shared_service, head + body)] == [status]

    def test_any_line_of_prefer_counts(self, shared_service: Service, job: str) -> None:
        found = get(shared_service, "/v1/jobs/j", b"Prefer: respond-async", b"Prefer: wait=0")
        assert found.headers["preference-applied"] == "wait=0"

    def test_any_line_of_accept_counts(self, shared_service: Service, job: str) -> None:
        for path in ("/v1/jobs/j", "/v1/jobs", "/health"):
            found = get(shared_service, path, b"Accept: text/html", b"Accept: application/json")
            assert (found.status, found.headers["content-type"]) == (200, "application/json")
        assert get(shared_service, "/v1/jobs/j", b"Accept: text/html", b"Accept: text/css").status == 406

    def test_any_line_of_accept_encoding_counts(self, shared_service: Service) -> None:
        page = get(shared_service, "/", b"Accept: text/html").body
        script = re.search(rb'src="(assets/[^"]+[.]js)"', page)
        assert script is not None
        found = get(shared_service, f"/{script[1].decode()}", b"Accept-Encoding: br", b"Accept-Encoding: gzip")
        assert found.headers["content-encoding"] == "gzip"

    @pytest.mark.parametrize(
        "name",
        [
            *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Lease-Token", "Origin"),
            *("X-Correlation-ID", "Access-Control-Request-Method"),
        ],
    )
    def test_different_values_of_a_header_that_is_no_list_are_rejected_by_name(
        self, shared_service: Service, name: str
    ) -> None:
        lines = [f"{name}: a".encode(), f"{name.lower()}: b".encode()]
        for path in ("/v1/jobs/j", "/health", "/nowhere"):
            found = get(shared_service, path, *lines)
            assert found.status == 400
            assert found.headers["content-type"] == "application/problem+json"
            assert found.problem["type"] == "urn:jobstate:problem:invalid-request"
            assert found.problem["errors"][0]["field"] == name
            assert found.problem["correlation_id"] == found.headers["x-correlation-id"]

    def test_the_same_value_twice_is_one_value(self, shared_service: Service, api: httpx.Client) -> None:
        sent = creation("j", *[b"Idempotency-Key: k", b"Content-Type: application/json"] * 2, b"Connection: close")
        for replayed in (None, "true"):
            [found] = exchange(shared_service, sent)
            assert (found.status, found.headers.get("idempotency-replayed")) == (201, replayed)

    def test_a_duplicate_traceparent_is_ignored(self, shared_service: Service, api: httpx.Client) -> None:
        traces = [b"traceparent: 00-%s-b7ad6b7169203331-01" % (sign * 32) for sign in (b"a", b"b")]
        [found] = exchange(shared_service, creation("j", *traces, b"Connection: close"))
        assert (found.status, "traceparent" in found.problem) == (201, False)


class TestBlanks:
    @pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t "])
    def test_blanks_around_a_value_are_ignored(self, shared_service: Service, api: httpx.Client, blanks: bytes) -> None:
        padded = [b"Idempotency-Key:%sk%s" % (blanks, blanks), b"Content-Type:%sapplication/json%s" % (blanks, blanks)]
        first = creation("j", b"Idempotency-Key: k", b"Connection:%sclose%s" % (blanks, blanks))
        again = creation("j", *padded, b"Connection: close").replace(b"Host: localhost", b"Host: localhost" + blanks)
        for sent, replayed in ((first, None), (again, "true")):
            [found] = exchange(shared_service, sent)
            assert (found.status, found.headers.get("idempotency-replayed")) == (201, replayed)

        claim = {"queues": ["default"], "worker": "w"}
        token = api.post("/v1/claims", json=claim).json()["lease"]["token"].encode()
        lines = [b"Host: localhost", b"Lease-Token: %s%s" % (token, blanks), b"Connection: close", b"Content-Length: 2"]
        head = b"\r\n".join((b"POST /v1/jobs/j/heartbeat HTTP/1.1", *lines, b"", b""))
        assert [reply.status for reply in exchange(shared_service, head + b"{}")] == [200]
        assert get(shared_service, "/health", b"X-Correlation-ID: c" + blanks).headers["x-correlation-id"] == "c"


class TestHost:
    @pytest.mark.parametrize("path", ["/v1/jobs", "/health", "/ready", "/metrics", "/", "/nowhere"])
    @pytest.mark.parametrize(
        "host",
        [
            *(b"", b"Host: localhost\r\nHost: localhost", b"Host: localhost\r\nHost: evil.example"),
            *(b"Host: a b", b"Host: localhost/v1", b"Host: user@localhost", b"Host: localhost:80:80", b"Host: [::1"),
            *(b"Host: localhost, localhost", b"Host: http://localhost", b"Host: caf\xc3\xa9", b"Host: localhost:x"),
        ],
    )
    def test_a_request_without_one_valid_host_is_rejected(
        self, shared_service: Service, path: str, host: bytes
    ) -> None:
        found = get(shared_service, path, host=host)
        assert (found.status, found.problem["errors"][0]["field"]) == (400, "Host")

    @pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:80", b"127.0.0.1:1", b"[::1]", b"[::1]:8000"])
    def test_a_request_with_one_valid_host_is_accepted(self, shared_service: Service, host: bytes) -> None:
        assert get(shared_service, "/v1/jobs", host=b"Host: " + host).status == 200

    def test_an_http_1_0_client_may_omit_the_host_but_not_send_two(self, shared_service: Service) -> None:
        assert get(shared_service, "/v1/jobs", host=b"", version=b"1.0").status == 200
        twice = b"Host: localhost\r\nHost: localhost"
        assert get(shared_service, "/v1/jobs", host=twice, version=b"1.0").status == 400

    def test_the_next_request_is_read_correctly_after_a_rejection(self, shared_service: Service) -> None:
        sent = creation("j").replace(b"Host: localhost\r\n", b"")
        assert [reply.status for reply in exchange(shared_service, sent + LAST)] == [400, 200]


class TestHttp10:
    @pytest.mark.parametrize("connection", [b"Connection: close", b"Connection: keep-alive"])
    @pytest.mark.parametrize("path", ["/v1/jobs/j/events", "/v1/jobs/j", "/v1/jobs", "/metrics", "/"])
    def test_a_response_is_not_chunked_and_closes_the_connection(
        self, shared_service: Service, api: httpx.Client, job: str, path: str, connection: bytes
    ) -> None:
        api.post("/v1/jobs/j/cancel").raise_for_status()
        lines = [b"GET %s HTTP/1.0" % path.encode(), b"Host: localhost", connection, b"Accept: */*", b"", b""]
        [found] = exchange(shared_service, b"\r\n".join(lines))
        assert (found.status, found.headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in found.headers
        if path.endswith("events"):
            assert "content-length" not in found.headers
            assert found.body == api.get(path).content
            assert found.body.startswith(b"retry: ")
        else:
            assert int(found.headers["content-length"]) == len(found.body) > 0

    def test_a_stream_delivers_events_as_they_happen(
        self, shared_service: Service, api: httpx.Client, job: str
    ) -> None:
        with connect(shared_service) as connection:
            connection.sendall(b"GET /v1/jobs/j/events HTTP/1.0\r\n\r\n")
            got = b""
            while b'"pending"' not in got:
                data = connection.recv(65536)
                assert data, got
                got += data
            api.post("/v1/jobs/j/cancel").raise_for_status()
            got += received(connection)
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert [line for line in body.split(b"\n") if line.startswith(b"event: ")] == [b"event: changed"] * 2
        assert body.endswith(b"\n\n")

    def test_an_http_1_0_client_gets_no_100_continue(self, shared_service: Service, api: httpx.Client) -> None:
        sent = creation("j", b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        with connect(shared_service) as connection:
            connection.sendall(sent)
            answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 201 ")

    def test_an_http_1_1_client_gets_a_chunked_stream(
        self, shared_service: Service, api: httpx.Client, job: str
    ) -> None:
        api.post("/v1/jobs/j/cancel").raise_for_status()
        assert get(shared_service, "/v1/jobs/j/events").headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    "client",
    [
        *("fe80::1%eth0", "fe80::1%1", "[fe80::1%eth0]:80", "::ffff:192.0.2.1%eth0", "fe80::1%", "fe80::1%a%b"),
        *("", ",", " , ", "unknown", "_hidden", "for=192.0.2.1", "192.0.2.1:99999999999999", "192.0.2.1:-1"),
        *("[::1", "[]", "[]:1", "::", "0", "256.256.256.256", "010.0.0.1", "192.0.2.1/24", "a" * 5000, "1" * 5000),
        *("192.0.2.1:" + "1" * 5000, "fe80::1%" + "a" * 5000, "caf\xe9", "fe80::1%\xe9", "127.0.0.1, fe80::1%eth0"),
        *("fe80::1%eth0, 127.0.0.1", "-", "%", "\x85", "2001:db8::1::1", "/", "'; --"),
    ],
)
def test_an_unusual_client_address_is_accepted(proxied: Service, client: str) -> None:
    for path, status in (("/v1/jobs", 200), ("/v1/jobs/none/events", 404), ("/health", 200)):
        found = get(proxied, path, b"X-Forwarded-For: " + client.encode("latin-1"), b"X-Forwarded-Proto: https")
        assert found.status == status, found.body
    assert '"unexpected error"' not in proxied.log


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"X-Forwarded-Proto: ftp",
            b"X-Forwarded-Proto: wss",
            b"X-Forwarded-Proto: https, http",
            b"X-Forwarded-Proto:",
        ),
        *(b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http", b"X-Forwarded-Proto: \xe9", b"X-Forwarded-Port: x"),
        *(b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: fe80::1%eth0", b"Forwarded: for=fe80::1%eth0;proto=x"),
        *(b"X-Forwarded-Host:", b"X-Forwarded-Prefix: x y"),
    ],
)
def test_unusual_proxy_headers_cause_no_error(proxied: Service, line: bytes) -> None:
    for path in ("/v1/jobs", "/health", "/", "/schema/openapi.json"):
        assert get(proxied, path, line, b"Accept: */*").status == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"X-Forwarded-Host: a b", 400), (b"X-Forwarded-Host: a\r\nX-Forwarded-Host: b", 421)],
    ids=["not a host", "two lines"],
)
def test_a_forwarded_host_is_checked_like_a_host(proxied: Service, line: bytes, status: int) -> None:
    assert get(proxied, "/v1/jobs", line).status == status
    assert '"unexpected error"' not in proxied.log
