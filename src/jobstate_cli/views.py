"""The views of a watched job: a progress bar on a terminal, text lines on a pipe, JSON lines for scripts."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as Bar
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from jobstate_cli.exit_codes import STATUS_EXIT_CODES
from jobstate_cli.follow import View
from jobstate_cli.output import (
    encodable_json,
    escape_control_chars,
    escape_json_control_chars,
    print_json,
    print_line,
    print_stderr,
    status_text,
)
from jobstate_cli.records import Job, Record, format_time
from jobstate_cli.streams import Event

Clock = Callable[[], datetime]

_SYMBOLS: Final = {"completed": "✓", "failed": "✗", "cancelled": "■"}


@contextlib.contextmanager
def view_on(console: Console, now: Clock, *, as_json: bool) -> Iterator[View]:
    """Yield the view for the output; `now` returns the service's time."""
    if as_json:
        yield JsonLines()
    elif console.is_interactive:
        with _bar(console, now) as bar:
            yield ProgressBar(bar)
    else:
        yield Lines()


def describe(job: Job) -> str:
    """Return attempts, failures, an expired lease and a cancel request as short text."""
    words = [f"attempt {job.attempt}"] if job.attempt else []
    if job.failures:
        words.append(f"{job.failures} of {job.max_attempts} failed")
    if job.stale:
        words.append("lease expired")
    if job.cancel_requested_at and job.status not in STATUS_EXIT_CODES:
        words.append("cancellation requested")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, such as 0:01:02."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class ConnectionMessages:
    """Reports lost and recovered connections on standard error."""

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Report a lost connection."""
        print_stderr(_disconnected_text(reason, pause))

    def on_reconnect(self) -> None:
        """Report a recovered connection."""
        print_stderr(_RECONNECTED)


class JsonLines(ConnectionMessages):
    """Writes each event as JSON, and finally the complete record."""

    def changed(self, record: Record) -> None:
        """Write a change."""
        self._write("changed", record.json)

    def removed(self, event: Event) -> None:
        """Write the event `deleted` or `expired`."""
        self._write(event.name, event.data)

    def finished(self, record: Record) -> None:
        """Write the complete record as event `ended`."""
        self._write("ended", record.json)

    def _write(self, event: str, data: bytes) -> None:
        print_json(b'{"event":"%b","data":%b}' % (event.encode(), data))


class Lines(ConnectionMessages):
    """Writes one line for each change, and finally the result or error."""

    def changed(self, record: Record) -> None:
        """Write a change."""
        job = record.job
        words = [format_time(job.updated_at), job.status, describe(job)]
        if job.progress:
            words += [str(job.progress), job.progress.message]
        print_line("  ".join(word for word in words if word))

    def removed(self, event: Event) -> None:
        """Do nothing: the command reports it as an error."""

    def finished(self, record: Record) -> None:
        """Write the result or error, if any."""
        if record.job.outcome:
            print_json(record.job.outcome)


class ProgressBar:
    """Draws a progress bar, and finally the result or error below it."""

    def __init__(self, bar: Bar) -> None:
        """Use a bar that is already live."""
        self._bar = bar
        self._task = bar.add_task("", total=None, job=None)

    def changed(self, record: Record) -> None:
        """Draw a change."""
        progress = record.job.progress
        self._bar.update(
            self._task,
            total=progress.total if progress else None,
            completed=progress.current if progress else 0,
            job=record.job,
        )

    def removed(self, event: Event) -> None:
        """Do nothing: the command reports it as an error."""

    def finished(self, record: Record) -> None:
        """Draw the final state, and write the result or error."""
        self.changed(record)
        self._bar.stop()
        if record.job.outcome:
            self._bar.console.out(encodable_json(escape_json_control_chars(record.job.outcome)), highlight=False)

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Report a lost connection above the bar."""
        self._bar.console.print(Text(escape_control_chars(_disconnected_text(reason, pause)), "yellow"))

    def on_reconnect(self) -> None:
        """Report a recovered connection."""
        self._bar.console.print(Text(_RECONNECTED, "green"))


_RECONNECTED: Final = "Reconnected."


def _disconnected_text(reason: str, pause: float) -> str:
    return f"{reason[:1].upper()}{reason[1:]}; retrying in {pause:.1f} s."


def _bar(console: Console, now: Clock) -> Bar:
    columns = (
        _StatusColumn(),
        _JobColumn(lambda job: Text(escape_control_chars(job.job_id), "bold")),
        _JobColumn(lambda job: status_text(job.status)),
        _JobColumn(lambda job: Text(describe(job))),
        _ProgressBarColumn(),
        _JobColumn(lambda job: Text(str(job.progress or ""))),
        _JobColumn(lambda job: Text(_running_time(job, now()))),
        _JobColumn(
            lambda job: Text(escape_control_chars(job.progress.message if job.progress else ""), "dim"),
            Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    )
    return Bar(*columns, console=console, expand=True)


def _running_time(job: Job, now: datetime) -> str:
    seconds = job.seconds_running(now)
    return "" if seconds is None else duration(seconds)


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
