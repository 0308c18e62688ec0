"""How long it takes from the command `jobstate` to the first answer, the embedded server included."""

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from benchmarks.fixtures import free_port
from benchmarks.report import Report, Table


def seconds(folder: str, path: str) -> float:
    """Start it on the data in `folder`, ask until `path` answers 200, end it."""
    port = free_port()
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--data", folder]
    started = time.perf_counter()
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200:
                    return time.perf_counter() - started
            if time.perf_counter() - started > 60:
                raise SystemExit(Path(folder, "log").read_text())
            time.sleep(0.005)
    finally:
        process.terminate()
        process.wait()


def measure(rounds: int, report: Report) -> None:
    """Start it some times, on nothing and on what the start before left."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for path in ("/health", "/ready"):
            with tempfile.TemporaryDirectory() as folder:
                found.setdefault(f"{path}, new data", []).append(seconds(folder, path))
                found.setdefault(f"{path}, again", []).append(seconds(folder, path))
    table = Table("from the command to the first answer", ("", "seconds"))
    for name, times in found.items():
        table.row(name, f"{median(times):.2f}")
    report.add(table)
