"""A job as a progress bar on a terminal."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from msgspec.structs import replace
from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as Bar
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from jobstate._sse import Event
from jobstate.cli.follow import Change
from jobstate.cli.output import encodable_json, escape_control_chars, escape_json_control_chars, format_progress
from jobstate.cli.render.messages import RECONNECTED, disconnected_text
from jobstate.cli.render.terminal import status_text
from jobstate.cli.render.text import describe
from jobstate.models import Job

_SYMBOLS: Final = {"completed": "✓", "failed": "✗", "cancelled": "■"}


@contextlib.contextmanager
def progress_bar(console: Console, now: Callable[[], datetime]) -> Iterator["ProgressBar"]:
    """Yield a bar that is drawn during the block; `now` returns the service's time."""
    with _bar(console, now) as bar:
        yield ProgressBar(bar)


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, such as 0:01:02."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class ProgressBar:
    """Draws a progress bar, and finally the result or error below it."""

    def __init__(self, bar: Bar) -> None:
        """Use a bar that is already live."""
        self._bar = bar
        self._job: Job | None = None
        self._task = bar.add_task("", total=None, job=None)

    def changed(self, change: Change) -> None:
        """Draw a change."""
        job = change.job or (self._job and replace(self._job, status=change.status))
        if job is None:
            self._bar.console.print(status_text(change.status))
            return
        self._job, progress = job, job.progress
        self._bar.update(
            self._task,
            total=progress.total if progress else None,
            completed=progress.current if progress else 0,
            job=job,
        )

    def removed(self, event: Event) -> None:
        """Do nothing: the command reports it as an error."""

    def finished(self, change: Change) -> None:
        """Draw the final state, and write the result or error."""
        self.changed(change)
        self._bar.stop()
        if change.outcome:
            self._bar.console.out(encodable_json(escape_json_control_chars(change.outcome)), highlight=False)

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Report a lost connection above the bar."""
        self._bar.console.print(Text(escape_control_chars(disconnected_text(reason, pause)), "yellow"))

    def on_reconnect(self) -> None:
        """Report a recovered connection."""
        self._bar.console.print(Text(RECONNECTED, "green"))


def _bar(console: Console, now: Callable[[], datetime]) -> Bar:
    columns = (
        _StatusColumn(),
        _JobColumn(lambda job: Text(escape_control_chars(job.job_id), "bold")),
        _JobColumn(lambda job: status_text(job.status)),
        _JobColumn(lambda job: Text(describe(job))),
        _ProgressBarColumn(),
        _JobColumn(lambda job: Text(format_progress(job.progress))),
        _JobColumn(lambda job: Text(_running_time(job, now()))),
        _JobColumn(
            lambda job: Text(escape_control_chars((job.progress and job.progress.message) or ""), "dim"),
            Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    )
    return Bar(*columns, console=console, expand=True)


def _running_time(job: Job, now: datetime) -> str:
    """Return the time from its start to its end, or to `now`; empty before its first start."""
    if job.started_at is None:
        return ""
    return duration(max(0.0, ((job.finished_at or now) - job.started_at).total_seconds()))


class _JobColumn(ProgressColumn):
    """A text about the job; empty before its first change."""

    def __init__(self, render_text: Callable[[Job], Text], column: Column | None = None) -> None:
        super().__init__(column or Column(no_wrap=True))
        self._render_text = render_text

    def render(self, task: Task) -> Text:
        job = task.fields["job"]
        return self._render_text(job) if job else Text()


class _StatusColumn(ProgressColumn):
    """A spinner, or the symbol of a final status."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner = Spinner("dots")

    def render(self, task: Task) -> Text | Spinner:
        job = task.fields["job"]
        symbol = _SYMBOLS.get(job.status) if job else None
        return Text(symbol, status_text(job.status).style) if symbol else self._spinner


class _ProgressBarColumn(ProgressColumn):
    """A progress bar if the total is known."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = BarColumn(24, complete_style="cyan", finished_style="green")

    def render(self, task: Task) -> RenderableType:
        return self._bar.render(task) if task.total else Text()
