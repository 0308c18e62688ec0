"""jobstate's Python library behind the protocol of its peers: jobs are claimed and completed."""

import asyncio
import sys
import uuid
from datetime import timedelta
from pathlib import Path

import uvloop

from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool

sys.path.insert(0, str(Path(__file__).parent))
from protocol import INPUT, run_concurrently, serve  # peers are scripts, not modules of a package


async def main(url: str) -> None:
    """Serve until standard input closes."""
    client, week = StoreClient(create_pool(url)), timedelta(days=7)
    jobs, leases = JobStateManager(client, ttl=week), LeaseManager(client, ttl=week)
    keys: list[str] = []

    async def enqueue() -> None:
        job_id = str(uuid.uuid4())
        await jobs.create_job(job_id, INPUT)
        keys.append(job_id)

    async def create(count: int, workers: int) -> None:
        await run_concurrently((enqueue() for _ in range(count)), workers)

    async def read(count: int, workers: int) -> None:
        await run_concurrently((jobs.get_job(keys[number % len(keys)]) for number in range(count)), workers)

    async def work(count: int, workers: int) -> None:
        async def worker() -> None:
            while (claim := await leases.claim_job(["default"], "bench")) is not None:
                await jobs.update_job_status(claim.job.job_id, "completed", lease_token=claim.lease.token)

        await asyncio.gather(*(worker() for _ in range(workers)))

    await serve({"create": create, "read": read, "work": work})


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
