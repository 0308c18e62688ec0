"""An HTTP transport with scripted responses, for cases that a real service cannot produce, such as a cut stream."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, Self

import httpx
import msgspec

from jobstate.cli.connection import AsyncClient, Client, open_async_client, open_client
from jobstate.config import configure
from tests.helpers.records import record_fields

URL = "http://service"
STREAM = "/v1/jobs/j1/events"
RECORD = "/v1/jobs/j1"


#: The part at which a stream stays open and silent.
OPEN: Final = asyncio.Event()
Part = bytes | Exception | asyncio.Event


class ScriptedTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Returns the responses of each path in turn, repeats the last one, and records all requests."""

    def __init__(self) -> None:
        self.responses: dict[str, list[httpx.Response | Exception]] = defaultdict(list)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        responses = self.responses[request.url.path]
        response = responses.pop(0) if len(responses) > 1 else responses[0]
        if isinstance(response, Exception):
            raise response
        return response

    def respond(self, path: str, *responses: httpx.Response | Exception) -> Self:
        self.responses[path].extend(responses)
        return self

    def requests_to(self, path: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.url.path == path]

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        async with open_async_client(configure(URL, ""), self) as client:
            yield client

    @contextlib.contextmanager
    def blocking_client(self) -> Iterator[Client]:
        with open_client(configure(URL, ""), self) as client:
            yield client


class _Parts(httpx.AsyncByteStream):
    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                yield part


def stream_response(*parts: Part) -> httpx.Response:
    """Return a stream that ends after these parts; its client reconnects at once."""
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=_Parts([b"retry: 0\n\n", *parts]))


def event(name: str, data: object, id_: str = "") -> bytes:
    lines = f"event: {name}\n" + (f"id: {id_}\n" if id_ else "")
    return lines.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


def changed_event(status: str, revision: int = 1, **fields: Any) -> bytes:
    return event("changed", record_fields(status, revision, **fields), f"1-{revision}")


def json_response(body: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, json=body)


def problem(status: int, name: str, detail: str, **headers: str) -> httpx.Response:
    body = {"type": f"urn:jobstate:problem:{name}", "title": "No", "detail": detail}
    return json_response(body, status, **{"Content-Type": "application/problem+json"}, **headers)
