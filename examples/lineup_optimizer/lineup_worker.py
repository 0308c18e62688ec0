"""The job function: validate the input, solve in steps, report progress, and stop on cancellation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lineup_slate import InvalidInput

from jobstate import Job, JobContext, PermanentFailure


class Run(Protocol):
    """A computation in steps."""

    total: int
    done: int

    def advance(self) -> None:
        """Run the next step."""

    def result(self) -> dict[str, object]:
        """Return the result of the steps so far."""


def optimize(context: JobContext, start: Callable[[Job], Run]) -> dict[str, object] | None:
    """Return the result, or `None` after a cancellation request. Raises `PermanentFailure` for invalid input."""
    try:
        run = start(context.job)
    except InvalidInput as error:
        raise PermanentFailure({"type": "invalid-input", "message": str(error), "field": error.field}) from error
    while run.done < run.total:
        if context.cancel_requested:
            return None
        run.advance()
        context.progress(run.done, run.total, f"{run.done:,} of {run.total:,} scenarios")
    return run.result()
