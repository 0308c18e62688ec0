import asyncio
import gc
import json
import re
from typing import Any

import pytest
from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp

from service.api.middleware.admission import AdmissionMiddleware, NormalizingCORSConfig, Preflights, host_of
from service.api.middleware.concurrency import ConcurrencyLimiter, RequestSlot

LOCAL = ("localhost", "127.0.0.1", "[::1]", "*.jobs.example")


class App:
    """Answers 200 once it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.full = asyncio.Event()
        self.seen = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen += 1
        if self.seen == 2:
            self.full.set()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def scope(path: str = "/v1/jobs", host: str | None = "localhost", **state: Any) -> Any:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    return {"type": "http", "method": "GET", "path": path, "headers": headers, "state": state}


def change(origin: str | None, host: str = "localhost:8000") -> Any:
    headers = [] if origin is None else [(b"origin", origin.encode())]
    return {**scope(host=host), "method": "POST", "headers": [(b"host", host.encode()), *headers]}


async def ask(app: ASGIApp, scope: Any) -> tuple[int, dict[str, str], Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await app(scope, None, send)  # type: ignore[arg-type]
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, json.loads(body["body"]) if body["body"] else None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:1",
        "localhost:",
        "[0:0:0:0:0:0:0:1]:8000",
        "[::1]",
        "[::1]:8000",
        "a.jobs.example",
        "b.a.jobs.example:80",
        None,
    ],
)
async def test_a_request_for_a_host_of_ours_is_let_in(host: str | None) -> None:
    app = App()
    assert (await ask(AdmissionMiddleware(app, LOCAL, (), ConcurrencyLimiter(1, 1, 1)), scope(host=host)))[0] == 200
    assert app.seen == 1


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "jobs.example", "evil-jobs.example", "127.0.0.1.nip.io", "", "[::2]:80"],
)
async def test_a_request_for_another_host_is_refused(host: str) -> None:
    app = App()
    status, headers, problem = await ask(
        AdmissionMiddleware(app, LOCAL, (), ConcurrencyLimiter(1, 1, 1)), scope(host=host)
    )
    assert (status, app.seen) == (421, 0)
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:jobstate:problem:host-not-allowed"
    assert re.fullmatch("[0-9a-f]{32}", problem["correlation_id"])
    assert "ALLOWED_HOSTS" in problem["detail"]


async def test_without_a_list_every_host_is_let_in() -> None:
    assert (
        await ask(AdmissionMiddleware(App(), None, (), ConcurrencyLimiter(1, 1, 1)), scope(host="anything.example"))
    )[0] == 200


async def test_more_than_the_most_at_one_time_are_refused_and_later_ones_let_in() -> None:
    app = App()
    app.go.clear()
    admission = AdmissionMiddleware(app, None, (), ConcurrencyLimiter(2, 1, 1))
    waiting = [asyncio.create_task(ask(admission, scope())) for _ in range(2)]
    await app.full.wait()

    status, headers, problem = await ask(admission, scope())
    assert (status, headers["retry-after"]) == (503, "1")
    assert problem["type"] == "urn:jobstate:problem:overloaded"

    app.go.set()
    assert [one[0] for one in await asyncio.gather(*waiting)] == [200, 200]
    assert (await ask(admission, scope()))[0] == 200


async def test_a_request_that_fails_gives_its_place_back() -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    admission = AdmissionMiddleware(broken, None, (), ConcurrencyLimiter(1, 1, 1))
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await ask(admission, scope())


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_are_answered_whatever_else_goes_on(path: str) -> None:
    refuses_all = AdmissionMiddleware(App(), LOCAL, (), ConcurrencyLimiter(0, 1, 1))
    assert (await ask(refuses_all, scope()))[0] == 503
    assert (await ask(refuses_all, scope(path, "10.0.0.1:8000", crowded=True)))[0] == 200


async def test_on_a_connection_too_many_a_request_is_refused_and_the_connection_closed() -> None:
    status, headers, problem = await ask(
        AdmissionMiddleware(App(), None, (), ConcurrencyLimiter(9, 1, 1)), scope(crowded=True)
    )
    assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
    assert "MAX_CONNECTIONS" in problem["detail"]


@pytest.mark.parametrize(
    ("header", "host"),
    [("A.B:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("a:b", "a:b")],
)
def test_the_host_is_told_from_its_port(header: str, host: str) -> None:
    assert host_of(scope(host=header)) == host


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "HTTP://LOCALHOST:8000", "https://friend.example"])
async def test_a_change_comes_from_no_page_from_its_own_or_from_an_allowed_one(origin: str | None) -> None:
    assert (
        await ask(
            AdmissionMiddleware(App(), LOCAL, ("https://friend.example",), ConcurrencyLimiter(1, 1, 1)), change(origin)
        )
    )[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:9000",
        "",
        "http://localhost",
        "http://localhost:99999",
        "http://[",
    ],
)
async def test_a_change_by_another_page_is_refused(origin: str) -> None:
    app = App()
    status, headers, problem = await ask(
        AdmissionMiddleware(app, LOCAL, ("https://friend.example",), ConcurrencyLimiter(1, 1, 1)), change(origin)
    )
    assert (status, app.seen) == (403, 0)
    assert problem["type"] == "urn:jobstate:problem:origin-not-allowed"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("origin", "host"),
    [("https://localhost", "localhost:443"), ("http://localhost:80", "LOCALHOST"), ("https://localhost", "localhost")],
)
async def test_the_default_port_of_an_origin_equals_none(origin: str, host: str) -> None:
    assert (await ask(AdmissionMiddleware(App(), LOCAL, (), ConcurrencyLimiter(1, 1, 1)), change(origin, host)))[
        0
    ] == 200


@pytest.mark.parametrize("origin", ["https://friend.example:443", "HTTPS://Friend.Example"])
async def test_an_allowed_origin_is_compared_in_one_spelling_and_echoed_as_it_was_sent(origin: str) -> None:
    status, headers, _ = await ask(
        AdmissionMiddleware(App(), LOCAL, ("https://friend.example",), ConcurrencyLimiter(0, 1, 1)), change(origin)
    )
    assert (status, headers["access-control-allow-origin"]) == (503, origin)
    assert NormalizingCORSConfig(allow_origins=["https://friend.example"]).is_origin_allowed(origin)


async def test_reading_is_left_to_the_rules_of_browsers_and_any_page_may_be_allowed() -> None:
    asked = {**change("https://evil.example"), "method": "GET"}
    assert (await ask(AdmissionMiddleware(App(), LOCAL, (), ConcurrencyLimiter(1, 1, 1)), asked))[0] == 200
    assert (
        await ask(
            AdmissionMiddleware(App(), LOCAL, ("*",), ConcurrencyLimiter(1, 1, 1)), change("https://evil.example")
        )
    )[0] == 200


async def test_a_page_of_an_allowed_origin_may_read_why_it_is_refused() -> None:
    _, headers, _ = await ask(
        AdmissionMiddleware(App(), LOCAL, ("https://friend.example",), ConcurrencyLimiter(0, 1, 1)),
        change("https://friend.example"),
    )
    assert headers["access-control-allow-origin"] == "https://friend.example"
    assert headers["access-control-expose-headers"] == "retry-after"


async def test_a_request_leaves_its_seat_to_no_garbage_collector() -> None:
    admission = AdmissionMiddleware(App(), LOCAL, (), ConcurrencyLimiter(1, 1, 1))
    gc.disable()
    try:
        await ask(admission, scope())
        assert not [one for one in gc.get_objects() if type(one) is RequestSlot]
    finally:
        gc.enable()


def options(origin: str | None, *more: tuple[bytes, bytes], path: str = "/v1/jobs") -> Any:
    headers = [] if origin is None else [(b"origin", origin.encode())]
    return {**scope(path), "method": "OPTIONS", "headers": [*headers, *more]}


PREFLIGHT = (b"access-control-request-method", b"GET")
CORS = CORSConfig(allow_origins=["https://a.example"])


@pytest.mark.parametrize("path", ["/v1/jobs", "/health", "/nothing"])
@pytest.mark.parametrize("origin", ["https://b.example", "null"])
async def test_a_refused_preflight_is_a_problem(origin: str, path: str) -> None:
    app = App()
    status, headers, body = await ask(Preflights(app, CORS), options(origin, PREFLIGHT, path=path))
    assert (status, headers["content-type"], app.seen) == (403, "application/problem+json", 0)
    assert body["type"].endswith("origin-not-allowed")
    assert origin in body["detail"]
    assert "access-control-allow-origin" not in headers


async def test_other_requests_pass_by_the_check_of_preflights() -> None:
    for request in (options("https://a.example", PREFLIGHT), options(None), options("", PREFLIGHT), scope()):
        headers = list(request["headers"])
        assert (await ask(Preflights(App(), CORS), request))[0] == 200
        assert request["headers"] == headers


async def test_what_is_no_preflight_is_not_taken_for_one() -> None:
    request = options("https://b.example", (b"host", b"localhost"))
    assert (await ask(Preflights(App(), CORS), request))[0] == 200
    assert request["headers"] == [(b"host", b"localhost")]
