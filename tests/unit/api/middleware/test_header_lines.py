import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import service.api
from service.api.middleware.header_lines import LISTS, SINGLE, join_header_lines, join_lines
from service.domain.errors import InvalidValue

HOST = (b"host", b"localhost")
#: Headers that are neither; comments where they are read say why.
OTHERS = {b"traceparent"}


class App:
    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = scope["headers"]


async def send_request(*headers: tuple[bytes, bytes], version: str = "1.1") -> tuple[App, list[Any]]:
    app, sent = App(), []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "http_version": version, "headers": list(headers), "state": {}}
    receive: Any = None
    await join_header_lines(app)(scope, receive, send)
    return app, sent


@pytest.mark.parametrize("name", sorted(LISTS))
def test_several_lines_of_a_list_are_joined_in_order(name: bytes) -> None:
    lines = [(name, b"a"), HOST, (name, b""), (b"x-other", b"1"), (name, b'"b, c"'), (b"x-other", b"2")]
    found = join_lines(lines)
    assert [value for one, value in found if one == name] == [b'a, "b, c"']
    assert [value for one, value in found if one == b"x-other"] == [b"1", b"2"]
    assert HOST in found


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_a_header_that_is_not_a_list_has_one_value(name: bytes) -> None:
    if name != b"host":
        assert join_lines([(name, b"a"), (name, b"a")]) == [(name, b"a")]
    for other in (b"b", b"", b"A"):
        with pytest.raises(InvalidValue) as raised:
            join_lines([(name, b"a"), (name, other)])
        assert raised.value.field.lower().encode() == name


def test_two_equal_hosts_are_rejected() -> None:
    with pytest.raises(InvalidValue):
        join_lines([HOST, HOST])


async def test_headers_without_repetition_are_unchanged() -> None:
    lines = [HOST, (b"accept", b""), (b"x-other", b"1")]
    app, _ = await send_request(*lines)
    assert app.headers == lines


async def test_a_rejection_is_a_problem_and_the_application_is_not_called() -> None:
    app, [start, body] = await send_request(HOST, (b"lease-token", b"a"), (b"lease-token", b"b"))
    assert app.headers is None
    assert (start["status"], dict(start["headers"])[b"content-type"]) == (400, b"application/problem+json")
    problem = json.loads(body["body"])
    assert problem["type"] == "urn:jobstate:problem:invalid-request"
    assert [one["field"] for one in problem["errors"]] == ["Lease-Token"]


@pytest.mark.parametrize(
    ("host", "is_valid"),
    [
        *(
            (one, True)
            for one in (b"", b"a", b"A.example:80", b"a_b", b"1.2.3.4:", b"[::1]:1", b"[fe80::1%25e]", b"%41")
        ),
        *(
            (one, False)
            for one in (b"a b", b"a/b", b"a@b", b"a:b", b"[::1", b"::1", b"a:1:2", b"%4", b"\xe9", b"a?", b"a\n")
        ),
    ],
)
async def test_a_host_is_checked_for_its_syntax(host: bytes, is_valid: bool) -> None:
    app, sent = await send_request((b"host", host))
    assert (app.headers is not None, [one["status"] for one in sent[:1]]) == (is_valid, [] if is_valid else [400])


@pytest.mark.parametrize(("version", "is_required"), [("0.9", False), ("1.0", False), ("1.1", True), ("2", True)])
async def test_only_http_1_0_requests_may_omit_host(version: str, is_required: bool) -> None:
    app, _ = await send_request(version=version)
    assert (app.headers is None) == is_required
    app, _ = await send_request(HOST, HOST, version=version)
    assert app.headers is None


def names_read(path: Path) -> Iterator[bytes]:
    """Yield the names of the headers that a module reads."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(attr="get" | "getall", value=ast.Attribute(attr="headers")), args=args):
                pass
            case ast.Call(func=ast.Name(id="get_header" | "_values"), args=[_, *args]):
                pass
            case ast.Call(func=ast.Name(id="in_header"), args=args):
                pass
            case _:
                continue
        for one in args[:1]:
            if isinstance(one, ast.Constant):
                yield (one.value if isinstance(one.value, bytes) else str(one.value).encode()).lower()


def test_every_header_that_the_api_reads_is_listed() -> None:
    found = {name for path in Path(service.api.__file__).parent.rglob("*.py") for name in names_read(path)}
    assert {b"accept", b"if-match", b"lease-token", b"authorization", b"origin", b"traceparent"} <= found
    assert found <= LISTS | SINGLE | OTHERS
    assert not LISTS & SINGLE
