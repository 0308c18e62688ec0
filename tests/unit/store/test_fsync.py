import asyncio

import pytest
from redis.exceptions import ConnectionError

from service.store import fsync
from service.store.client import StoreClient
from service.store.fsync import FsyncWaiter
from service.store.pool import create_pool, shared


@pytest.mark.parametrize("swallowed", [0, 1])
async def test_a_closed_client_ends_the_current_fsync_wait_and_the_next_one(
    monkeypatch: pytest.MonkeyPatch, swallowed: int
) -> None:
    started = asyncio.Event()

    async def hang(_: FsyncWaiter) -> None:
        nonlocal swallowed
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed -= 1
            if swallowed < 0:
                raise
            await asyncio.Event().wait()

    monkeypatch.setattr(fsync, "CANCEL_INTERVAL", 0.01)
    monkeypatch.setattr(FsyncWaiter, "_wait_once", hang)
    pool = create_pool("redis://localhost:1/0")
    client, waiter = StoreClient(pool, waitaof=True), shared(FsyncWaiter, pool)
    async with asyncio.timeout(30):
        current = asyncio.create_task(waiter.wait())
        await started.wait()
        following = asyncio.create_task(waiter.wait())
        await asyncio.sleep(0)
        await client.aclose()
        for waiting in (current, following):
            with pytest.raises(ConnectionError, match="closed"):
                await waiting
