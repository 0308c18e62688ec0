"""Snapshots of the service on a terminal, for `jobstate top`."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobstate.cli.output import STYLES, capitalized, escape_control_chars, format_progress
from jobstate.cli.render.fitting import FittedTable, age_text
from jobstate.cli.render.terminal import status_text
from jobstate.models import DrainStatus, Job, Queue, Stats

#: The number of lines that are neither rows of running jobs nor of queues.
_FRAME: Final = 9
#: How the table of running jobs becomes narrower. The column without a name has the bars.
_STEPS: Final = (
    ("MESSAGE", 12),
    ("MESSAGE", 0),
    ("", 0),
    ("ATTEMPT", 0),
    ("WORKER", 8),
    ("WORKER", 0),
    ("RUNNING", 36),
    ("QUEUE", 8),
    ("PROGRESS", 0),
    ("QUEUE", 0),
    ("LEASE", 0),
    ("RUNNING", 1),
)


class Snapshot(Struct, frozen=True):
    """Counts, queues, drain and running jobs; `json` has the responses byte for byte."""

    stats: Stats
    queues: Sequence[Queue]
    drain: DrainStatus
    running: Sequence[Job]
    json: bytes
    #: The time of the responses, on this machine's monotonic clock (s).
    fetched_at: float

    @property
    def now(self) -> datetime:
        """The current time on the service's clock."""
        return self.stats.at + timedelta(seconds=time.monotonic() - self.fetched_at)


def render(snapshot: Snapshot, url: str, height: int | None, error: str = "") -> RenderableType:
    """Return the snapshot for a terminal of `height` lines (`None`: no limit), with an optional error message."""
    max_rows = None if height is None else max(1, height - _FRAME - len(snapshot.queues))
    parts: list[RenderableType] = [_head(snapshot, url)]
    if error:
        parts.append(Text(escape_control_chars(error), "bold red"))
    parts += [_counts(snapshot.stats), Text(), _queues(snapshot.queues), Text(), _running(snapshot, max_rows)]
    return Group(*parts)


def _head(snapshot: Snapshot, url: str) -> Text:
    head = Text.assemble((url, "bold"), f"  {snapshot.now:%Y-%m-%d %H:%M:%S} UTC  ")
    drain = snapshot.drain
    if not drain.draining:
        return head.append("open", "green")
    until = f" until {drain.until:%H:%M:%S}" if drain.until else ""
    stop = "safe to stop" if drain.safe_to_stop else f"{drain.leased} leased"
    return head.append(f"draining{until}, {stop}", "bold yellow")


def _counts(stats: Stats) -> Text:
    line = Text()
    for status in dict.fromkeys((*STYLES, *stats.statuses)):
        line.append_text(status_text(status)).append(f" {stats.statuses.get(status, 0)}")
        line.append(_detail(stats, status)).append("  ")
    line.rstrip()
    return line


def _detail(stats: Stats, status: str) -> str:
    if status == "pending" and stats.delayed:
        return f" ({stats.delayed} delayed)"
    if status == "running" and stats.running.unleased:
        return f" ({stats.running.unleased} without a lease)"
    return ""


def _queues(queues: Sequence[Queue]) -> Table:
    table = _table("QUEUE", ">PENDING", ">RUNNING", ">MAX", ">DEMAND", ">DUE FOR", "STATE")
    for queue in queues:
        table.add_row(
            Text(escape_control_chars(queue.queue)),
            str(queue.statuses.get("pending", 0)),
            str(queue.statuses.get("running", 0)),
            str(queue.max_running or "-"),
            str(queue.demand),
            "-" if queue.oldest_due_seconds is None else age_text(timedelta(seconds=queue.oldest_due_seconds)),
            Text("paused", "yellow") if queue.paused else Text("open", "green"),
        )
    return table


def _running(snapshot: Snapshot, max_rows: int | None) -> FittedTable:
    table = FittedTable(("RUNNING", "QUEUE", "WORKER", ">ATTEMPT", ">LEASE", "", ">PROGRESS", "MESSAGE"), _STEPS)
    shown = snapshot.running[:max_rows]
    for job in shown:
        table.add_row(*_row(job, snapshot.now))
    more = snapshot.stats.statuses.get("running", 0) - len(shown)
    if more > 0:
        table.add_row(Text(f"… and {more} more", "dim"))
    return table


def _row(job: Job, now: datetime) -> Iterator[RenderableType]:
    progress = job.progress
    total = progress and progress.total
    yield Text(escape_control_chars(job.job_id))
    yield Text(escape_control_chars(job.queue))
    yield Text(escape_control_chars(job.worker or "-"))
    yield str(job.attempt)
    yield lease_left(job, now)
    yield ProgressBar(total=total, completed=progress.current, width=16) if progress and total else Text()
    yield Text(format_progress(progress))
    yield Text(escape_control_chars((progress and progress.message) or ""), "dim")


def lease_left(job: Job, now: datetime) -> Text:
    """Return the remaining time of the lease."""
    if job.lease_expires_at is None:
        return Text("-")
    left = (job.lease_expires_at - now).total_seconds()
    return Text(f"{left:.0f} s") if left >= 0 and not job.stale else Text("expired", "bold red")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["right", "left"] = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=justify, no_wrap=True, overflow="ellipsis")
    return table


class Screen:
    """Draws the latest snapshot on the whole terminal, and updates the times twice a second."""

    def __init__(self, out: Console, url: str, first: Snapshot) -> None:
        self._console = out
        self._url = url
        self._snapshot = first
        self._error = ""

    @contextlib.contextmanager
    def live(self) -> Iterator["Screen"]:
        """Draw during the block."""
        with Live(get_renderable=self._render, console=self._console, screen=True, refresh_per_second=2):
            yield self

    def show(self, snapshot: Snapshot) -> None:
        """Draw a new snapshot."""
        self._snapshot, self._error = snapshot, ""

    def show_error(self, reason: str) -> None:
        """Keep the old snapshot, and show the error."""
        self._error = unavailable_text(reason)

    def _render(self) -> RenderableType:
        return render(self._snapshot, self._url, self._console.height, self._error)


def unavailable_text(reason: str) -> str:
    """Return the message about an outage."""
    return f"{capitalized(reason)}; retrying."
