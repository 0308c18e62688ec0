"""Clients that are built separately, on one pool."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain.jobs import JobFilter
from service.domain.shutdown import Shutdown
from service.store.events.hub import EventHub
from service.store.events.stream import EventStream
from service.store.jobs import JobStateManager
from service.store.pool import create_pool
from tests.helpers.partitions import connect

DAY = timedelta(days=1)


@asynccontextmanager
async def busy(manager: JobStateManager, calls: int) -> AsyncIterator[list[int]]:
    """Keep `calls` calls of `manager` under way, and yield how many each of them has ended."""
    ended = [0] * calls

    async def repeat(number: int) -> None:
        while True:
            await manager.get_job("j")
            ended[number] += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(repeat(number)) for number in range(calls)]
        yield ended
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("connections", [3, 9])
async def test_busy_clients_of_one_pool_serve_each_other_and_leave_the_event_reader_a_connection(
    store_url: str, redis: Redis, connections: int
) -> None:
    pool = create_pool(store_url, max_connections=connections)
    client, shutdown = connect(pool), Shutdown()
    hub = EventHub(client, shutdown)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(pool.disconnect)
        stack.push_async_callback(hub.aclose)
        loads = [await stack.enter_async_context(busy(JobStateManager(connect(pool), ttl=DAY), 200)) for _ in range(3)]
        stream = EventStream(client, hub, shutdown)
        async with asyncio.timeout(30):
            with stream.subscribe() as subscription:
                await anext(stream.follow(subscription, None, JobFilter()))
            while not all(min(ended) > 1 for ended in loads):  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0.01)


async def test_a_manager_for_each_call_opens_no_connection_for_each_call(
    pool: BlockingConnectionPool, redis: Redis
) -> None:
    before = (await redis.info("stats"))["total_connections_received"]
    for _ in range(20):
        await JobStateManager(connect(pool), ttl=DAY).get_job("j")
    assert (await redis.info("stats"))["total_connections_received"] <= before + 1


async def test_the_calls_of_other_clients_of_the_pool_outlive_a_closed_client(
    pool: BlockingConnectionPool, redis: Redis
) -> None:
    closing, other = connect(pool), JobStateManager(connect(pool), ttl=DAY)
    async with busy(other, 50) as ended:
        for _ in range(10):
            async with asyncio.timeout(30):
                await closing.aclose()
                # Not earlier: a call that ends during the close may be followed by the one that must be sent again.
                before = list(ended)
                while any(now == then for now, then in zip(ended, before, strict=True)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


async def test_a_closed_client_holds_no_connection_and_leaves_no_task(
    pool: BlockingConnectionPool, redis: Redis
) -> None:
    tasks, client = asyncio.all_tasks(), connect(pool)
    await client.read(["TIME"])
    assert asyncio.all_tasks() > tasks
    await client.aclose()
    assert asyncio.all_tasks() == tasks
