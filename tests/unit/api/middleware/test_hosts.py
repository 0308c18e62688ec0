import re

import pytest

from service.api.middleware.hosts import host_of
from tests.unit.api.middleware.asgi import App, admission, http_scope, request

LOCAL = ("localhost", "127.0.0.1", "[::1]", "*.jobs.example")


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
async def test_a_request_for_an_allowed_host_is_admitted(host: str | None) -> None:
    app = App()
    assert (await request(admission(app, LOCAL), http_scope(host=host)))[0] == 200
    assert app.requests == 1


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "jobs.example", "evil-jobs.example", "127.0.0.1.nip.io", "", "[::2]:80"],
)
async def test_a_request_for_another_host_is_rejected(host: str) -> None:
    app = App()
    status, headers, problem = await request(admission(app, LOCAL), http_scope(host=host))
    assert (status, app.requests) == (421, 0)
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:jobstate:problem:host-not-allowed"
    assert re.fullmatch("[0-9a-f]{32}", problem["correlation_id"])
    assert "ALLOWED_HOSTS" in problem["detail"]


async def test_without_allowed_hosts_every_host_is_admitted() -> None:
    assert (await request(admission(hosts=None), http_scope(host="anything.example")))[0] == 200


@pytest.mark.parametrize(
    ("header", "host"),
    [("A.B:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("a:b", "a:b")],
)
def test_the_host_is_split_from_its_port(header: str, host: str) -> None:
    assert host_of(http_scope(host=header)) == host
