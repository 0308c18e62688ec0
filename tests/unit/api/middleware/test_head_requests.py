import asyncio
from typing import Any

import pytest

from service.api.middleware.head_requests import allow, answer_head
from tests.unit.api.middleware.asgi import http_scope

START = {"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"4")]}
END = {"type": "http.response.body", "body": b"", "more_body": False}


async def run(app: Any, request: Any, receive: Any = None) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await answer_head(app)(request, receive, send)
    return sent


def head() -> Any:
    return {**http_scope(), "method": "HEAD"}


async def test_a_head_request_gets_the_headers_of_get() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["method"] == "GET"
        scope["path_template"] = "/a"
        await send(START)
        await send({"type": "http.response.body", "body": b"1234", "more_body": False})

    request = head()
    assert await run(app, request) == [START, END]
    assert (request["method"], request["path_template"]) == ("HEAD", "/a")


async def test_a_stream_ends_after_its_headers_as_if_its_client_disconnected() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": b"1", "more_body": True})

    assert await run(app, head()) == [START, END]


async def test_before_its_response_a_head_request_receives_messages() -> None:
    received = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.append(await receive())

    assert await run(app, head(), receive) == []
    assert received == [await receive()]


@pytest.mark.parametrize("request_scope", [http_scope(), {"type": "lifespan"}], ids=["GET", "lifespan"])
async def test_every_other_request_is_passed_on(request_scope: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope is request_scope
        await send(START)
        await send({**END, "body": b"1234"})

    assert await run(app, request_scope) == [START, {**END, "body": b"1234"}]


@pytest.mark.parametrize(
    ("methods", "header"),
    [
        (["POST", "GET", "OPTIONS"], "GET, HEAD, OPTIONS, POST"),
        ({"PUT", "OPTIONS"}, "OPTIONS, PUT"),
        (["GET", "HEAD"], "GET, HEAD"),
    ],
)
def test_head_is_allowed_where_get_is(methods: Any, header: str) -> None:
    assert allow(methods) == header
