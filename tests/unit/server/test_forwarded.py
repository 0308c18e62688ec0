from typing import Any

import pytest

from service.api.request_context import context_of
from service.server.forwarded import ForwardedHeaders

PROXY, CLIENT = "10.0.0.1", "192.0.2.1"


async def forwarded_scope(*headers: tuple[str, str], peer: str | None = PROXY, trusted: str = "10.0.0.0/8") -> Any:
    """Return the scope that the application gets."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    raw = [(name.lower().encode(), value.encode()) for name, value in [("Host", "backend:8000"), *headers]]
    scope: Any = {"type": "http", "client": (peer, 1) if peer else None, "scheme": "http", "headers": raw, "state": {}}
    await ForwardedHeaders(app, [trusted])(scope, None, None)
    return scopes[0]


def hosts(scope: Any) -> list[str]:
    return [value.decode() for name, value in scope["headers"] if name == b"host"]


async def test_a_trusted_proxy_determines_client_scheme_host_and_prefix() -> None:
    scope = await forwarded_scope(
        ("X-Forwarded-For", CLIENT),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "jobs.example:8443"),
        ("X-Forwarded-Prefix", "/sub"),
    )
    assert (scope["client"][0], scope["scheme"], hosts(scope)) == (CLIENT, "https", ["jobs.example:8443"])
    assert context_of(scope).path_prefix == "/sub"


@pytest.mark.parametrize("peer", [CLIENT, None])
async def test_the_headers_of_an_untrusted_client_are_ignored(peer: str | None) -> None:
    scope = await forwarded_scope(("X-Forwarded-Host", "jobs.example"), ("X-Forwarded-Prefix", "/sub"), peer=peer)
    assert (hosts(scope), scope["state"]) == (["backend:8000"], {})


async def test_a_client_does_not_become_trusted_by_the_address_that_a_proxy_forwards() -> None:
    forged = (("X-Forwarded-For", PROXY), ("X-Forwarded-Host", "jobs.example"))
    assert hosts(await forwarded_scope(*forged, peer=CLIENT)) == ["backend:8000"]


@pytest.mark.parametrize(
    ("values", "host"),
    [
        (["forged.example, jobs.example"], "jobs.example"),
        (["forged.example", "jobs.example"], "jobs.example"),
        (["jobs.example ,"], "jobs.example"),
        ([""], "backend:8000"),
        ([" , "], "backend:8000"),
    ],
)
async def test_the_last_of_several_hosts_is_used(values: list[str], host: str) -> None:
    assert hosts(await forwarded_scope(*(("X-Forwarded-Host", value) for value in values))) == [host]


@pytest.mark.parametrize(
    ("values", "prefix"),
    [
        (["/sub"], "/sub"),
        (["/sub/"], "/sub"),
        (["/a/b-c_d.e~f%20g"], "/a/b-c_d.e~f%20g"),
        (["/a", "/b"], "/a/b"),
        (["/a, /b"], "/a/b"),
        *(([wrong], "") for wrong in ("", "/", "sub", "//evil.example", "/a//b", "/a b", "/a?b", "/a#b", "/a\\b")),
        (["https://evil.example/sub"], ""),
        (["/<script>"], ""),
    ],
)
async def test_a_prefix_is_a_path_and_several_prefixes_are_joined(values: list[str], prefix: str | None) -> None:
    scope = await forwarded_scope(*(("X-Forwarded-Prefix", value) for value in values))
    assert context_of(scope).path_prefix == prefix
