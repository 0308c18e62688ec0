"""Clients that nobody would wish for: too many, too slow, leaving in the middle, sending what is no request."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import httpx

from tests.chaos.history import Call, Kind
from tests.chaos.http import connected

if TYPE_CHECKING:
    from tests.chaos.environment import Stage

CROWD: Final = 2000
GIGABYTE: Final = 1 << 30

#: What is no creation of a job; `%s` stands for an id under which no job may be there afterwards.
NO_CREATIONS: Final = {
    "ten thousand levels": b'{"job_id":"%s","input_params":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "broken UTF-8": b'{"job_id":"%s","input_params":"\xff\xfe"}',
    "NaN": b'{"job_id":"%s","input_params":NaN}',
    "infinity": b'{"job_id":"%s","input_params":1,"max_attempts":1e999}',
    "a huge count": b'{"job_id":"%s","input_params":1,"scenario_count":' + b"9" * 4000 + b"}",
    "a lone surrogate in a label": b'{"job_id":"%s","input_params":1,"slate_id":"\\ud800"}',
    "a lone surrogate": b'{"job_id":"%s","input_params":"\\ud800"}',
    "a null byte in a label": b'{"job_id":"%s","input_params":1,"slate_id":"a\\u0000b"}',
    "a null byte in the id": b'{"job_id":"%s\\u0000","input_params":1}',
    "an id given twice, the last one bad": b'{"job_id":"%s","job_id":"a/b","input_params":1}',
    "half of it": b'{"job_id":"%s","input_params":',
    "nothing": b"",
}
#: What looks odd and is one.
CREATIONS: Final = {
    "a huge number": b'{"input_params":1e999}',
    "keys given twice": b'{"input_params":{"a":1,"a":2}}',
    "an escaped null byte": b'{"input_params":"\\u0000"}',
}


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def _problem_with(name: str, answer: httpx.Response, *allowed: int) -> list[str]:
    if answer.status_code == 503:  # Redis may be away, or the service full
        return []
    if answer.status_code not in allowed:
        return [f"{name} was answered {answer.status_code}: {answer.text[:200]}"]
    if answer.status_code >= 400 and answer.headers["content-type"] != "application/problem+json":
        return [f"{name} was answered no problem: {answer.text[:200]}"]
    return []


async def ask_for_a_foreign_hash(url: str, job_id: str) -> list[str]:
    """Ask for everything that can be asked of a hash that is none of ours; return what was not refused."""
    path, found = f"/v1/jobs/{job_id}", []
    calls: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("POST", "/v1/jobs", {"job_id": job_id, "input_params": 1}),
        ("PATCH", path, {"status": "running"}),
        ("POST", f"{path}/cancel", None),
        ("DELETE", path, None),
    ]
    async with connected(url, timeout=10) as http:
        for method, where, body in calls:
            answer = await http.request(method, where, json=body)
            found += _problem_with(f"{method} of a foreign hash", answer, 404, 500)
    return found


async def crowd(url: str, stage: "Stage") -> list[str]:
    """Open two thousand connections at once, some of which ask for something; return what was not answered well."""

    async def come(number: int) -> bytes:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(*_address(url))
                opened.append(writer)
                if number % 10 == 0:
                    writer.write(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return await reader.read()
        return b""

    opened: list[asyncio.StreamWriter] = []
    answers = await asyncio.gather(*(come(number) for number in range(CROWD)))
    for writer in opened:
        writer.transport.abort()
    lines = {answer.split(b"\r\n", 1)[0] for answer in answers if answer}
    return [f"one of a crowd was answered {line!r}" for line in lines if line.split()[1] not in (b"200", b"503")]


async def slow_clients(url: str, stage: "Stage") -> list[str]:
    """Send byte by byte, do not read, leave in the middle of a body: nothing of it may be done."""
    ends = time.monotonic() + stage.hold

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*_address(url))

    async def creeps(number: int) -> None:
        _, writer = await connected()
        for byte in _creation(f"creeping-{number}"):
            if time.monotonic() > ends:
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(stage.hold / 8)
        writer.transport.abort()

    async def does_not_read() -> None:
        _, writer = await connected()
        writer.transport.pause_reading()
        writer.write(b"GET /v1/jobs?limit=200 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        await asyncio.sleep(max(0, ends - time.monotonic()))
        writer.transport.abort()

    async def leaves(number: int) -> None:
        _, writer = await connected()
        content = _creation(f"leaving-{number}")
        writer.write(content[: stage.choose.randrange(1, len(content))])
        await asyncio.sleep(stage.choose.uniform(0, stage.hold))
        writer.transport.abort()

    names = [f"{what}-{number}" for what in ("creeping", "leaving") for number in range(20)]
    _must_not_be_there(stage, names)
    crowd = [*(creeps(number) for number in range(20)), *(leaves(number) for number in range(20))]
    async with asyncio.TaskGroup() as group:
        for one in [*crowd, *(does_not_read() for _ in range(10))]:
            group.create_task(_for_all_that_is_reset(one))
    return []


async def _for_all_that_is_reset(one: Any) -> None:
    with contextlib.suppress(OSError):
        await one


def _creation(job_id: str) -> bytes:
    body = json.dumps({"job_id": job_id, "input_params": "x" * 500}).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def _must_not_be_there(stage: "Stage", job_ids: list[str]) -> None:
    """Note creations that were refused, so that the checker finds any trace of them."""
    stage.history.calls += [Call(Kind.CREATE, time.time(), time.time(), job_id=one, status=400) for one in job_ids]


async def bad_bodies(url: str, stage: "Stage") -> list[str]:
    """Send what is no creation, and what only looks like none; return what was answered otherwise."""
    found: list[str] = []
    headers = {"Content-Type": "application/json"}
    async with connected(url, timeout=20, headers=headers) as http:
        for number, (name, body) in enumerate(NO_CREATIONS.items()):
            content = body.replace(b"%s", b"bad-%d" % number)
            found += _problem_with(name, await http.post("/v1/jobs", content=content), 400)
        _must_not_be_there(stage, [f"bad-{number}" for number in range(len(NO_CREATIONS))])
        for name, body in CREATIONS.items():
            key = f"odd-{time.time_ns()}"
            answer = await http.post("/v1/jobs", content=body, headers={"Idempotency-Key": key})
            found += _problem_with(name, answer, 201)
            if answer.status_code == 201:
                job_id = answer.json()["job_id"]
                seen = (await http.get(f"/v1/jobs/{job_id}")).content
                sent = body.removeprefix(b'{"input_params":').removesuffix(b"}")
                if b'"input_params":' + sent not in seen:
                    found.append(f"{name} did not come back as it was sent: {seen[:200]!r}")
                stage.history.calls.append(_created(answer))
        for path in ("/v1/jobs/a%00b", "/v1/jobs/%ff", "/v1/jobs/" + "x" * 2000):
            found += _problem_with(path[:20], await http.get(path), 400)
        announced = await _announce(url)
        if b" 413 " not in announced[:20]:
            found.append(f"an announced gigabyte was answered {announced[:100]!r}")
        found += await _send_a_gigabyte(url)
    return found


def _created(answer: httpx.Response) -> Call:
    from tests.chaos.caller import seen_in

    seen = seen_in(answer.json())
    return Call(Kind.CREATE, time.time() - 5, time.time(), job_id=seen.version.job_id, status=201, seen=(seen,))


async def _announce(url: str) -> bytes:
    reader, writer = await asyncio.open_connection(*_address(url))
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
    try:
        async with asyncio.timeout(10):
            return await reader.read(1000)
    finally:
        writer.transport.abort()


async def _send_a_gigabyte(url: str) -> list[str]:
    """Send a gigabyte whose length is not announced, as far as it is taken."""
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"input_params":"'
        while sent < GIGABYTE:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    async with connected(url, timeout=20) as http:
        try:
            answer = await http.post("/v1/jobs", content=pieces(), headers={"Content-Type": "application/json"})
        except httpx.HTTPError:  # it closes while the client is still sending
            return [] if sent < 64 << 20 else [f"{sent} bytes of a body were taken before it was refused"]
    return _problem_with("a gigabyte", answer, 413)
