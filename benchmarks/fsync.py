"""The cost of `appendfsync`: creations through the library with each setting."""

import asyncio
import contextlib
import time
from statistics import median
from typing import Final

from benchmarks.fixtures import INPUT, WEEK, server
from service.store.jobs import JobStateManager
from service.store.pool import create_pool

MODES: Final = ("everysec", "always", "no")
#: The number of concurrent clients, and the creations of a round.
SCENARIOS: Final = {1: 600, 32: 1600}
ROUNDS: Final = 5


async def creations(url: str, clients: int, count: int) -> tuple[float, float]:
    """Create jobs; return creations per second, and the median latency in ms."""
    pool, times = create_pool(url), []
    jobs = JobStateManager(pool, ttl=WEEK)
    await jobs.create_job(f"first-{time.time_ns()}", INPUT)

    async def create(client: int) -> None:
        for number in range(count // clients):
            started = time.perf_counter()
            await jobs.create_job(f"{client}-{number}-{time.time_ns()}", INPUT)
            times.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(create(client) for client in range(clients)))
    took = time.perf_counter() - started
    await pool.disconnect()
    return count / took, median(times)


def main() -> None:
    """Measure all modes in turn and print the medians."""
    with contextlib.ExitStack() as stack:
        urls = {mode: stack.enter_context(server("--appendonly", "yes", "--appendfsync", mode)) for mode in MODES}
        for clients, count in SCENARIOS.items():
            rounds: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
            for _ in range(ROUNDS):
                for mode, url in urls.items():
                    rounds[mode].append(asyncio.run(creations(url, clients, count)))
            base = median(rate for rate, _ in rounds["everysec"])
            for mode, samples in rounds.items():
                rate, took = (median(values) for values in zip(*samples, strict=True))
                print(f"{clients:3} clients  {mode:9} {rate:6.0f}/s  x{rate / base:.2f}  {took:.2f} ms each")


if __name__ == "__main__":
    main()
