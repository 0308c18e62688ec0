"""How the cost of a call grows with the number of jobs: `python -m benchmarks.growth [SMALL] [LARGE]`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.ground import fill, interleaved, move, server, store
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.manager import JobStateManager

ROUNDS = 1000


def calls(manager: JobStateManager) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return the calls to compare."""
    return {
        "running count": manager.get_running_job_count,
        "stats": manager.get_stats,
        "get": lambda: manager.get_job("00000000-0000-0000-0000-000000000000"),
        "list of 50": lambda: manager.list_jobs(JobFilter()),
        "list of 50 by slate": lambda: manager.list_jobs(JobFilter(slate_id="slate-7")),
        "list of 50 running": lambda: manager.list_jobs(JobFilter(status=Status.RUNNING)),
        "sweep of nothing": manager.sweep,
    }


async def main(small: int, large: int) -> None:
    """Fill two servers, every tenth job running, and compare the same calls on both."""
    with server() as few, server() as many:
        for url, count in ((few, small), (many, large)):
            await fill(url, count, slate_id=lambda number: f"slate-{number % 20}")
            await move(url, range(0, count, 10), "running")
        async with store(few) as on_few, store(many) as on_many:
            assert await on_few.get_running_job_count() == small // 10
            assert await on_many.get_running_job_count() == large // 10
            print(f"{'median of ' + str(ROUNDS):24}{small:>12,}{large:>12,}   ratio")
            for name, call in calls(on_few).items():
                times = await interleaved({"few": call, "many": calls(on_many)[name]}, ROUNDS)
                ratio = times["many"] / times["few"]
                print(f"{name:24}{times['few']:>9.0f} µs{times['many']:>9.0f} µs{ratio:>8.2f}")


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in (sys.argv[1:] or ["1000", "1000000"]))))
