"""Checks of bulk actions: each one has reached every job that it matched, once."""

from collections import defaultdict

from tests.chaos.context import CheckContext, Violations
from tests.chaos.history import CORRUPTING


def bulk_actions_end_with_all_their_jobs(context: CheckContext) -> Violations:
    """Each bulk action is done with every job, and refuses one only if data of another program is in our keys."""
    if context.history.losses:
        return
    for action in context.history.bulk_actions:
        refused = sum(action.refused.values())
        if (action.state, action.matched, action.done + refused) != ("done", action.expected, action.expected):
            yield f"{action} did not reach all its jobs"
        if refused and not _is_corrupted(context):
            yield f"{action} has refused jobs"


def bulk_actions_change_each_job_once(context: CheckContext) -> Violations:
    """The changes of jobs that only bulk actions change are those of the actions, each once."""
    history = context.history
    if history.losses:
        return
    codes: dict[str, str] = defaultdict(str)
    for (job_id, _), timeline in context.timelines.items():
        codes[job_id] += "".join(transition.code for transition in timeline.transitions[1:])
    for job_id, expected in history.bulk_jobs.items():
        if codes[job_id] != expected and not (_is_corrupted(context) and _is_part(codes[job_id], expected)):
            yield f"{job_id} was changed by bulk actions as {codes[job_id]!r}, not as {expected!r}"


def _is_corrupted(context: CheckContext) -> bool:
    return any(fault.name in CORRUPTING for fault in context.history.faults)


def _is_part(codes: str, expected: str) -> bool:
    """Return whether codes are some of the expected ones, in their order."""
    rest = iter(expected)
    return all(code in rest for code in codes)
