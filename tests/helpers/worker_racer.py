"""A process with a `Worker` that runs jobs until none is left; `test_race.py` kills and pauses it."""

import asyncio
import logging
import sys

from jobstate import JobContext, Jobs, Worker
from tests.helpers.claim_racer import LEASE, WORK


async def work(context: JobContext) -> str | None:
    await asyncio.sleep(WORK)
    return context.job.worker


def main(url: str, name: str) -> None:
    """Run up to three jobs at a time until every job is finished, and print what the worker logs."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    worker = Worker(url, ["default"], work, worker=name, lease_seconds=LEASE, concurrency=1 + int(name[1:]) % 3)
    with Jobs(url) as jobs:
        while (statuses := jobs.stats().statuses)["pending"] + statuses["running"]:
            worker.run_until_idle()
