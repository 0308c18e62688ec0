"""The three ways to show a watched job: a bar on a terminal, lines on a pipe, JSON lines for scripts."""

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

from jobstate_cli.exits import STATUS_EXIT_CODES
from jobstate_cli.follow import View
from jobstate_cli.records import Job, Record, moment
from jobstate_cli.streams import Event
from jobstate_cli.terminal import (
    encodable_json,
    escape_control_chars,
    escape_json_control_chars,
    print_json,
    print_line,
    print_stderr,
    status_text,
)

Clock = Callable[[], datetime]

_SYMBOLS: Final = {"completed": "✓", "failed": "✗", "cancelled": "■"}


@contextlib.contextmanager
def view_on(console: Console, now: Clock, *, as_json: bool) -> Iterator[View]:
    """Yield what shows a job here; `now` is the service's time."""
    if as_json:
        yield JsonLines()
    elif console.is_interactive:
        with _bar(console, now) as bar:
            yield ProgressBar(bar)
    else:
        yield Lines()


def describe(job: Job) -> str:
    """Return how a job stands beyond its status, in a few words."""
    words = [f"attempt {job.attempt}"] if job.attempt else []
    if job.failures:
        words.append(f"{job.failures} of {job.max_attempts} failed")
    if job.stale:
        words.append("lease over")
    if job.cancel_requested_at and job.status not in STATUS_EXIT_CODES:
        words.append("cancel asked for")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Return seconds for people, such as 0:01:02."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class ConnectionMessages:
    """Tells people on standard error how the line is."""

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Say that the line is lost."""
        print_stderr(_disconnected_text(reason, pause))

    def on_reconnect(self) -> None:
        """Say that it is back."""
        print_stderr(_RECONNECTED)


class JsonLines(ConnectionMessages):
    """Writes each event as the stream has it, and at the end the whole record."""

    def changed(self, record: Record) -> None:
        """Write a change."""
        self._write("changed", record.json)

    def removed(self, event: Event) -> None:
        """Write the end of the record."""
        self._write(event.name, event.data)

    def finished(self, record: Record) -> None:
        """Write the end of the job."""
        self._write("ended", record.json)

    def _write(self, event: str, data: bytes) -> None:
        print_json(b'{"event":"%b","data":%b}' % (event.encode(), data))


class Lines(ConnectionMessages):
    """Writes one line for each change, and at the end what came out."""

    def changed(self, record: Record) -> None:
        """Write a change."""
        job = record.job
        words = [moment(job.updated_at), job.status, describe(job)]
        if job.progress:
            words += [str(job.progress), job.progress.message]
        print_line("  ".join(word for word in words if word))

    def removed(self, event: Event) -> None:
        """Leave it to the command's last words."""

    def finished(self, record: Record) -> None:
        """Write what came out."""
        if record.job.outcome:
            print_json(record.job.outcome)


class ProgressBar:
    """Draws one line that moves, and under it at the end what came out."""

    def __init__(self, bar: Bar) -> None:
        """Use a bar that is being drawn."""
        self._bar = bar
        self._task = bar.add_task("", total=None, job=None)

    def changed(self, record: Record) -> None:
        """Draw a new state."""
        progress = record.job.progress
        self._bar.update(
            self._task,
            total=progress.total if progress else None,
            completed=progress.current if progress else 0,
            job=record.job,
        )

    def removed(self, event: Event) -> None:
        """Leave it to the command's last words."""

    def finished(self, record: Record) -> None:
        """Draw the last state, and write what came out."""
        self.changed(record)
        self._bar.stop()
        if record.job.outcome:
            self._bar.console.out(encodable_json(escape_json_control_chars(record.job.outcome)), highlight=False)

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Say above the bar that the line is lost."""
        self._bar.console.print(Text(escape_control_chars(_disconnected_text(reason, pause)), "yellow"))

    def on_reconnect(self) -> None:
        """Say that it is back."""
        self._bar.console.print(Text(_RECONNECTED, "green"))


_RECONNECTED: Final = "Connected again."


def _disconnected_text(reason: str, pause: float) -> str:
    return f"{reason[:1].upper()}{reason[1:]}; trying again in {pause:.1f} s."


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
    """Something of the job, once there is one."""

    def __init__(self, shown: Callable[[Job], Text], column: Column | None = None) -> None:
        super().__init__(column or Column(no_wrap=True))
        self._shown = shown

    def render(self, task: Task) -> Text:
        job = task.fields["job"]
        return self._shown(job) if job else Text()


class _StatusColumn(ProgressColumn):
    """A spinner, and at the end how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner = Spinner("dots")

    def render(self, task: Task) -> Text | Spinner:
        job = task.fields["job"]
        sign = _SYMBOLS.get(job.status) if job else None
        return Text(sign, status_text(job.status).style) if sign else self._spinner


class _ProgressBarColumn(ProgressColumn):
    """A bar where it is known how much there is to do."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = BarColumn(24, complete_style="cyan", finished_style="green")

    def render(self, task: Task) -> RenderableType:
        return self._bar.render(task) if task.total else Text()
