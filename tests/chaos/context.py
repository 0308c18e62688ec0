"""A history with the results that several checks share."""

from collections.abc import Iterator

from tests.chaos.attribution import acknowledged_versions
from tests.chaos.history import Call, History, Version
from tests.chaos.job_timelines import Transition, build_timelines

Violations = Iterator[str]


class CheckContext:
    """A history with its timelines, transitions and acknowledged calls."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.timelines = build_timelines(history)
        self.transitions: dict[Version, Transition] = {
            transition.version: transition
            for timeline in self.timelines.values()
            for transition in timeline.transitions
        }
        self.acknowledged = list(acknowledged_versions(history, self.transitions.values()))


def describe_call(call: Call) -> str:
    """Return a description of a call for a violation."""
    name = f"{call.kind} {call.job_id}" + (f" ({call.group})" if call.group else "")
    return f"{name} at {call.started:.3f} to {call.ended:.3f}, status {call.status} {call.problem}"


def describe_job(history: History, job_id: str) -> list[str]:
    """Return everything recorded about a job, one line each, in order of time."""
    lines = [(event.at, f"event {event}") for event in history.events if event.version.job_id == job_id]
    for call in history.calls:
        observed = [observation for observation in call.observations if observation.version.job_id == job_id]
        if observed or call.job_id == job_id:
            lost = ", may be lost" if history.may_be_lost(call) else ""
            lines.append((call.started, f"{describe_call(call)} {call.content}{lost}: {observed}"))
    lines += [(window.since, str(window)) for window in (*history.faults, *history.losses)]
    return [*(line for _, line in sorted(lines)), f"final record {history.records.get(job_id)}"]
