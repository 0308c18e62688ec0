"""The library of a checkout behind the protocol of the peers, for the comparison of two checkouts."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from protocol import INPUT, run_concurrently, serve

from service.store.leases import LeaseManager

try:
    from service.store.client import StoreClient
    from service.store.jobs import JobStateManager
    from service.store.pool import create_pool
except ImportError:  # the names at 2fe9ec7, where both managers take the pool
    from service.store.manager import JobStateManager

    from service.store.pool import connect as create_pool

    def StoreClient(pool: Any) -> Any:
        """Return the pool itself."""
        return pool


WEEK = timedelta(days=7)


async def main(url: str) -> None:
    """Serve until standard input closes. Jobs have a slate, a correlation id and 100 bytes of input."""
    client = StoreClient(create_pool(url))
    jobs, leases = JobStateManager(client, ttl=WEEK), LeaseManager(client, ttl=WEEK)
    claims: list[Any] = []

    async def enqueue(number: int) -> None:
        await jobs.create_job(f"job-{number:032}", INPUT, f"{number:032x}", slate_id=f"slate-{number % 20}")

    async def claim() -> None:
        claims.append(await leases.claim_job(["default"], "bench"))

    async def beat(claimed: Any) -> None:
        await leases.heartbeat(claimed.job.job_id, claimed.lease.token)

    async def finish(claimed: Any) -> None:
        await jobs.update_job_status(claimed.job.job_id, "completed", result=1, lease_token=claimed.lease.token)

    def per_job(work: Callable[[Any], Awaitable[None]], each: Callable[[int], Any]) -> Any:
        async def verb(count: int, workers: int) -> None:
            await run_concurrently((work(each(number)) for number in range(count)), workers)

        return verb

    async def claim_all(count: int, workers: int) -> None:
        claims.clear()
        await run_concurrently((claim() for _ in range(count)), workers)

    await serve(
        {
            "create": per_job(enqueue, lambda number: number),
            "claim": claim_all,
            "heartbeat": per_job(beat, lambda number: claims[number]),
            "complete": per_job(finish, lambda number: claims[number]),
        }
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
