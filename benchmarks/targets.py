"""The bars that were set for the service, beside what was measured: read off the tables of the same run."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.http_throughput import LITESTAR, ONE, PLAN, TWO
from benchmarks.report import Table

AGAINST_PLAN: Final = f"× {PLAN}"
AGAINST_LITESTAR: Final = f"× {LITESTAR}"
PEER: Final = "jobstate is"
WATCHERS: Final = "1000 watchers of as many jobs"
STORED: Final = "bytes in Redis"


class Bar(NamedTuple):
    """What a cell of a table, or its ratio to that of another row, must be at least (or at most), and is to be."""

    what: str
    must: float
    aim: float
    table: str
    """What the title of the table begins with."""
    row: str
    column: str
    over: str = ""
    is_most: bool = False

    def figure(self, tables: Sequence[Table]) -> float:
        """Return what was measured. Raises `LookupError` where it was not."""
        table = next((one for one in tables if one.title.startswith(self.table)), None)
        if table is None:
            raise LookupError(self.table)
        found = table.number(self.row, self.column)
        return found / table.number(self.over, self.column) if self.over else found

    def is_reached(self, figure: float) -> bool:
        """Say whether the bar is reached."""
        return figure <= self.must if self.is_most else figure >= self.must


def _against_the_plan(kind: str, must: float, aim: float) -> Bar:
    return Bar(f"{kind} against the plan", must, aim, f"{kind}, 64", ONE, AGAINST_PLAN)


def _two_workers(kind: str) -> Bar:
    return Bar(f"{kind}, two workers, against the plan's one", 10, 15, f"{kind}, 256", TWO, AGAINST_PLAN)


def _tail(kind: str) -> Bar:
    return Bar(f"{kind}: p99 against the plan's", 0.2, 0.1, f"{kind}, 64", ONE, "p99 ms", PLAN, is_most=True)


def _constant(kind: str, must: float, aim: float) -> Bar:
    return Bar(f"{kind} against a Litestar constant", must, aim, f"{kind}, 64", ONE, AGAINST_LITESTAR)


def _peer(work: str, peer: str, must: float, aim: float) -> Bar:
    return Bar(f"{work}, 50 at once, against {peer}", must, aim, f"{work}, 50", peer, PEER)


def _most(what: str, must: float, aim: float, table: str, row: str, column: str) -> Bar:
    return Bar(what, must, aim, table, row, column, is_most=True)


BARS: Final = (
    *(_against_the_plan("get", 6, 10), _against_the_plan("create", 5, 8), _against_the_plan("patch", 7, 12)),
    *(_two_workers(kind) for kind in ("get", "create", "patch")),
    *(_tail(kind) for kind in ("get", "create", "patch")),
    *(_constant("get", 0.8, 1.0), _constant("create", 0.5, 0.7), _constant("patch", 0.5, 0.7)),
    *(_peer("create", "saq", 4, 6), _peer("read", "saq", 4, 6), _peer("create", "bullmq", 1.5, 2.2)),
    _peer("read", "redis-benchmark", 0.5, 0.9),
    *(_peer("claim and complete", peer, 2, 4) for peer in ("saq", "arq", "rq")),
    _most("running count at 1,000,000 jobs against 1,000", 1.5, 1.0, "median of", "running count", "1,000,000 / 1,000"),
    _most("get's p99 beside the counts against idle", 1.2, 1.0, "get's p99", "the counts (`/v1/stats`)", "× idle"),
    _most(
        "bytes of a pending job with slate and correlation",
        1300,
        1100,
        STORED,
        "pending, slate and correlation",
        "bytes",
    ),
    _most("bytes of a pending job with neither", 950, 800, STORED, "pending, neither slate nor correlation", "bytes"),
    _most("ms to the receipt of a change by one of 1,000 watchers, p99", 15, 5, "from the request", WATCHERS, "p99"),
    _most("KiB for each of 1,000 watchers", 30, 18, "memory for each watcher", WATCHERS, "KiB"),
)


def table(tables: Sequence[Table]) -> Table:
    """Return all bars and whether they are reached."""
    bars = Table("what was to be reached", ("", "must", "aim", "here", ""))
    for bar in BARS:
        set_at = f"{'≤' if bar.is_most else '≥'} {bar.must:,g}", f"{bar.aim:,g}"
        try:
            figure = bar.figure(tables)
        except LookupError:  # a peer that is not installed
            bars.row(bar.what, *set_at, "", "not measured")
            continue
        bars.row(
            bar.what,
            *set_at,
            f"{figure:,.2f}".removesuffix(".00"),
            "reached" if bar.is_reached(figure) else "**not reached**",
        )
    return bars
