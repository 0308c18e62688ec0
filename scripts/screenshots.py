"""Take the screenshots of the dashboard in docs/images, of an example that runs for some minutes. Needs Chromium."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import async_playwright

IMAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE: Final = {"width": 1280, "height": 860}
MAX_BYTES: Final = 200_000
MINUTES: Final = 12

#: By queue: number of workers, mean seconds per job, jobs per failure.
QUEUES: Final = {"lineups": (4, 9.0, 11), "simulations": (3, 5.0, 24), "mails": (2, 0.8, 60)}
SLATES: Final = ("pinewood-400", "harbor-250", "mesa-300")
JOB_ID: Final = "sunday"
SCENARIOS: Final = 2000
#: By screenshot: file name, view, colour scheme, and an element that appears last.
SCREENSHOTS: Final = (
    ("overview", "#/", "light", ".throughput:has(canvas) p:has-text('In the last')"),
    ("job", f"#/jobs/{JOB_ID}", "dark", ".timeline li"),
)


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Run `jobstate` on an empty embedded server and yield its URL."""
    with tempfile.TemporaryDirectory() as data:
        environment = {"JOBSTATE_PORT": "0", "JOBSTATE_DATA": data, "SHUTDOWN_DRAIN_SECONDS": "0"}
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env={**os.environ, **environment, "LOG_LEVEL": "error"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        match = re.search(r"http://\S+", process.stdout.readline())
        try:
            yield match[0] if match else sys.exit("jobstate did not start")
        finally:
            process.terminate()
            process.wait()


class Example:
    """Clients that submit jobs, and workers that claim them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Create an example on the service of `http`."""
        self._http = http
        self._count = 0

    async def submit(self, queue: str, **fields: Any) -> None:
        """Create a job with the default fields, or with these."""
        self._count += 1
        slate = random.choice(SLATES)
        body = {
            "job_id": f"{queue.removesuffix('s')}-{slate}-{self._count:04}",
            "queue": queue,
            "slate_id": slate,
            "scenario_count": SCENARIOS,
            "max_attempts": 3,
            "input_params": {"seed": self._count, "top": 3},
        }
        (await self._http.post("/v1/jobs", json={**body, **fields})).raise_for_status()

    async def submit_forever(self, queue: str) -> None:
        """Submit jobs at about the rate at which the queue's workers finish them."""
        workers, seconds, _ = QUEUES[queue]
        while True:
            await self.submit(queue)
            await asyncio.sleep(random.expovariate(0.93 * workers / seconds))

    async def work(self, queue: str, worker: str) -> None:
        """Claim and run one job after another."""
        while True:
            body = {"queues": [queue], "worker": worker, "wait_seconds": 20}
            response = await self._http.post("/v1/claims", json=body)
            if response.status_code == 200:
                await self._run_job(queue, response.json())

    async def _run_job(self, queue: str, claim: dict[str, Any]) -> None:
        _, mean, jobs_per_failure = QUEUES[queue]
        path, lease = f"/v1/jobs/{claim['job']['job_id']}", {"Lease-Token": claim["lease"]["token"]}
        for step in range(1, 21):
            await asyncio.sleep(random.uniform(0.5, 1.5) * mean / 20)
            progress = {"current": step * SCENARIOS // 20, "total": SCENARIOS, "message": "simulating scenarios"}
            await self._http.post(f"{path}/heartbeat", json={"progress": progress}, headers=lease)
        if random.randrange(jobs_per_failure) == 0:
            update = {"status": "failed", "error_message": {"type": "Infeasible", "detail": "no line-up under the cap"}}
        else:
            update = {"status": "completed", "result": {"lineups": [{"points": 231.25}]}}
        await self._http.patch(path, json=update, headers=lease)

    async def prepare_job(self) -> None:
        """Create the job of the screenshot. Its first attempt fails and its second is running."""
        await self.submit("finals", job_id=JOB_ID, slate_id=SLATES[0], retry_delay_seconds=1, input_params=INPUT)
        for worker, current, message in (
            ("optimizer-1", 260, "simulating"),
            ("optimizer-2", 1240, "building line-ups"),
        ):
            body = {"queues": ["finals"], "worker": worker, "lease_seconds": 60, "wait_seconds": 10}
            claim = (await self._http.post("/v1/claims", json=body)).json()
            lease = {"Lease-Token": claim["lease"]["token"]}
            await asyncio.sleep(1)
            progress = {"progress": {"current": current, "total": SCENARIOS, "message": message}}
            await self._http.post(f"/v1/jobs/{JOB_ID}/heartbeat", json=progress, headers=lease)
            if worker == "optimizer-1":
                await asyncio.sleep(2)
                error = {"error_message": {"type": "MemoryError", "detail": "2,000 scenarios did not fit"}}
                await self._http.post(f"/v1/jobs/{JOB_ID}/release", json=error, headers=lease)


INPUT: Final = {
    "seed": 42,
    "top": 3,
    "salary_cap": 50000,
    "drivers": [{"name": "A. Bell", "salary": 9800, "projection": 48.25}, {"name": "C. Dorn", "salary": 7400}],
    "scenario_file": "s3://scenarios/pinewood-400.parquet",
}


@contextlib.asynccontextmanager
async def example(url: str) -> AsyncIterator[Example]:
    """Run the example in the background."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        demo = Example(http)
        await http.put("/v1/queues/lineups", json={"max_running": 4})
        await http.put("/v1/queues/reports", json={"paused": True})
        for _ in range(18):
            await demo.submit("reports")
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(demo.submit_forever(queue)) for queue in QUEUES]
            for queue, (workers, _, _) in QUEUES.items():
                background += [
                    tasks.create_task(demo.work(queue, f"{queue}-{number}")) for number in range(1, workers + 1)
                ]
            yield demo
            for task in background:
                task.cancel()


async def main(minutes: float) -> None:
    """Run the example for this long, then take the screenshots."""
    random.seed(7)
    with service() as url:
        async with example(url) as demo, async_playwright() as playwright:
            until = time.monotonic() + minutes * 60
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            await asyncio.sleep(until - time.monotonic())
            await demo.prepare_job()
            for name, view, scheme, last in SCREENSHOTS:
                page = await browser.new_page(color_scheme=scheme, viewport=SIZE, reduced_motion="reduce")
                await page.goto(f"{url}/{view}")
                await page.locator(last).first.wait_for()
                image = await page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
                assert len(image) < MAX_BYTES, f"{name}.png takes {len(image)} bytes"
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES))
