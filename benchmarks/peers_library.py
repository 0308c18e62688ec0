"""jobstate's library and its peers: create jobs, read their state, claim and complete them.

Each peer is a process with its own packages (`uv run --script`; BullMQ from npm) and its own Redis. All are measured in
turn.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
#: Jobs of a sequential round, jobs of a concurrent round, and the concurrency.
SEQUENTIAL, CONCURRENT, WORKERS = 500, 3000, 50
#: Samples by scenario and peer, or by peer and scenario.
Samples = dict[str, dict[str, list[float]]]


class Peer:
    """A peer process that runs commands and returns how long each took (see peers/protocol.py)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._send("")

    def run(self, verb: str, count: int, workers: int) -> float:
        """Run a command and return its rate per second."""
        return count / float(self._send(f"{verb} {count} {workers}\n"))

    def _send(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline().strip()):
            raise SystemExit(f"{self._process.args!r} exited")
        return answer


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the command of each peer. BullMQ needs npm and is left out without it."""
    peer_commands = {OURS: [sys.executable, "-m", "benchmarks.peers.jobstate_peer"]}
    for name in ("saq", "arq", "rq", "celery"):
        peer_commands[name] = ["uv", "run", "--quiet", "--script", str(PEERS / f"{name}_peer.py")]
    if shutil.which("npm"):
        shutil.copy(PEERS / "bullmq_peer.mjs", folder)
        subprocess.run(["npm", "install", "--silent", "--no-save", "--prefix", str(folder), *BULLMQ], check=True)
        peer_commands["bullmq"] = ["node", str(folder / "bullmq_peer.mjs")]
    return peer_commands


@contextlib.contextmanager
def running_peers(
    commands: Mapping[str, Sequence[str]], urls: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Peer]]:
    """Run the command of each peer, with the URL of its Redis."""
    processes = {
        name: subprocess.Popen(
            [*command, urls[name]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for name, command in commands.items()
    }
    try:
        yield {name: Peer(process) for name, process in processes.items()}
    finally:
        for process in processes.values():  # their signal handlers would wait for jobs
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def redis_benchmark(url: str) -> float:
    """Return the records per second that `redis-benchmark` reads without pipelines."""
    port = url.rpartition(":")[2].partition("/")[0]
    key = next(iter(redis.Redis.from_url(url).scan_iter("job:*", count=1000)))
    command = ["redis-benchmark", "-p", port, "-c", str(WORKERS), "-n", "50000", "-q", "HGETALL", key.decode()]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rates = re.findall(r"([\d.]+) requests per second", output)
    return float(rates[-1])


def redis_cpu(url: str) -> float:
    """Return the CPU seconds that a Redis has spent on commands."""
    info = redis.Redis.from_url(url).info("cpu")
    return float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])


def measure(rounds: int, report: Report) -> None:
    """Measure all peers in turn."""
    scenarios: Samples = {}
    costs: Samples = {}
    concurrent = f"{WORKERS} concurrent"

    def run(scenario: str, name: str, verb: str, count: int, workers: int) -> None:
        started = redis_cpu(urls[name])
        rate = peers[name].run(verb, count, workers)
        scenarios.setdefault(scenario, {}).setdefault(name, []).append(rate)
        costs.setdefault(name, {}).setdefault(scenario, []).append((redis_cpu(urls[name]) - started) / count * 1e6)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        installed = commands(folder)
        urls = {name: stack.enter_context(server(*PERSISTENCE, tcp=True)) for name in installed}
        peers = stack.enter_context(running_peers(installed, urls))
        for _ in range(rounds):
            for name in peers:
                run("create, sequential", name, "create", SEQUENTIAL, 1)
                run("read, sequential", name, "read", SEQUENTIAL, 1)
                run(f"create, {concurrent}", name, "create", CONCURRENT - SEQUENTIAL, WORKERS)
                run(f"read, {concurrent}", name, "read", CONCURRENT, WORKERS)
                if name != "celery":  # its workers need processes of their own
                    run(f"claim and complete, {concurrent}", name, "work", CONCURRENT, WORKERS)
            if shutil.which("redis-benchmark"):
                rate = redis_benchmark(urls[OURS])
                scenarios[f"read, {concurrent}"].setdefault("redis-benchmark", []).append(rate)
    _add_tables(scenarios, costs, report)


def _add_tables(scenarios: Samples, costs: Samples, report: Report) -> None:
    for scenario, rates_of in scenarios.items():
        table = Table(scenario, ("", "jobs/s", "jobstate / peer"))
        for name, rates in rates_of.items():
            ratio = median(ours / theirs for ours, theirs in zip(rates_of[OURS], rates, strict=True))
            table.add_row(name, f"{median(rates):,.0f}", f"×{ratio:.2f}")
        report.add(table)
    columns = [name for name in scenarios if name.endswith("concurrent")]
    table = Table("CPU time of Redis per job, µs", ("", *columns))
    for name, of_peer in costs.items():
        table.add_row(name, *(f"{median(of_peer[one]):.0f}" if one in of_peer else "" for one in columns))
    report.add(table)
