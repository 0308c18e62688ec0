"""Hostile clients: too many connections, slow or aborted requests, and bodies that are no valid request."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import httpx

from tests.chaos.history import Call, Kind
from tests.chaos.http import open_client
from tests.chaos.recording_client import observe

if TYPE_CHECKING:
    from tests.chaos.environment import Environment

CONNECTIONS: Final = 2000
GIGABYTE: Final = 1 << 30

#: Invalid bodies of a creation. `%s` stands for a job id; no job may exist under it afterwards.
INVALID_BODIES: Final = {
    "ten thousand levels": b'{"job_id":"%s","input_params":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "broken UTF-8": b'{"job_id":"%s","input_params":"\xff\xfe"}',
    "NaN": b'{"job_id":"%s","input_params":NaN}',
    "infinity": b'{"job_id":"%s","input_params":1,"max_attempts":1e999}',
    "a huge count": b'{"job_id":"%s","input_params":1,"scenario_count":' + b"9" * 4000 + b"}",
    "a lone surrogate in a label": b'{"job_id":"%s","input_params":1,"slate_id":"\\ud800"}',
    "a lone surrogate": b'{"job_id":"%s","input_params":"\\ud800"}',
    "a null byte in a label": b'{"job_id":"%s","input_params":1,"slate_id":"a\\u0000b"}',
    "a null byte in the id": b'{"job_id":"%s\\u0000","input_params":1}',
    "a duplicate id, the last one invalid": b'{"job_id":"%s","job_id":"a/b","input_params":1}',
    "a truncated body": b'{"job_id":"%s","input_params":',
    "an empty body": b"",
}
#: Unusual bodies that are valid.
UNUSUAL_BODIES: Final = {
    "a huge number": b'{"input_params":1e999}',
    "duplicate keys": b'{"input_params":{"a":1,"a":2}}',
    "an escaped null byte": b'{"input_params":"\\u0000"}',
}


def _host_and_port(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def _unexpected(name: str, response: httpx.Response, *allowed: int) -> list[str]:
    if response.status_code == 503:  # Redis may be unavailable, or the service at its limits
        return []
    if response.status_code not in allowed:
        return [f"{name} got {response.status_code}: {response.text[:200]}"]
    if response.status_code >= 400 and response.headers["content-type"] != "application/problem+json":
        return [f"{name} got an error that is no problem: {response.text[:200]}"]
    return []


async def request_unmanaged_hash(url: str, job_id: str) -> list[str]:
    """Send every kind of request for a hash that jobstate does not manage; return the violations."""
    path, found = f"/v1/jobs/{job_id}", []
    requests: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("POST", "/v1/jobs", {"job_id": job_id, "input_params": 1}),
        ("PATCH", path, {"status": "running"}),
        ("POST", f"{path}/cancel", None),
        ("DELETE", path, None),
    ]
    async with open_client(url, timeout=10) as http:
        for method, target, body in requests:
            response = await http.request(method, target, json=body)
            found += _unexpected(f"{method} of an unmanaged hash", response, 404, 500)
    return found


async def connection_flood(url: str, environment: "Environment") -> list[str]:
    """Open 2,000 connections at once, a tenth of which send a request; return the violations."""

    async def connect(number: int) -> bytes:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(*_host_and_port(url))
                opened.append(writer)
                if number % 10 == 0:
                    writer.write(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return await reader.read()
        return b""

    opened: list[asyncio.StreamWriter] = []
    responses = await asyncio.gather(*(connect(number) for number in range(CONNECTIONS)))
    for writer in opened:
        writer.transport.abort()
    lines = {response.split(b"\r\n", 1)[0] for response in responses if response}
    return [f"a connection of the flood got {line!r}" for line in lines if line.split()[1] not in (b"200", b"503")]


async def slow_clients(url: str, environment: "Environment") -> list[str]:
    """Send byte by byte, do not read, abort within a body. The checker finds any job that this creates."""
    duration = environment.fault_seconds
    ends = time.monotonic() + duration

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*_host_and_port(url))

    async def send_slowly(number: int) -> None:
        _, writer = await connect()
        for byte in _creation_request(f"slow-{number}"):
            if time.monotonic() > ends:
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(duration / 8)
        writer.transport.abort()

    async def do_not_read() -> None:
        _, writer = await connect()
        writer.transport.pause_reading()
        writer.write(b"GET /v1/jobs?limit=200 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        await asyncio.sleep(max(0, ends - time.monotonic()))
        writer.transport.abort()

    async def abort(number: int) -> None:
        _, writer = await connect()
        content = _creation_request(f"aborted-{number}")
        writer.write(content[: environment.rng.randrange(1, len(content))])
        await asyncio.sleep(environment.rng.uniform(0, duration))
        writer.transport.abort()

    names = [f"{prefix}-{number}" for prefix in ("slow", "aborted") for number in range(20)]
    _record_rejected_creations(environment, names)
    clients = [*(send_slowly(number) for number in range(20)), *(abort(number) for number in range(20))]
    async with asyncio.TaskGroup() as group:
        for client in [*clients, *(do_not_read() for _ in range(10))]:
            group.create_task(_ignore_reset(client))
    return []


async def _ignore_reset(client: Any) -> None:
    with contextlib.suppress(OSError):
        await client


def _creation_request(job_id: str) -> bytes:
    body = json.dumps({"job_id": job_id, "input_params": "x" * 500}).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def _record_rejected_creations(environment: "Environment", job_ids: list[str]) -> None:
    """Record rejected creations, so that the checker reports any job that they created."""
    now = time.time()
    environment.history.calls += [Call(Kind.CREATE, now, now, job_id=job_id, status=400) for job_id in job_ids]


async def bad_bodies(url: str, environment: "Environment") -> list[str]:
    """Send invalid and unusual bodies, and a body of a gigabyte; return the violations."""
    found: list[str] = []
    headers = {"Content-Type": "application/json"}
    async with open_client(url, timeout=20, headers=headers) as http:
        for number, (name, body) in enumerate(INVALID_BODIES.items()):
            content = body.replace(b"%s", b"bad-%d" % number)
            found += _unexpected(name, await http.post("/v1/jobs", content=content), 400)
        _record_rejected_creations(environment, [f"bad-{number}" for number in range(len(INVALID_BODIES))])
        for name, body in UNUSUAL_BODIES.items():
            key = f"unusual-{time.time_ns()}"
            response = await http.post("/v1/jobs", content=body, headers={"Idempotency-Key": key})
            found += _unexpected(name, response, 201)
            if response.status_code == 201:
                job_id = response.json()["job_id"]
                record = (await http.get(f"/v1/jobs/{job_id}")).content
                input_params = body.removeprefix(b'{"input_params":').removesuffix(b"}")
                if b'"input_params":' + input_params not in record:
                    found.append(f"{name} was changed: {record[:200]!r}")
                environment.history.calls.append(_created_call(response))
        for path in ("/v1/jobs/a%00b", "/v1/jobs/%ff", "/v1/jobs/" + "x" * 2000):
            found += _unexpected(path[:20], await http.get(path), 400)
        head = await _announce_gigabyte(url)
        if b" 413 " not in head[:20]:
            found.append(f"a `Content-Length` of a gigabyte got {head[:100]!r}")
        found += await _send_gigabyte(url)
    return found


def _created_call(response: httpx.Response) -> Call:
    observed = observe(response.json())
    job_id = observed.version.job_id
    return Call(Kind.CREATE, time.time() - 5, time.time(), job_id=job_id, status=201, observations=(observed,))


async def _announce_gigabyte(url: str) -> bytes:
    """Send only the head of a request with a `Content-Length` of a gigabyte; return the response's first bytes."""
    reader, writer = await asyncio.open_connection(*_host_and_port(url))
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
    try:
        async with asyncio.timeout(10):
            return await reader.read(1000)
    finally:
        writer.transport.abort()


async def _send_gigabyte(url: str) -> list[str]:
    """Send a gigabyte in chunks without a `Content-Length`, as far as the service accepts it."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"input_params":"'
        while sent < GIGABYTE:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    async with open_client(url, timeout=20) as http:
        try:
            response = await http.post("/v1/jobs", content=chunks(), headers={"Content-Type": "application/json"})
        except httpx.HTTPError:  # the service closes the connection while the client is still sending
            return [] if sent < 64 << 20 else [f"the service read {sent} bytes of a body before it rejected it"]
    return _unexpected("a body of a gigabyte", response, 413)
