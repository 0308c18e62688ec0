"""What clients were shown and told: nothing older than before, nothing that never was, every event once."""

from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.attribution import FOR_EVER, SLACK
from tests.chaos.context import Facts, Violations, in_words
from tests.chaos.history import Call, Event, Heard, History, Kind, Outcome, Seen, Version, place_of


def reads_never_go_back(facts: Facts) -> Violations:
    """What is shown is never older than what was shown before it was asked for."""
    moments: list[tuple[float, int, Call]] = []
    for call in facts.history.calls:
        if call.seen and call.outcome is Outcome.DONE and not facts.history.may_be_lost(call):
            moments += [(call.ended, 0, call), (call.started, 1, call)]
    known = _Known()
    for _, what, call in sorted(moments, key=lambda moment: moment[:2]):
        if what == 1:
            known.ask(call)
        else:
            for seen, floor in known.answer(call):
                yield f"{in_words(call)} was shown {seen.version} after {floor} was shown"


class _Known:
    """The newest that has been shown of each job; and what was known as a call was sent."""

    def __init__(self) -> None:
        self._newest: dict[str, Version] = {}
        self._floors: dict[tuple[int, str], Version] = {}

    def ask(self, call: Call) -> None:
        """Note what is known as a call is sent."""
        for seen in call.seen:
            if newest := self._newest.get(seen.version.job_id):
                self._floors[id(call), seen.version.job_id] = newest

    def answer(self, call: Call) -> Iterator[tuple[Seen, Version]]:
        """Take in what a call was shown; yield what is older than what was known."""
        for seen in call.seen:
            job_id = seen.version.job_id
            floor = self._floors.get((id(call), job_id))
            if floor is not None and seen.version < floor:
                yield seen, floor
            self._newest[job_id] = max(seen.version, self._newest.get(job_id, seen.version))


def reads_are_true(facts: Facts) -> Violations:
    """What is shown has been so: not before it came about, nor after the job was deleted."""
    for call in facts.history.calls:
        if call.outcome is Outcome.DONE and not facts.history.may_be_lost(call):
            for seen in call.seen:
                yield from _untruth(facts, call, seen)


def _untruth(facts: Facts, call: Call, seen: Seen) -> Violations:
    life, step = facts.lives.get(seen.version[:2]), facts.steps.get(seen.version)
    if life is None or step is None:
        yield f"{in_words(call)} was shown {seen}, which never was"
        return
    if seen.status != step.after or step.change == "deleted":
        yield f"{in_words(call)} was shown {seen}, which was {step.after}"
    if step.since > call.ended + SLACK:
        yield f"{in_words(call)} was shown {seen} before it came about"
    if life.is_deleted and life.events[-1].at + SLACK < call.started:
        yield f"{in_words(call)} was shown {seen}, which had been deleted"


def nothing_vanishes(facts: Facts) -> Violations:
    """A job that was there is not found only where somebody may have deleted it."""
    history = facts.history
    deletions: dict[str, float] = {}
    for call in history.calls:
        if call.kind is Kind.DELETE and (call.outcome is not Outcome.REFUSED or history.is_disturbed(call)):
            deletions[call.job_id] = min(call.started, deletions.get(call.job_id, call.started))
    there = {call.job_id: call.ended for _, call in reversed(facts.acknowledged) if call.kind is Kind.CREATE}
    for call in history.calls:
        is_missed = call.problem == "job-not-found" and there.get(call.job_id, FOR_EVER) < call.started
        if is_missed and call.ended < deletions.get(call.job_id, FOR_EVER) and not history.may_be_lost(call):
            yield f"{in_words(call)} was told that there is no such job"


def streams_tell_all(facts: Facts) -> Violations:
    """A reader of the stream is told every event once and in order, over all its connections."""
    history = facts.history
    parts: list[list[Heard]] = []
    for heard in history.heard:
        if heard.kind in {"hello", "reset"} and (not parts or heard.kind == "reset"):
            if parts and not history.losses:
                yield f"the stream was said to have a hole at {heard.position}"
            parts.append([heard])
        elif heard.kind != "hello":
            parts[-1].append(heard)
    for number, (start, *told) in enumerate(parts):
        places = [place_of(heard.position) for heard in told]
        if places != sorted(set(places)):
            yield f"the stream goes back or says something twice: {_disorder(told)}"
        is_last = number == len(parts) - 1
        yield from _untold(history, place_of(start.position), set(places), is_last)


def _disorder(told: list[Heard]) -> list[Heard]:
    return [one for before, one in pairwise(told) if place_of(one.position) <= place_of(before.position)]


def _untold(history: History, start: tuple[int, int], told: set[tuple[int, int]], is_last: bool) -> Violations:
    until = history.events[-1].place if is_last and history.events else max(told, default=start)
    there = {event.place for event in history.events if start < event.place <= until and not _is_lost(history, event)}
    if missing := there - told:
        yield f"the stream did not tell of {len(missing)} events, the first {min(missing)}"
    # What happens after stock was taken is told as well, such as leases that run out.
    made_up = {place for place in told if place <= until and not _is_place_lost(history, place)} - {
        event.place for event in history.events
    }
    if made_up:
        yield f"the stream told of {len(made_up)} events that are not there, the first {min(made_up)}"


def _is_lost(history: History, event: Event) -> bool:
    return _is_place_lost(history, event.place)


def _is_place_lost(history: History, place: tuple[int, int]) -> bool:
    at = place[0] / 1000
    return any(loss.touches(at, at + 0.001) for loss in history.losses)
