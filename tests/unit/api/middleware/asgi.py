"""An ASGI application, requests and a client for tests of middleware."""

import asyncio
import json
from typing import Any

from litestar.types import ASGIApp

from service.api.middleware.admission import admit_requests
from service.api.middleware.concurrency import ConcurrencyLimiter
from service.api.request_context import CONTEXT, RequestContext


class App:
    """Responds with 200 once `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.two_requests = asyncio.Event()
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        if self.requests == 2:
            self.two_requests.set()
        await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def admission(
    app: ASGIApp | None = None,
    hosts: tuple[str, ...] | None = None,
    origins: tuple[str, ...] = (),
    limiter: ConcurrencyLimiter | None = None,
) -> ASGIApp:
    return admit_requests(app or App(), limiter or ConcurrencyLimiter(1, 1, 1), hosts, origins)


def http_scope(path: str = "/v1/jobs", host: str | None = "localhost", **context: Any) -> Any:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    state = {CONTEXT: RequestContext(**context)}
    return {"type": "http", "method": "GET", "path": path, "headers": headers, "state": state}


def post_scope(origin: str | None, host: str = "localhost:8000") -> Any:
    headers = [] if origin is None else [(b"origin", origin.encode())]
    return {**http_scope(), "method": "POST", "headers": [(b"host", host.encode()), *headers]}


async def request(app: ASGIApp, scope: Any) -> tuple[int, dict[str, str], Any]:
    """Return the status, headers and JSON body of the response."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await app(scope, None, send)  # type: ignore[arg-type]
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, json.loads(body["body"]) if body["body"] else None
