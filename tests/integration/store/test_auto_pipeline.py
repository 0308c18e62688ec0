"""The pipeline on a real Redis, under uvloop and asyncio, with and without TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Redis

from service.store.auto_pipeline import AutoPipeline
from service.store.pool import create_pool, shared

pytestmark = pytest.mark.standalone_only("the pipeline of one pool")

#: The key and the self-signed certificate of `localhost`, valid until 2126.
CERTIFICATE = Path(__file__).with_name("localhost.pem")
LARGE = 1_000_000


@pytest.fixture(scope="module", params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@contextlib.asynccontextmanager
async def tls_proxy(port: int) -> AsyncIterator[int]:
    """Run a TLS proxy before Redis and yield its port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, redis_writer), copy(redis_reader, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture(params=["tcp", "TLS"])
async def pipeline_pool(store_url: str, redis: Redis, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A pool on the database that `redis` has emptied."""
    url = urlsplit(store_url)
    assert url.port is not None
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "TLS":
            port = await stack.enter_async_context(tls_proxy(url.port))
            store_url = f"rediss://localhost:{port}{url.path}?ssl_ca_certs={CERTIFICATE}"
        pool = create_pool(store_url)
        yield pool
        await shared(AutoPipeline, pool).aclose()
        await pool.disconnect()


@pytest.mark.corrupts_keys
async def test_large_and_small_values_reach_their_callers(pipeline_pool: BlockingConnectionPool) -> None:
    pipeline = shared(AutoPipeline, pipeline_pool)

    async def write_and_read(number: int) -> None:
        value = b"%d" % number * (LARGE if number % 10 == 0 else 1)
        assert await pipeline.ask(("SET", f"v{number}", value)) == [b"OK"]
        for _ in range(5):
            assert await pipeline.ask(("GET", f"v{number}"), ("STRLEN", f"v{number}")) == [value, len(value)]

    async with asyncio.timeout(60):
        await asyncio.gather(*(write_and_read(number) for number in range(50)))


async def test_concurrent_calls_reach_redis_in_few_reads_over_one_connection(pool: BlockingConnectionPool) -> None:
    pipeline, other = shared(AutoPipeline, pool), Redis(connection_pool=pool)

    async def stats() -> tuple[int, int]:
        info = await other.info("stats")
        return info["total_reads_processed"], info["total_connections_received"]

    await pipeline.ask(("PING",))
    (reads, connections), calls = await stats(), 200
    await asyncio.gather(*(pipeline.ask(("TIME",)) for _ in range(calls)))
    more_reads, more_connections = await stats()
    assert more_reads - reads < calls / 5
    assert more_connections - connections <= 1  # of other tests, or of `other`
    await pipeline.aclose()


async def test_redis_py_can_use_a_connection_that_the_pipeline_has_returned(
    pipeline_pool: BlockingConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.channel.IDLE_TIMEOUT", 0.01)
    pipeline, redis = shared(AutoPipeline, pipeline_pool), Redis(connection_pool=pipeline_pool)
    [address] = await pipeline.ask(("CLIENT", "ID"))
    async with asyncio.timeout(30):
        while pipeline._task is not None:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
    assert await redis.client_id() == address
    assert await pipeline.ask(("CLIENT", "ID")) == [address]


@pytest.mark.corrupts_keys
async def test_each_call_has_one_outcome_when_redis_closes_the_connection(
    pipeline_pool: BlockingConnectionPool, redis: Redis
) -> None:
    pipeline = shared(AutoPipeline, pipeline_pool)
    outcomes = {"done": 0, "unknown": 0}

    async def increment() -> None:
        try:
            [value] = await pipeline.ask(("INCR", "counter"))
        except redis_errors.ConnectionError:
            outcomes["unknown"] += 1
        else:
            assert isinstance(value, int)
            outcomes["done"] += 1

    async with asyncio.timeout(60):
        for _ in range(10):
            await increment()
            calls = asyncio.gather(*(increment() for _ in range(100)))
            await asyncio.sleep(0)
            [address] = await pipeline.ask(("CLIENT", "ID"))
            later = asyncio.gather(*(increment() for _ in range(100)))
            with contextlib.suppress(redis_errors.ResponseError):  # it has been replaced
                await redis.client_kill_filter(_id=address)
            await asyncio.gather(calls, later)
    counter = int(await redis.get("counter"))
    assert outcomes["done"] + outcomes["unknown"] == 10 * 201
    assert outcomes["done"] <= counter <= outcomes["done"] + outcomes["unknown"]
