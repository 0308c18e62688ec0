import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from service.store import fsync
from service.store.fsync import FsyncWaiter
from service.store.pool import create_pool


@pytest.mark.parametrize("swallowed", [0, 1])
async def test_closing_ends_the_current_wait_and_the_next_one(monkeypatch: pytest.MonkeyPatch, swallowed: int) -> None:
    started = asyncio.Event()

    async def hang() -> None:
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
    waiter: Any = FsyncWaiter(create_pool("redis://localhost:1/0"))
    monkeypatch.setattr(waiter, "_wait_once", hang)
    async with asyncio.timeout(30):
        current = asyncio.create_task(waiter.wait())
        await started.wait()
        following = asyncio.create_task(waiter.wait())
        await asyncio.sleep(0)
        await waiter.aclose()
        for waiting in (current, following):
            with pytest.raises(ConnectionError, match="closed"):
                await waiting
