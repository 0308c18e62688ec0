"""What the worker does with one job: check it, work on it step by step, report, and stop when it is to be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lineup_slate import InvalidInput

from jobstate_worker import JobFailed, Work


class Run(Protocol):
    """Work that is done step by step."""

    total: int
    done: int

    def advance(self) -> None:
        """Do the next step."""

    def result(self) -> dict[str, object]:
        """Give the result of the steps done."""


def optimize(work: Work, start: Callable[[Mapping[str, Any]], Run]) -> dict[str, object] | None:
    """Return the job's result, or `None` once it is to be cancelled; raise `JobFailed` for inputs that are wrong."""
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
