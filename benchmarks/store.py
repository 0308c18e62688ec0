"""What a change costs Redis, here and in the version before the layout of the keys was redesigned.

Both versions run in turn: this checkout, and a worktree of `BASELINE` with an environment of its own, which is removed
afterwards. Each is a process with a Redis of its own (see peers/store_peer.py).
"""

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import redis

from benchmarks.fixtures import server
from benchmarks.peers_library import PEERS, WORKERS, Peer, running_peers
from benchmarks.report import Report, Table

#: The last commit with version 1 of the data.
BASELINE: Final = "2fe9ec7"
OURS: Final = "this checkout"
#: The jobs of a round, and the calls in their order.
JOBS: Final = 3000
VERBS: Final = ("create", "claim", "heartbeat", "complete")
#: Commands that no script runs, without their subcommands.
_OUTER: Final = frozenset({"evalsha", "script", "info", "flushdb", "memory", "client", "hello", "ping"})
#: Variables that would lead the processes of `BASELINE` to this checkout.
_OWN_VARIABLES: Final = frozenset({"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH"})

#: The titles of the tables.
CPU: Final = "CPU time of Redis per call, in µs"
COMMANDS: Final = "commands of Redis per call"
BYTES: Final = "bytes of a job in Redis, with slate and correlation id"
RATE: Final = f"calls per second, {WORKERS} concurrent"
RATIO: Final = f"{OURS} / {BASELINE}"

#: The samples of each version, by title and row of the table.
Samples = dict[tuple[str, str], dict[str, list[float]]]


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Yield a worktree of `commit` in a temporary folder, with an environment in `.venv`."""
    with tempfile.TemporaryDirectory(prefix="bench-store-") as parent:
        folder = Path(parent, commit)
        added = ["git", "worktree", "add", "--quiet", "--detach", str(folder), commit]
        if subprocess.run(added, check=False).returncode:
            raise SystemExit(f"no commit {commit}; a shallow clone needs `git fetch --unshallow`")
        try:
            version = [] if sys.version_info >= (3, 14) else ["--python", platform.python_version()]
            subprocess.run(
                ["uv", "sync", "--quiet", "--no-default-groups", *version], cwd=folder, env=_environment(), check=True
            )
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], check=True)


def _environment() -> dict[str, str]:
    """Return the variables of this process without those of its environment of uv."""
    return {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}


class Side:
    """One of the two versions, with its Redis."""

    def __init__(self, peer: Peer, url: str) -> None:
        self._peer = peer
        self._redis: Any = redis.Redis.from_url(url, protocol=2)

    def begin_round(self) -> None:
        """Delete all jobs."""
        self._redis.flushdb()

    def run(self, verb: str, count: int) -> dict[tuple[str, str], float]:
        """Run a call for `count` jobs, and return its samples by title and row of the table."""
        cpu, commands = self._cpu(), self._commands()
        rate = self._peer.run(verb, count, WORKERS)
        samples = {
            (CPU, verb): (self._cpu() - cpu) / count * 1e6,
            (COMMANDS, verb): (self._commands() - commands) / count,
            (RATE, verb): rate,
        }
        return samples | ({(BYTES, "pending"): self._bytes_per_job(count)} if verb == "create" else {})

    def _cpu(self) -> float:
        """Return the CPU seconds of the thread that runs all commands."""
        info = self._redis.info("cpu")
        return float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])

    def _commands(self) -> int:
        """Return how many commands scripts have run."""
        return count_commands(self._redis.info("commandstats"))

    def _bytes_per_job(self, count: int) -> float:
        """Return the bytes of a job: its record, and its share of all other keys but the capped event stream."""
        with self._redis.pipeline(transaction=False) as pipe:
            for name in self._redis.scan_iter(count=1000):
                if name != b"jobs:events":
                    pipe.memory_usage(name, samples=0)
            return float(sum(pipe.execute())) / count


def count_commands(stats: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the number of calls in `INFO commandstats` of commands that scripts run."""
    names = {name: name.removeprefix("cmdstat_").partition("|")[0] for name in stats}
    return sum(int(stats[name]["calls"]) for name, command in names.items() if command not in _OUTER)


def sample(sides: Mapping[str, Side], rounds: int, jobs: int = JOBS) -> Samples:
    """Run all calls of all versions in turn, and return the samples. A round before them is not counted."""
    samples: Samples = {}
    for number in range(rounds + 1):
        for side in sides.values():
            side.begin_round()
        for verb in VERBS:
            for name in sorted(sides, reverse=number % 2 == 1):
                for place, value in sides[name].run(verb, jobs).items():
                    if number:
                        samples.setdefault(place, {}).setdefault(name, []).append(value)
    return samples


def tables(samples: Samples) -> list[Table]:
    """Return the tables: the medians, and the medians of the ratios within a round."""
    by_title: dict[str, Table] = {}
    for (title, row), values in samples.items():
        ours, theirs = values[OURS], values[BASELINE]
        ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
        table = by_title.setdefault(title, Table(title, ("", OURS, BASELINE, RATIO)))
        table.add_row(row, f"{median(ours):,.1f}", f"{median(theirs):,.1f}", f"{ratio:.2f}")
    return list(by_title.values())


def measure(rounds: int, report: Report) -> None:
    """Compare this checkout with `BASELINE`."""
    script = str(PEERS / "store_peer.py")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(worktree(BASELINE))
        pythons = {OURS: sys.executable, BASELINE: str(folder / ".venv" / "bin" / "python")}
        urls = {name: stack.enter_context(server(tcp=True)) for name in pythons}
        commands = {name: [python, script] for name, python in pythons.items()}
        peers = stack.enter_context(running_peers(commands, urls, _environment()))
        samples = sample({name: Side(peer, urls[name]) for name, peer in peers.items()}, rounds)
    for table in tables(samples):
        report.add(table)
