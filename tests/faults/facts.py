"""A history, and what several checks make of it."""

from collections.abc import Iterator

from tests.faults.causes import acknowledged
from tests.faults.history import Call, History, Version
from tests.faults.lives import Step, lives

Violations = Iterator[str]


class Facts:
    """A history, and what several checks make of it."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.lives = lives(history)
        self.steps: dict[Version, Step] = {step.version: step for life in self.lives.values() for step in life.steps}
        self.acknowledged = list(acknowledged(history, self.steps.values()))


def in_words(call: Call) -> str:
    """Return a call in words."""
    name = f"{call.kind} {call.job_id}" + (f" ({call.group})" if call.group else "")
    return f"{name} at {call.started:.3f} to {call.ended:.3f}, answered {call.status} {call.problem}"
