"""Requests per second over HTTP: the service, the plan that it replaced, and the limit of its framework.

Each is a process of its own; the service and the plan have a Redis each, of the same kind; `wrk` asks them in turn. The
plan runs twice: with the three packages that it names, and with all that makes these faster.
`BENCH_REDIS` names two others, such as `redis://127.0.0.1:6379/0 redis://127.0.0.1:6379/1` in a container.
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

from benchmarks.fixtures import free_port, server
from benchmarks.report import Report, Table
from benchmarks.wrk import Round, ask, need_wrk

SECONDS: Final = 1
#: What Redis keeps, and how: the same for all.
PERSISTENCE: Final = ("--appendonly", "yes", "--appendfsync", "everysec")
#: The subjects: the service as `jobstate` serves it, with one worker and with two; the plan; the limits.
ONE, TWO, PLAN, TUNED, LITESTAR, ASGI = (
    "jobstate",
    "jobstate, two workers",
    "the plan",
    "the plan, tuned",
    "a Litestar constant",
    "an ASGI constant",
)
#: What the plan needs, in the versions that the service has; and the same with uvloop, httptools and hiredis.
PACKAGES: Final = ("fastapi==0.165.0", f"uvicorn=={version('uvicorn')}", f"redis=={version('redis')}")
FASTER: Final = (PACKAGES[0], f"uvicorn[standard]=={version('uvicorn')}", f"redis[hiredis]=={version('redis')}")
#: The bytes of a record with 100 bytes of input, which is what the constants answer.
RECORD: Final = 420


class Subject(NamedTuple):
    """A server that is asked."""

    name: str
    address: str


def python_with(folder: Path, packages: Sequence[str]) -> str:
    """Return a Python that has these packages and no others."""
    python = str(folder / "bin" / "python")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *packages], check=True)
    return python


@contextlib.contextmanager
def running(command: Sequence[str], port: int, folder: str) -> Iterator[str]:
    """Run a server and yield its address once it answers."""
    with Path(folder, f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
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
def subjects() -> Iterator[dict[str, str]]:
    """Yield the address of each subject."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        given = os.environ.get("BENCH_REDIS", "").split()
        ours, theirs = given or (stack.enter_context(server(*PERSISTENCE, tcp=True)) for _ in range(2))
        python = (sys.executable, "-m")
        serve = (*python, "service", "serve", "--redis-url", ours)
        commands: dict[str, tuple[str, ...]] = {
            ONE: serve,
            TWO: (*serve, "--workers", "2"),
            PLAN: (python_with(Path(folder, "plan"), PACKAGES), "-m", "benchmarks.baseline_app", theirs),
            TUNED: (python_with(Path(folder, "tuned"), FASTER), "-m", "benchmarks.baseline_app", theirs),
            LITESTAR: (*python, "benchmarks.framework_ceiling", "litestar", str(RECORD)),
            ASGI: (*python, "benchmarks.framework_ceiling", "asgi", str(RECORD)),
        }
        found = {}
        for name, command in commands.items():
            port = free_port()
            more = ("--tuned",) if name == TUNED else ()
            found[name] = stack.enter_context(running((*command, "--port", str(port), *more), port, folder))
        yield found


class Scene(NamedTuple):
    """What is asked of whom, over how many connections."""

    kind: str
    connections: int
    asked: tuple[str, ...]


CONNECTIONS: Final = (64, 1, 256)
ALL: Final = (ONE, TWO, PLAN, TUNED, LITESTAR, ASGI)
#: The plan had no page of a list and no claims, and a constant of either says nothing that the others do not.
SCENES: Final = (
    *(Scene(kind, connections, ALL) for connections in CONNECTIONS for kind in ("get", "create", "patch")),
    *(Scene(kind, connections, (ONE, TWO)) for connections in CONNECTIONS for kind in ("list", "claim")),
)


class Ids:
    """Runs of ids that no round has used."""

    def __init__(self) -> None:
        self._next = 1

    def run(self, length: int = 1_000_000) -> tuple[int, int]:
        """Return the first of a run and its length."""
        first, self._next = self._next, self._next + length
        return first, length


def one_round(name: str, address: str, scene: Scene, ids: Ids) -> Round:
    """Ask one subject for one round; what it needs is created before."""
    if scene.kind in ("get", "list"):
        return ask(address, scene.kind, 0, 1, connections=scene.connections, seconds=SECONDS)
    first, count = ids.run()
    if scene.kind in ("patch", "claim") and name not in (LITESTAR, ASGI):
        ask(address, "create", first, count, connections=64, seconds=3 * SECONDS)
    return ask(address, scene.kind, first, count, connections=scene.connections, seconds=SECONDS)


def measure(rounds: int, report: Report) -> None:
    """Run all scenes and add what was found to a report."""
    need_wrk()
    ids, rates = Ids(), dict[str, dict[str, float]]()
    with subjects() as addresses:
        for name in (ONE, PLAN, TUNED):
            job = {"job_id": "bench-0", "input_params": {"text": "x" * 89}}
            httpx.post(f"{addresses[name]}/v1/jobs", json=job).raise_for_status()
        for _ in range(60):
            httpx.post(f"{addresses[ONE]}/v1/jobs", json={"input_params": {"text": "x" * 89}}).raise_for_status()
        for scene in SCENES:
            found: dict[str, list[Round]] = {name: [] for name in scene.asked}
            for _ in range(rounds):
                for name in scene.asked:
                    found[name].append(one_round(name, addresses[name], scene, ids))
            report.add(_table(scene, found))
            if scene.connections == 64 and LITESTAR in found:
                rates[scene.kind] = {name: median(one.rate for one in each) for name, each in found.items()}
        report.bars("requests", "requests per second, 64 connections", rates)


def _table(scene: Scene, found: dict[str, list[Round]]) -> Table:
    at = "1 connection" if scene.connections == 1 else f"{scene.connections} connections"
    table = Table(
        f"{scene.kind}, {at}", ("", "requests/s", "p50 ms", "p99 ms", *(f"× {name}" for name in scene.asked[1:]))
    )
    for name, rounds in found.items():
        ratios = [
            f"{median(one.rate / other.rate for one, other in zip(rounds, found[against], strict=True)):.2f}"
            for against in scene.asked[1:]
        ]
        middle = (median(getattr(one, field) for one in rounds) for field in Round._fields)
        rate, p50, p99 = middle
        table.row(name, f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}", *ratios)
    return table
