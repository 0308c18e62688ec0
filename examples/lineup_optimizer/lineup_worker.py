"""The job function: validate the input, solve in steps, report progress, and stop on cancellation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lineup_slate import InvalidInput

from jobstate_worker import JobFailed, Work


class Run(Protocol):
    """A computation in steps."""

    total: int
    done: int

    def advance(self) -> None:
        """Run the next step."""

    def result(self) -> dict[str, object]:
        """Return the result of the steps so far."""


def optimize(work: Work, start: Callable[[Mapping[str, Any]], Run]) -> dict[str, object] | None:
    """Return the result, or `None` after a cancellation request. Raises `JobFailed` for invalid input."""
    try:
        run = start(work.job)
    except InvalidInput as error:
        raise JobFailed({"type": "invalid-input", "message": str(error), "field": error.field}) from error
    while run.done < run.total:
        if work.cancel_requested:
            return None
        run.advance()
        work.progress(run.done, run.total, f"{run.done:,} of {run.total:,} scenarios")
    return run.result()
