"""HTTP throughput of the service, of the baseline that it replaced, and of constant responses.

Each target is a process of its own, and `wrk` measures them in turn. The service and the baseline have a Redis each.
The service requires an API key. All requests send it; the other targets ignore it.
The baseline runs with its plain packages, and tuned with faster ones. `BENCH_REDIS` names two other databases to use,
such as `redis://127.0.0.1:6379/0 redis://127.0.0.1:6379/1`.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import httpx

from benchmarks.fixtures import API_KEYS, AUTHORIZATION, free_port, server
from benchmarks.report import Report, Table
from benchmarks.wrk import Sample, require_wrk, run_wrk

SECONDS: Final = 1
#: Options of Redis, the same for all targets.
PERSISTENCE: Final = ("--appendonly", "yes", "--appendfsync", "everysec")
#: The targets: the service with one process and with two, the baseline, and constant responses.
SINGLE, DOUBLE, BASELINE, TUNED_BASELINE, LITESTAR, ASGI = (
    "jobstate",
    "jobstate, two processes",
    "baseline",
    "baseline, tuned",
    "constant Litestar response",
    "constant ASGI response",
)
#: The baseline's packages, in the versions of the service; tuned adds uvloop, httptools and hiredis.
BASELINE_PACKAGES: Final = ("fastapi==0.165.0", f"uvicorn=={version('uvicorn')}", f"redis=={version('redis')}")
TUNED_PACKAGES: Final = (
    BASELINE_PACKAGES[0],
    f"uvicorn[standard]=={version('uvicorn')}",
    f"redis[hiredis]=={version('redis')}",
)
#: The bytes of a constant response: a record with 100 bytes of input.
RECORD: Final = 420


def python_with(folder: Path, packages: Sequence[str]) -> str:
    """Create a virtual environment with these packages only; return its Python."""
    python = str(folder / "bin" / "python")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *packages], check=True)
    return python


@contextlib.contextmanager
def running(command: Sequence[str], port: int, folder: str) -> Iterator[str]:
    """Run a server, with API keys if it is the service, and yield its URL when it answers."""
    with Path(folder, f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "API_KEYS": API_KEYS})
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(f"{address}/v1/jobs/none")
                    break
                if time.monotonic() > deadline:
                    raise SystemExit(f"{' '.join(command)} did not start: {Path(log.name).read_text()[-500:]}")
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def running_targets() -> Iterator[dict[str, str]]:
    """Yield the URL of each target."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        urls = os.environ.get("BENCH_REDIS", "").split()
        service_url, baseline_url = urls or (stack.enter_context(server(*PERSISTENCE, tcp=True)) for _ in range(2))
        python = (sys.executable, "-m")
        serve = (*python, "service", "serve", "--redis-url", service_url)
        commands: dict[str, tuple[str, ...]] = {
            SINGLE: serve,
            DOUBLE: (*serve, "--workers", "2"),
            BASELINE: (
                python_with(Path(folder, "baseline"), BASELINE_PACKAGES),
                "-m",
                "benchmarks.baseline_app",
                baseline_url,
            ),
            TUNED_BASELINE: (
                python_with(Path(folder, "tuned"), TUNED_PACKAGES),
                "-m",
                "benchmarks.baseline_app",
                baseline_url,
            ),
            LITESTAR: (*python, "benchmarks.framework_ceiling", "litestar", str(RECORD)),
            ASGI: (*python, "benchmarks.framework_ceiling", "asgi", str(RECORD)),
        }
        addresses = {}
        for name, command in commands.items():
            port = free_port()
            more = ("--tuned",) if name == TUNED_BASELINE else ()
            addresses[name] = stack.enter_context(running((*command, "--port", str(port), *more), port, folder))
        yield addresses


class Scenario(NamedTuple):
    """A kind of request, the number of connections, and the targets to measure."""

    kind: str
    connections: int
    targets: tuple[str, ...]


CONNECTIONS: Final = (64, 1, 256)
ALL: Final = (SINGLE, DOUBLE, BASELINE, TUNED_BASELINE, LITESTAR, ASGI)
#: The baseline has no lists and no claims, and constant responses to them would add nothing.
SCENARIOS: Final = (
    *(Scenario(kind, connections, ALL) for connections in CONNECTIONS for kind in ("get", "create", "patch")),
    *(Scenario(kind, connections, (SINGLE, DOUBLE)) for connections in CONNECTIONS for kind in ("list", "claim")),
)


class IdRanges:
    """Ranges of unused job numbers."""

    def __init__(self) -> None:
        self._next = 1

    def allocate(self, length: int = 1_000_000) -> tuple[int, int]:
        """Return the first number of a new range, and its length."""
        first, self._next = self._next, self._next + length
        return first, length


def measure_sample(name: str, address: str, scenario: Scenario, ids: IdRanges) -> Sample:
    """Measure one target once; create the jobs that it needs before."""
    if scenario.kind in ("get", "list"):
        return run_wrk(address, scenario.kind, 0, 1, connections=scenario.connections, seconds=SECONDS)
    first, count = ids.allocate()
    if scenario.kind in ("patch", "claim") and name not in (LITESTAR, ASGI):
        run_wrk(address, "create", first, count, connections=64, seconds=3 * SECONDS)
    return run_wrk(address, scenario.kind, first, count, connections=scenario.connections, seconds=SECONDS)


def measure(rounds: int, report: Report) -> None:
    """Measure all scenarios."""
    require_wrk()
    ids, rates = IdRanges(), dict[str, dict[str, float]]()
    with running_targets() as addresses:
        with httpx.Client(headers=AUTHORIZATION) as http:
            for name in (SINGLE, BASELINE, TUNED_BASELINE):
                job = {"job_id": "bench-0", "input_params": {"text": "x" * 89}}
                http.post(f"{addresses[name]}/v1/jobs", json=job).raise_for_status()
            for _ in range(60):
                http.post(f"{addresses[SINGLE]}/v1/jobs", json={"input_params": {"text": "x" * 89}}).raise_for_status()
        for scenario in SCENARIOS:
            samples: dict[str, list[Sample]] = {name: [] for name in scenario.targets}
            for _ in range(rounds):
                for name in scenario.targets:
                    samples[name].append(measure_sample(name, addresses[name], scenario, ids))
            report.add(_table(scenario, samples))
            if scenario.connections == 64 and LITESTAR in samples:
                rates[scenario.kind] = {name: median(one.rate for one in each) for name, each in samples.items()}
        report.bar_chart("requests", "requests per second, 64 connections", rates)


def _table(scenario: Scenario, samples: dict[str, list[Sample]]) -> Table:
    at = "1 connection" if scenario.connections == 1 else f"{scenario.connections} connections"
    table = Table(
        f"{scenario.kind}, {at}",
        ("", "requests/s", "p50 ms", "p99 ms", *(f"× {name}" for name in scenario.targets[1:])),
    )
    for name, own in samples.items():
        ratios = [
            f"{median(one.rate / other.rate for one, other in zip(own, samples[against], strict=True)):.2f}"
            for against in scenario.targets[1:]
        ]
        rate, p50, p99 = (median(getattr(sample, field) for sample in own) for field in Sample._fields)
        table.add_row(name, f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}", *ratios)
    return table
