"""Bulk actions as lines of text."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from jobstate._bulk_models import BulkAction
from jobstate.cli.connection import Listener
from jobstate.cli.output import format_time, print_line
from jobstate.cli.render.messages import ConnectionMessages

COLUMNS: Final = ("ID", "ACTION", "STATE", "MATCHED", "DONE", "REFUSED", "CREATED", "FILTER")
#: How many jobs the summary names for each reason.
_MAX_NAMED: Final = 3


class View(Listener, Protocol):
    """Shows the progress of a bulk action."""

    def changed(self, action: BulkAction) -> None:
        """Show a change."""


class Messages(ConnectionMessages):
    """Reports lost and recovered connections, and nothing else."""

    def changed(self, action: BulkAction) -> None:
        """Do nothing: the command prints the end."""


def summary(action: BulkAction) -> str:
    """Return how many jobs matched, were done and were refused, and why, such as `2 matched, 2 done, 0 refused`."""
    text = f"{action.matched} matched"
    if not action.dry_run:
        text += f", {action.done} done, {sum(action.refused.values())} refused"
    if action.refused:
        text += f": {', '.join(_reason(action, name, number) for name, number in action.reasons.items())}"
    marks = ["dry run"] if action.dry_run else []
    marks += [] if action.state == "done" else [action.state]
    return f"{', '.join(marks)}: {text}" if marks else text


def _reason(action: BulkAction, name: str, number: int) -> str:
    """Return a reason, how many jobs were refused for it, and some of them: `2 illegal-transition (j1, j2)`."""
    job_ids = [job.job_id for job in action.examples if job.name == name][:_MAX_NAMED]
    if not job_ids:
        return f"{number} {name}"
    return f"{number} {name} ({', '.join([*job_ids, *(['…'] if number > len(job_ids) else [])])})"


def cells(action: BulkAction) -> tuple[str, ...]:
    """Return the text for each of `COLUMNS`."""
    return (
        action.bulk_action_id,
        f"{action.action} (dry run)" if action.dry_run else action.action,
        action.state,
        str(action.matched),
        str(action.done),
        str(sum(action.refused.values())),
        format_time(action.created_at),
        " ".join(_filter(name, value) for name, value in action.filter.items()),
    )


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Write one line for each bulk action, with tab-separated columns, after a header line."""
    print_line(*COLUMNS)
    for row in rows:
        print_line(*row)


def _filter(name: str, value: Any) -> str:
    return " ".join(f"{name}={part}" for part in (value if isinstance(value, list) else [value]))
