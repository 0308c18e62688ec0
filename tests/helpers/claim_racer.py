"""A worker process that claims and completes jobs until none is left; `test_race.py` kills and pauses it."""

import asyncio
import contextlib
from datetime import timedelta

from service.domain.errors import LeaseLost, StoreUnavailable
from service.domain.jobs import Claim
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.deployments import close_pool, open_pool
from tests.helpers.partitions import PARTITIONS, connect

WEEK = timedelta(days=7)
#: Lease duration in seconds: the minimum.
LEASE = 5
#: Seconds that a job takes. It is most of a racer's time, so that a kill hits a running job.
WORK = 0.02


async def race(url: str, name: str) -> None:
    """Claim up to three jobs at a time, and complete them, until every job is finished."""
    pool = open_pool(url, len(PARTITIONS))
    client = connect(pool)
    leases, jobs = LeaseManager(client, ttl=WEEK), JobStateManager(client, ttl=WEEK)
    while True:
        try:
            if not await is_work_left(jobs):
                break
            most = 1 + int(name[1:]) % 3
            claims = await leases.claim_jobs(["default"], name, max_jobs=most, lease_seconds=LEASE)
            for claim in claims:
                await asyncio.sleep(WORK)
                await complete(jobs, claim, name)
            if not claims:
                await asyncio.sleep(0.2)
        except LeaseLost as lost:
            print("lost", lost, flush=True)
        except StoreUnavailable:  # this process was paused for longer than the request timeout
            continue
    await client.aclose()
    await close_pool(pool)


async def complete(jobs: JobStateManager, claim: Claim, name: str) -> None:
    """Complete the job, and repeat the request until Redis replies."""
    job_id, token = claim.job.job_id, claim.lease.token
    while True:
        with contextlib.suppress(StoreUnavailable):
            await jobs.update_job_status(job_id, "completed", result=name, lease_token=token, change_id=f"end-{token}")
            return


async def is_work_left(jobs: JobStateManager) -> bool:
    statuses = (await jobs.get_stats()).statuses
    return statuses[Status.PENDING] + statuses[Status.RUNNING] > 0


def main(url: str, name: str) -> None:
    asyncio.run(race(url, name))
