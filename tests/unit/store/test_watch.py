"""The task that looks at where Redis is."""

import asyncio
import contextlib

from service.store.deployments.watch import Watch


async def test_it_ends_although_a_look_swallows_a_cancellation() -> None:
    """As redis-py's connects may, up to Python 3.11."""
    looks = asyncio.Event()

    async def look() -> float:
        if not looks.is_set():
            looks.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return 60.0

    watch = Watch(look)
    watch.start()
    async with asyncio.timeout(10):
        await looks.wait()
        await watch.aclose()
