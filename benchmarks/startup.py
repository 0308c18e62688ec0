"""Startup time: from the command `jobstate` to the first response, with the embedded server."""

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


def time_until(folder: str, path: str) -> float:
    """Start the service with the data in `folder`; return the seconds until `path` answers 200."""
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
    """Start the service with new data and with existing data."""
    times_of: dict[str, list[float]] = {}
    for _ in range(rounds):
        for path in ("/health", "/ready"):
            with tempfile.TemporaryDirectory() as folder:
                times_of.setdefault(f"{path}, new data", []).append(time_until(folder, path))
                times_of.setdefault(f"{path}, existing data", []).append(time_until(folder, path))
    table = Table("time from the command to the first response", ("", "seconds"))
    for name, times in times_of.items():
        table.add_row(name, f"{median(times):.2f}")
    report.add(table)
