"""The library against its peers: create and read a job's state, and take jobs from claim to completion.

Each peer is a process with packages of its own (`uv run --script`; BullMQ from npm), on a Redis of its own of the same
kind; all are asked in turn.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import redis

from benchmarks.fixtures import server
from benchmarks.http_throughput import PERSISTENCE
from benchmarks.report import Report, Table

PEERS: Final = Path(__file__).with_name("peers")
OURS: Final = "jobstate"
BULLMQ: Final = ("bullmq@6.7.0", "ioredis@6.0.0")
#: Jobs of a round one after another, and at once, and how many of those at a time.
ONE_BY_ONE, AT_ONCE, WORKERS = 500, 3000, 50


class Peer:
    """A process that does what it is told and says how long it took."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._say("")

    def ask(self, verb: str, count: int, workers: int) -> float:
        """Return how many a second it did."""
        return count / float(self._say(f"{verb} {count} {workers}\n"))

    def _say(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline().strip()):
            raise SystemExit(f"{self._process.args!r} ended")
        return answer


def commands(folder: Path) -> dict[str, list[str]]:
    """Return how each peer is started; BullMQ only where npm is there to install it."""
    found = {OURS: [sys.executable, "-m", "benchmarks.peers.jobstate_peer"]}
    for name in ("saq", "arq", "rq", "celery"):
        found[name] = ["uv", "run", "--quiet", "--script", str(PEERS / f"{name}_peer.py")]
    if shutil.which("npm"):
        shutil.copy(PEERS / "bullmq_peer.mjs", folder)
        subprocess.run(["npm", "install", "--silent", "--no-save", "--prefix", str(folder), *BULLMQ], check=True)
        found["bullmq"] = ["node", str(folder / "bullmq_peer.mjs")]
    return found


@contextlib.contextmanager
def peers(urls: dict[str, str], folder: Path) -> Iterator[dict[str, Peer]]:
    """Yield the peers, each on its Redis."""
    processes = {
        name: subprocess.Popen(
            [*command, urls[name]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for name, command in commands(folder).items()
    }
    try:
        yield {name: Peer(process) for name, process in processes.items()}
    finally:
        for process in processes.values():  # their own handlers of signals would have them wait for work
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def redis_benchmark(url: str) -> float:
    """Return how many records a second `redis-benchmark` reads, so many clients at once, without pipelines."""
    port = url.rpartition(":")[2].partition("/")[0]
    key = next(iter(redis.Redis.from_url(url).scan_iter("job:*", count=1000)))
    command = ["redis-benchmark", "-p", port, "-c", str(WORKERS), "-n", "50000", "-q", "HGETALL", key.decode()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"([\d.]+) requests per second", said)
    return float(found[-1])


def measure(rounds: int, report: Report) -> None:
    """Ask all peers in turn and add what was found."""
    scenes: dict[str, dict[str, list[float]]] = {}

    def note(scene: str, name: str, rate: float) -> None:
        scenes.setdefault(scene, {}).setdefault(name, []).append(rate)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = [*commands(folder)]
        urls = {name: stack.enter_context(server(*PERSISTENCE, tcp=True)) for name in names}
        asked = stack.enter_context(peers(urls, folder))
        for _ in range(rounds):
            for name, peer in asked.items():
                note("create, one after another", name, peer.ask("create", ONE_BY_ONE, 1))
                note("read, one after another", name, peer.ask("read", ONE_BY_ONE, 1))
                note(f"create, {WORKERS} at once", name, peer.ask("create", AT_ONCE - ONE_BY_ONE, WORKERS))
                note(f"read, {WORKERS} at once", name, peer.ask("read", AT_ONCE, WORKERS))
                if name != "celery":  # its workers are processes of their own
                    note(f"claim and complete, {WORKERS} at once", name, peer.ask("work", AT_ONCE, WORKERS))
            if shutil.which("redis-benchmark"):
                note(f"read, {WORKERS} at once", "redis-benchmark", redis_benchmark(urls[OURS]))
    for scene, found in scenes.items():
        table = Table(scene, ("", "jobs/s", "jobstate is"))
        for name, rates in found.items():
            ratio = median(ours / theirs for ours, theirs in zip(found[OURS], rates, strict=True))
            table.row(name, f"{median(rates):,.0f}", f"×{ratio:.2f}")
        report.add(table)
