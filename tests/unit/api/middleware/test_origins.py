from typing import Any

import pytest
from litestar.config.cors import CORSConfig

from service.api.middleware.concurrency import ConcurrencyLimiter
from service.api.middleware.origins import NormalizingCORSConfig, reject_preflights
from tests.unit.api.middleware.asgi import App, admission, http_scope, post_scope, request

FRIEND = ("https://friend.example",)
PREFLIGHT = (b"access-control-request-method", b"GET")
CORS = CORSConfig(allow_origins=["https://a.example"])


def full() -> ConcurrencyLimiter:
    return ConcurrencyLimiter(0, 1, 1)


def options(origin: str | None, *more: tuple[bytes, bytes], path: str = "/v1/jobs") -> Any:
    headers = [] if origin is None else [(b"origin", origin.encode())]
    return {**http_scope(path), "method": "OPTIONS", "headers": [*headers, *more]}


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "HTTP://LOCALHOST:8000", "https://friend.example"])
async def test_a_change_without_origin_or_from_its_own_or_an_allowed_origin_is_admitted(origin: str | None) -> None:
    assert (await request(admission(origins=FRIEND), post_scope(origin)))[0] == 200


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
async def test_a_change_from_another_origin_is_rejected(origin: str) -> None:
    app = App()
    status, headers, problem = await request(admission(app, origins=FRIEND), post_scope(origin))
    assert (status, app.requests) == (403, 0)
    assert problem["type"] == "urn:jobstate:problem:origin-not-allowed"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("origin", "host"),
    [("https://localhost", "localhost:443"), ("http://localhost:80", "LOCALHOST"), ("https://localhost", "localhost")],
)
async def test_the_default_port_of_an_origin_may_be_omitted(origin: str, host: str) -> None:
    assert (await request(admission(), post_scope(origin, host)))[0] == 200


@pytest.mark.parametrize("origin", ["https://friend.example:443", "HTTPS://Friend.Example"])
async def test_an_allowed_origin_is_normalized_for_comparison_and_echoed_as_sent(origin: str) -> None:
    status, headers, _ = await request(admission(origins=FRIEND, limiter=full()), post_scope(origin))
    assert (status, headers["access-control-allow-origin"]) == (503, origin)
    assert NormalizingCORSConfig(allow_origins=["https://friend.example"]).is_origin_allowed(origin)


async def test_a_get_is_admitted_from_every_origin_and_a_star_allows_every_origin() -> None:
    get = {**post_scope("https://evil.example"), "method": "GET"}
    assert (await request(admission(), get))[0] == 200
    assert (await request(admission(origins=("*",)), post_scope("https://evil.example")))[0] == 200


async def test_a_page_of_an_allowed_origin_can_read_a_rejection() -> None:
    _, headers, _ = await request(admission(origins=FRIEND, limiter=full()), post_scope("https://friend.example"))
    assert headers["access-control-allow-origin"] == "https://friend.example"
    assert headers["access-control-expose-headers"] == "retry-after"


@pytest.mark.parametrize("path", ["/v1/jobs", "/health", "/nothing"])
@pytest.mark.parametrize("origin", ["https://b.example", "null"])
async def test_a_rejected_preflight_is_a_problem(origin: str, path: str) -> None:
    app = App()
    status, headers, body = await request(reject_preflights(app, CORS), options(origin, PREFLIGHT, path=path))
    assert (status, headers["content-type"], app.requests) == (403, "application/problem+json", 0)
    assert body["type"].endswith("origin-not-allowed")
    assert origin in body["detail"]
    assert "access-control-allow-origin" not in headers


async def test_allowed_preflights_and_other_requests_are_passed_on() -> None:
    for scope in (options("https://a.example", PREFLIGHT), options(None), options("", PREFLIGHT), http_scope()):
        headers = list(scope["headers"])
        assert (await request(reject_preflights(App(), CORS), scope))[0] == 200
        assert scope["headers"] == headers


async def test_an_options_request_that_is_no_preflight_loses_its_origin() -> None:
    scope = options("https://b.example", (b"host", b"localhost"))
    assert (await request(reject_preflights(App(), CORS), scope))[0] == 200
    assert scope["headers"] == [(b"host", b"localhost")]
