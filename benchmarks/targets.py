"""The performance targets, compared with the measured tables of the same run."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from benchmarks.http_throughput import BASELINE, DOUBLE, LITESTAR, SINGLE
from benchmarks.report import Table
from benchmarks.store import BYTES, COMMANDS, CPU, OURS, RATIO

AGAINST_BASELINE: Final = f"× {BASELINE}"
AGAINST_LITESTAR: Final = f"× {LITESTAR}"
RELATIVE: Final = "jobstate / peer"
SUBSCRIBERS: Final = "1000 subscribers, a job each"
STORED: Final = "bytes in Redis"


class Target(NamedTuple):
    """The required minimum (or maximum) and the goal for a cell of a table, or for its ratio to another row."""

    name: str
    required: float
    goal: float
    table: str
    """The beginning of the table's title."""
    row: str
    column: str
    relative_to: str = ""
    is_maximum: bool = False

    def measured(self, tables: Sequence[Table]) -> float:
        """Return the measured value. Raises `LookupError` if there is none."""
        table = next((table for table in tables if table.title.startswith(self.table)), None)
        if table is None:
            raise LookupError(self.table)
        value = table.value(self.row, self.column)
        return value / table.value(self.relative_to, self.column) if self.relative_to else value

    def is_met(self, value: float) -> bool:
        """Return whether a measured value meets the requirement."""
        return value <= self.required if self.is_maximum else value >= self.required


def _against_baseline(kind: str, required: float, goal: float) -> Target:
    return Target(f"{kind} / baseline", required, goal, f"{kind}, 64", SINGLE, AGAINST_BASELINE)


def _two_processes(kind: str) -> Target:
    return Target(f"{kind}, two processes / baseline", 10, 15, f"{kind}, 256", DOUBLE, AGAINST_BASELINE)


def _p99(kind: str) -> Target:
    return Target(f"{kind}: p99 / baseline", 0.2, 0.1, f"{kind}, 64", SINGLE, "p99 ms", BASELINE, is_maximum=True)


def _against_litestar(kind: str, required: float, goal: float) -> Target:
    return Target(f"{kind} / constant Litestar response", required, goal, f"{kind}, 64", SINGLE, AGAINST_LITESTAR)


def _against_peer(work: str, peer: str, required: float, goal: float) -> Target:
    return Target(f"{work}, 50 concurrent / {peer}", required, goal, f"{work}, 50", peer, RELATIVE)


def _maximum(name: str, required: float, goal: float, table: str, row: str, column: str) -> Target:
    return Target(name, required, goal, table, row, column, is_maximum=True)


def _store(verb: str, commands: float, required: float, goal: float) -> Iterator[Target]:
    yield _maximum(f"CPU time of Redis per {verb} / before version 2", required, goal, CPU, verb, RATIO)
    yield _maximum(f"commands of Redis per {verb}", commands, commands, COMMANDS, verb, OURS)


TARGETS: Final = (
    *(_against_baseline("get", 6, 10), _against_baseline("create", 5, 8), _against_baseline("patch", 7, 12)),
    *(_two_processes(kind) for kind in ("get", "create", "patch")),
    *(_p99(kind) for kind in ("get", "create", "patch")),
    *(_against_litestar("get", 0.8, 1.0), _against_litestar("create", 0.5, 0.7), _against_litestar("patch", 0.5, 0.7)),
    *(
        _against_peer("create", "saq", 4, 6),
        _against_peer("read", "saq", 4, 6),
        _against_peer("create", "bullmq", 1.5, 2.2),
    ),
    _against_peer("read", "redis-benchmark", 0.5, 0.9),
    *(_against_peer("claim and complete", peer, 2, 4) for peer in ("saq", "arq", "rq")),
    *(*_store("create", 13, 0.65, 0.55), *_store("claim", 18, 0.6, 0.5)),
    *(*_store("heartbeat", 5, 0.4, 0.28), *_store("complete", 13, 0.55, 0.45)),
    _maximum("bytes of a pending job / before version 2", 1.03, 1, BYTES, "pending", RATIO),
    _maximum("running count at 1,000,000 jobs / at 1,000", 1.5, 1.0, "median of", "running count", "1,000,000 / 1,000"),
    _maximum("p99 of get during counts / idle", 1.2, 1.0, "p99 of get", "counts (`/v1/stats`)", "× idle"),
    _maximum(
        "bytes of a pending job with slate and correlation id",
        1300,
        1100,
        STORED,
        "pending, slate and correlation id",
        "bytes",
    ),
    _maximum(
        "bytes of a pending job with neither",
        950,
        800,
        STORED,
        "pending, no slate or correlation id",
        "bytes",
    ),
    _maximum("event latency with 1,000 subscribers, p99 in ms", 15, 5, "latency from", SUBSCRIBERS, "p99"),
    _maximum("KiB per subscriber", 30, 18, "memory per subscriber", SUBSCRIBERS, "KiB"),
)


def table(tables: Sequence[Table], *, with_missing: bool = True) -> Table:
    """Return a table of all targets with the measured values; those without one only `with_missing`."""
    results = Table("targets and results", ("", "required", "goal", "measured", ""))
    for target in TARGETS:
        limits = f"{'≤' if target.is_maximum else '≥'} {target.required:,g}", f"{target.goal:,g}"
        try:
            value = target.measured(tables)
        except LookupError:  # a part that was not run, or a peer that is not installed
            if with_missing:
                results.add_row(target.name, *limits, "", "not measured")
            continue
        shown = f"{value:,.2f}".removesuffix(".00")
        results.add_row(target.name, *limits, shown, "met" if target.is_met(value) else "**not met**")
    return results
