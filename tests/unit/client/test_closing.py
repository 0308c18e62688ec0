"""Calls that are cancelled, or whose client or connection is closed."""

import asyncio
import contextlib
import logging
from typing import Any

import anyio
import httpx
import pytest

from jobstate import AsyncJobs, Jobs, JobstateError
from tests.helpers.records import record_fields

STATS = b'{"at":"2026-01-01T00:00:00Z","statuses":{},"queues":{},"running":{"leased":0,"unleased":0}}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(STATS), STATS)
#: More steps of the event loop than a request takes.
STEPS = 60


async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(RESPONSE)


def test_a_call_that_is_cancelled_at_any_step_leaves_no_request_in_the_connection_pool() -> None:
    async def cancel_after(jobs: AsyncJobs, steps: int) -> bool:
        call = asyncio.create_task(jobs.stats())
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        return call.cancelled()

    async def run() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, AsyncJobs(f"http://127.0.0.1:{port}", api_key="") as jobs:
            outcomes = [await cancel_after(jobs, steps) for steps in range(STEPS)]
            assert any(outcomes)
            assert not all(outcomes)
            assert jobs._http._transport._pool._requests == []  # type: ignore[attr-defined]

    asyncio.run(run())


def test_a_wait_whose_client_is_closed_ends_without_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    requests = []

    def close(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.method == "POST":
            return httpx.Response(201, json=record_fields("pending", 1))
        jobs.close()
        raise httpx.ReadError("Bad file descriptor")

    jobs = Jobs("http://service", api_key="", transport=httpx.MockTransport(close))
    with caplog.at_level(logging.DEBUG, "jobstate"), pytest.raises(JobstateError, match="the client is closed"):
        jobs.submit(1).wait()
    assert len(requests) == 2
    assert not [record for record in caplog.records if record.name == "jobstate"]


def test_an_async_wait_whose_client_is_closed_ends_without_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    async def close(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(201, json=record_fields("pending", 1))
        await jobs.aclose()
        raise httpx.ReadError("")

    async def run() -> None:
        with pytest.raises(JobstateError, match="the client is closed"):
            await (await jobs.submit(1)).wait()

    jobs = AsyncJobs("http://service", api_key="", transport=httpx.MockTransport(close))
    with caplog.at_level(logging.DEBUG, "jobstate"):
        asyncio.run(run())
    assert not [record for record in caplog.records if record.name == "jobstate"]


def test_a_connection_that_uvloop_closes_before_the_request_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a proxy accepts a connection and resets it at once."""
    import uvloop

    connect = anyio.connect_tcp
    connections = []

    async def connect_and_lose_first(**options: Any) -> Any:
        stream: Any = await connect(**options)
        connections.append(stream)
        if len(connections) == 1:
            stream._transport.abort()
            for _ in range(STEPS):
                await asyncio.sleep(0)
        return stream

    async def run() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, AsyncJobs(f"http://127.0.0.1:{port}", api_key="") as jobs:
            assert (await jobs.stats()).statuses == {}

    monkeypatch.setattr(anyio, "connect_tcp", connect_and_lose_first)
    uvloop.run(run())
    assert len(connections) == 2
