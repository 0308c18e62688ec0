"""Startup time: of the service with the embedded server, and of a command of the terminal."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from benchmarks.fixtures import free_port
from benchmarks.report import Report, Table

JOBSTATE: Final = (sys.executable, "-m", "service")
#: With bytecode, as after the first start of an installation: compiling every module takes as long as the rest.
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: Seconds of real time, and of CPU time.
Times = tuple[float, float]


@contextlib.contextmanager
def service(folder: str, path: str) -> Iterator[tuple[str, Times]]:
    """Run the service with the data in `folder`; yield its URL, and the times until `path` answers 200."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [*JOBSTATE, "serve", "--port", url.rpartition(":")[2], "--data", folder]
    started = time.perf_counter()
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        while not _is_answered(url + path):
            if time.perf_counter() - started > 60:
                raise SystemExit(Path(folder, "log").read_text())
            time.sleep(0.005)
        yield url, (time.perf_counter() - started, _cpu_seconds(process.pid))
    finally:
        process.terminate()
        process.wait()


def _is_answered(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url).status_code == 200
    return False


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its threads, without its children."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def time_command(*command: str) -> Times:
    """Run a command to its end and return its times."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int, report: Report) -> None:
    """Start the service with new data and with existing data, and list jobs; the first round only warms up."""
    times_of: dict[str, list[Times]] = {}
    for _ in range(rounds + 1):
        for path in ("/health", "/ready"):
            with tempfile.TemporaryDirectory() as folder:
                for data in ("new", "existing"):
                    with service(folder, path) as (url, times):
                        times_of.setdefault(f"{path}, {data} data", []).append(times)
                        times_of.setdefault("jobstate list", []).append(time_command(*JOBSTATE, "list", "--url", url))
    table = Table("time from the command to the first response", ("", "seconds", "CPU seconds"))
    for name, times in times_of.items():
        table.add_row(name, *(f"{median(one[column] for one in times[1:]):.2f}" for column in (0, 1)))
    report.add(table)
