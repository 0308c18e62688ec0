"""A request that asks for an upgrade is read like any other, regardless of segment boundaries."""

import asyncio
import random
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.server.header_size import MAX_HEADER_BYTES
from service.server.protocol import protocol_factory
from service.settings import Settings

#: Bytes of a body that a wrong parser would read as a request.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
    "several": b"Connection: upgrade\r\nUpgrade: h2c, TLS/1.0\r\nUpgrade: websocket\r\n",
    "reversed": b"Upgrade: foo/2\r\nConnection: UPGRADE\r\n",
    "without connection": b"Upgrade: h2c\r\n",
    "without protocol": b"Connection: upgrade\r\n",
}
Request = tuple[str, str, bytes]


class RecordingTransport:
    """A transport that records what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def get_extra_info(self, _: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Connection:
    """A connection to an application that records each request and responds without a body."""

    def __init__(self, **environment: str) -> None:
        self.requests: list[Request] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        settings = Settings.from_environment(environment)
        limited: Any = protocol_factory(settings, lambda _: None)
        config = uvicorn.Config(self._app, http=limited, interface="asgi3", log_config=None, ws="none")
        config.load()
        make: Any = config.http_protocol_class
        self.transport = RecordingTransport()
        self.protocol = make(config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.transport)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, is_whole = b"", False
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            is_whole = not message.get("more_body", False)
        self.requests.append((scope["method"], scope["path"], body))
        self.headers.append(list(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def receive(self, segments: Iterable[bytes]) -> list[Request]:
        for segment in segments:
            if not self.transport.is_closed:
                self.protocol.data_received(segment)
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        self.protocol.connection_lost(None)
        return self.requests


def with_length(upgrade: bytes, path: str = "/length", body: bytes = SMUGGLED) -> tuple[bytes, Request]:
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n"
    return head % (path.encode(), upgrade, len(body)) + body, ("POST", path, body)


def chunked(upgrade: bytes) -> tuple[bytes, Request]:
    head = b"PUT /chunked HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nHost: localhost\r\n\r\n" % upgrade
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b"{", SMUGGLED, b"}"))
    return head + chunks + b"0\r\nX-Trailer: 1\r\n\r\n", ("PUT", "/chunked", b"{" + SMUGGLED + b"}")


def without_body(upgrade: bytes) -> tuple[bytes, Request]:
    return b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % upgrade, ("GET", "/nothing", b"")


def pipeline(upgrade: bytes) -> tuple[bytes, list[Request]]:
    parts = [
        *(with_length(upgrade), chunked(upgrade), without_body(upgrade), without_body(b""), with_length(b"")),
        *(without_body(upgrade), without_body(upgrade), with_length(upgrade, "/empty", b""), chunked(b"")),
        with_length(upgrade, "/last"),
    ]
    return b"".join(sent for sent, _ in parts), [request for _, request in parts]


def split(sent: bytes, positions: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(positions), len(sent)]
    return [sent[start:end] for start, end in pairwise(bounds) if start < end]


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
async def test_requests_that_ask_for_an_upgrade_are_read_with_their_bodies(upgrade: bytes) -> None:
    sent, requests = pipeline(upgrade)
    for segments in ([sent], split(sent, range(len(sent)))):
        connection = Connection()
        assert await connection.receive(segments) == requests
        assert connection.transport.written.count(b"HTTP/1.1 200 OK\r\n") == len(requests)


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
async def test_any_split_into_two_segments_keeps_the_body(upgrade: bytes) -> None:
    for make in (with_length, chunked):
        (sent, request), (after, last) = make(upgrade), without_body(upgrade)
        for position in range(len(sent) + 1):
            assert await Connection().receive([sent[:position], sent[position:] + after]) == [request, last], position


async def test_random_splits_keep_every_request() -> None:
    generator = random.Random(1)
    for _ in range(100):
        sent, requests = pipeline(generator.choice(list(UPGRADES.values())))
        positions = generator.sample(range(len(sent)), generator.randrange(1, 30))
        assert await Connection().receive(split(sent, positions)) == requests, sorted(positions)


async def test_many_upgrade_requests_in_one_segment_each_get_a_response() -> None:
    sent, request = without_body(UPGRADES["h2c"])
    connection = Connection()
    assert await connection.receive([sent * 40]) == [request] * 40


@pytest.mark.parametrize("value", [b"close, upgrade", b"Upgrade, close"])
async def test_the_last_request_of_a_connection_may_ask_for_an_upgrade(value: bytes) -> None:
    sent, request = with_length(b"Upgrade: h2c\r\nConnection: %s\r\n" % value)
    connection = Connection()
    assert await connection.receive([sent, without_body(b"")[0]]) == [request]
    assert connection.transport.is_closed
    assert b"connection: close\r\n" in connection.transport.written


async def test_an_http_1_0_client_that_asks_for_an_upgrade_gets_a_response_and_is_closed() -> None:
    sent, request = with_length(UPGRADES["h2c"])
    connection = Connection()
    assert await connection.receive([sent.replace(b"HTTP/1.1", b"HTTP/1.0", 1)]) == [request]
    assert connection.transport.is_closed


async def test_a_client_that_expects_100_continue_gets_it_despite_an_upgrade() -> None:
    sent, request = with_length(UPGRADES["h2c"] + b"Expect: 100-continue\r\n")
    head = sent.removesuffix(SMUGGLED)
    connection = Connection()
    assert await connection.receive([head, SMUGGLED]) == [request]
    assert connection.transport.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Content-Length: +3\r\n",
    ],
)
@pytest.mark.parametrize("upgrade", [UPGRADES["h2c"], b""], ids=["upgrade", "plain"])
async def test_a_body_without_a_clear_length_is_rejected_with_and_without_an_upgrade(
    upgrade: bytes, framing: bytes
) -> None:
    connection = Connection()
    sent = b"POST /x HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n3\r\nabc\r\n0\r\n\r\n" % (upgrade, framing)
    assert await connection.receive([sent + SMUGGLED]) == []
    assert re.findall(rb"HTTP/1.1 (\d+)", connection.transport.written) == [b"400"]
    assert connection.transport.is_closed


@pytest.mark.parametrize("framing", [b"", b"Content-Length: %d\r\n" % len(SMUGGLED)])
async def test_bytes_after_a_connect_request_are_not_read_as_a_request(framing: bytes) -> None:
    connection = Connection()
    found = await connection.receive([b"CONNECT /x HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % framing + SMUGGLED])
    assert found == [("CONNECT", "/x", SMUGGLED if framing else b"")]
    assert connection.transport.written.count(b"HTTP/1.1") == 1
    assert connection.transport.is_closed


async def test_a_connect_request_to_another_host_is_rejected() -> None:
    connection = Connection()
    head = b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    assert await connection.receive([head + SMUGGLED]) == []
    assert re.findall(rb"HTTP/1.1 (\d+)", connection.transport.written) == [b"400"]
    assert connection.transport.is_closed


@pytest.mark.parametrize("part", ["head", "trailer", "next head"])
async def test_the_header_limit_applies_after_an_upgrade(part: str) -> None:
    large = b"X-Large: " + b"a" * 2 * MAX_HEADER_BYTES
    before = {
        "head": b"GET /x HTTP/1.1\r\n" + UPGRADES["h2c"],
        "trailer": chunked(UPGRADES["h2c"])[0].removesuffix(b"X-Trailer: 1\r\n\r\n"),
        "next head": with_length(UPGRADES["h2c"])[0] + b"GET /x HTTP/1.1\r\n",
    }
    connection = Connection()
    await connection.receive(split(before[part] + large, range(0, len(large), 8192)))
    assert b"HTTP/1.1 431 " in connection.transport.written
    assert connection.transport.is_closed


async def test_the_read_timeout_runs_until_the_body_after_an_upgrade_arrives() -> None:
    connection = Connection()
    sent, _ = with_length(UPGRADES["h2c"])
    connection.protocol.data_received(sent.removesuffix(SMUGGLED))
    assert connection.protocol._read_timeout.is_running
    connection.protocol.data_received(SMUGGLED)
    assert not connection.protocol._read_timeout.is_running
    connection.protocol.connection_lost(None)


@pytest.mark.parametrize("upgrade", [UPGRADES["h2c"], b""], ids=["upgrade", "plain"])
async def test_a_trailer_is_not_a_header(upgrade: bytes) -> None:
    sent, _ = chunked(upgrade)
    connection = Connection()
    position = sent.index(b"\r\n\r\n") + 4
    await connection.receive([sent[:position], sent[position:]])
    assert b"x-trailer" not in dict(connection.headers[0])


async def test_blanks_around_a_value_are_removed() -> None:
    connection = Connection()
    await connection.receive([b"GET / HTTP/1.1\r\nHost:localhost \r\nLease-Token: \t a b\t \t\r\nX-Empty: \t\r\n\r\n"])
    assert connection.headers == [[(b"host", b"localhost"), (b"lease-token", b"a b"), (b"x-empty", b"")]]


async def test_bytes_after_the_last_request_of_a_connection_do_not_lose_its_response() -> None:
    (first, request), (last, other) = with_length(UPGRADES["h2c"]), without_body(b"Connection: close\r\n")
    connection = Connection()
    assert await connection.receive([first + last + SMUGGLED]) == [request, other]
    assert re.findall(rb"HTTP/1.1 (\d+)", connection.transport.written) == [b"200", b"200"]


@pytest.mark.parametrize("upgrade", [UPGRADES["h2c"], b""], ids=["upgrade", "plain"])
async def test_the_largest_head_is_accepted_with_and_without_an_upgrade(upgrade: bytes) -> None:
    lines = b"Host: localhost\r\n%sContent-Length: 3\r\n" % upgrade
    counted = len("/x") + len("x-large") + sum(len(line) - len(": ") for line in lines.splitlines())
    for size, status in ((MAX_HEADER_BYTES, b"200"), (MAX_HEADER_BYTES + 1, b"431")):
        large = b"X-Large: %s\r\n" % (b"a" * (size - counted))
        connection = Connection()
        await connection.receive([b"POST /x HTTP/1.1\r\n" + lines + large + b"\r\nabc"])
        assert re.findall(rb"HTTP/1.1 (\d+)", connection.transport.written) == [status]
