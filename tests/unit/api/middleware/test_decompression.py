import gzip
import random
import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from litestar.exceptions import HTTPException

from service.api.middleware.decompression import decompress_bodies
from service.domain.errors import InvalidValue
from tests.unit.api.middleware.asgi import http_scope

#: The body limit in these tests.
LIMIT = 1024 * 1024
TEXT = bytes(random.Random(1).choices(b"abcdefgh", k=200_000))


class Reader:
    """An application that reads a request body, and the client that sends it."""

    def __init__(self, parts: Iterable[bytes], *codings: bytes) -> None:
        self.parts = list(parts)
        self.bodies: list[bytes] = []
        handler = SimpleNamespace(resolve_request_max_body_size=lambda: LIMIT)
        headers = [(b"content-encoding", coding) for coding in codings]
        self.scope: Any = {**http_scope(), "headers": headers, "route_handler": handler}

    async def receive(self) -> Any:
        if not self.parts:
            return {"type": "http.disconnect"}
        part = self.parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}

    async def read(self, scope: Any, receive: Any, send: Any) -> None:
        has_more = True
        while has_more:
            message = await receive()
            assert message["type"] == "http.request"
            self.bodies.append(message["body"])
            has_more = message["more_body"]
        assert await receive() == {"type": "http.disconnect"}


async def unpack(parts: Iterable[bytes], *codings: bytes) -> bytes:
    reader = Reader(parts, *codings)
    await decompress_bodies(reader.read)(reader.scope, reader.receive, None)  # type: ignore[arg-type]
    return b"".join(reader.bodies)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"GZip", b" gzip , identity", b"identity,gzip,"])
async def test_a_body_in_gzip_is_unpacked(coding: bytes) -> None:
    assert await unpack([gzip.compress(TEXT)], coding) == TEXT


@pytest.mark.parametrize("size", [1, 7, 1000, 65536])
async def test_a_gzip_body_can_arrive_in_parts_of_any_size(size: int) -> None:
    text = TEXT[:5000]
    assert await unpack(split(gzip.compress(text), size), b"gzip") == text
    assert await unpack([*split(gzip.compress(text), size), b""], b"gzip") == text


@pytest.mark.parametrize("size", [1, 10**6])
async def test_gzip_may_have_several_members(size: int) -> None:
    members = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    assert await unpack(split(members, size), b"gzip") == b"onetwo"


@pytest.mark.parametrize("codings", [(), (b"",), (b"identity",), (b"identity", b"Identity, ")])
async def test_a_body_without_a_coding_is_passed_on(codings: tuple[bytes, ...]) -> None:
    assert await unpack([b"a", b"b"], *codings) == b"ab"


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"gzip, gzip"])
async def test_an_empty_body_has_no_coding(coding: bytes) -> None:
    assert await unpack([b""], coding) == b""


@pytest.mark.parametrize(
    ("codings", "named"),
    [
        ([b"br"], "br"),
        ([b"gzip, gzip"], "gzip, gzip"),
        ([b"gzip", b"deflate"], "gzip, deflate"),
        ([b"zstd,identity"], "zstd"),
    ],
)
async def test_another_coding_is_rejected_by_name(codings: list[bytes], named: str) -> None:
    with pytest.raises(HTTPException, match=re.escape(f"`Content-Encoding: {named}`")) as raised:
        await unpack([gzip.compress(TEXT)], *codings)
    assert (raised.value.status_code, raised.value.headers) == (415, {"Accept-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"input_params": 1}', "it is not valid gzip, which `Content-Encoding` announces"),
        (gzip.compress(TEXT)[:-1], "its gzip data is truncated"),
        (gzip.compress(TEXT)[:-9], "its gzip data is truncated"),
        (gzip.compress(TEXT)[:5], "its gzip data is truncated"),
        (gzip.compress(TEXT) + gzip.compress(TEXT)[:-1], "its gzip data is truncated"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "it is not valid gzip, which `Content-Encoding` announces"),
        (gzip.compress(TEXT) + b"more", "it is not valid gzip, which `Content-Encoding` announces"),
        (gzip.compress(b"") * 101, "its gzip data has more than 100 members"),
    ],
    ids=["no gzip", "length split", "data split", "header split", "second split", "checksum", "surplus", "members"],
)
@pytest.mark.parametrize("size", [1000, 10**6])
async def test_invalid_gzip_is_rejected_with_the_reason(body: bytes, detail: str, size: int) -> None:
    with pytest.raises(InvalidValue) as raised:
        await unpack(split(body, size), b"gzip")
    assert (raised.value.field, raised.value.detail) == ("body", detail)


async def test_a_large_body_is_unpacked_only_as_far_as_it_is_read() -> None:
    reader = Reader([gzip.compress(bytes(100 * LIMIT))], b"gzip")

    async def read(scope: Any, receive: Any, send: Any) -> None:
        while sum(map(len, reader.bodies)) <= LIMIT:
            reader.bodies.append((await receive())["body"])

    await decompress_bodies(read)(reader.scope, reader.receive, None)  # type: ignore[arg-type]
    assert max(map(len, reader.bodies)) <= 64 * 1024


async def test_an_endless_body_that_unpacks_to_nothing_is_rejected() -> None:
    empty_block = b"\x00\x00\x00\xff\xff"
    header = gzip.compress(b"")[:10]
    parts = [header, *[empty_block * 10_000] * (LIMIT // 50_000 + 1)]
    with pytest.raises(HTTPException) as raised:
        await unpack(parts, b"gzip")
    assert raised.value.status_code == 413
