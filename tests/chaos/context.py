"""A history, and what several checks make of it."""

from collections.abc import Iterator

from tests.chaos.attribution import acknowledged
from tests.chaos.history import Call, History, Version
from tests.chaos.job_timelines import Step, lives

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


def story(history: History, job_id: str) -> list[str]:
    """Return all that is known of a job, in lines, in the order in which it was asked for or happened."""
    lines = [(event.at, f"event {event}") for event in history.events if event.version.job_id == job_id]
    for call in history.calls:
        shown = [seen for seen in call.seen if seen.version.job_id == job_id]
        if shown or call.job_id == job_id:
            lost = ", may be lost" if history.may_be_lost(call) else ""
            lines.append((call.started, f"{in_words(call)} {call.content}{lost}: {shown}"))
    lines += [(one.since, str(one)) for one in (*history.faults, *history.losses)]
    return [*(line for _, line in sorted(lines)), f"in the end {history.records.get(job_id)}"]
