"""The checker of the fault tests finds every kind of violation, and none where there is none."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import CHECKS, check
from tests.chaos.history import FORGED, Call, Event, Heard, History, Kind, Record, Seen, Version, Window

#: Seconds since 1970 at which a history begins; what happens in it is so many milliseconds later.
START = 1_800_000_000.0
CREATED = 1_800_000_000_000_000
RESULT = '{"by":"w"}'

Spoil = Callable[[History], None]


def version(revision: int, job_id: str = "j", created: int = CREATED) -> Version:
    return Version(job_id, created, revision)


def seen(revision: int, status: str, attempt: int = 0, content: str = "", job_id: str = "j") -> tuple[Seen]:
    return (Seen(version(revision, job_id), status, attempt, content),)


def call(kind: Kind, at: float, *shown: Seen, status: int | None = 200, took: float = 5, **more: Any) -> Call:
    """Return a call that was sent so many ms after the start, and answered `took` ms later."""
    started = START + at / 1000
    return Call(
        kind,
        started,
        started + took / 1000,
        **{"job_id": "j", "status": status, "seen": shown, "is_keyed": False, **more},
    )


def event(at: int, revision: int, status: str, kind: str = "changed", job_id: str = "j", number: int = 0) -> Event:
    return Event(f"{int(START * 1000) + at}-{number}", kind, version(revision, job_id), status, "a")


def heard(events: Sequence[Event]) -> list[Heard]:
    return [Heard("hello", f"{int(START * 1000) - 1}-0"), *(Heard(one.kind, one.position) for one in events)]


def sound() -> History:
    """One job that was created, claimed, given progress, asked to stop, and completed; another that was deleted."""
    events = [
        event(1, 1, "pending"),
        event(11, 2, "running"),
        event(31, 4, "running"),
        event(41, 5, "completed"),
        event(51, 1, "pending", job_id="k"),
        event(61, 2, "cancelled", job_id="k"),
        event(71, 3, "cancelled", "deleted", job_id="k"),
    ]
    calls = [
        call(Kind.CREATE, 0, *seen(1, "pending"), status=201),
        call(Kind.CLAIM, 10, *seen(2, "running", 1), job_id="", token="1-t"),
        call(Kind.BEAT, 20),
        call(Kind.CANCEL, 30, *seen(4, "running", 1), status=202),
        call(Kind.END, 40, *seen(5, "completed", 1, RESULT), target="completed", content=RESULT),
        call(Kind.READ, 48, *seen(5, "completed", 1, RESULT)),
        call(Kind.CREATE, 50, *seen(1, "pending", job_id="k"), status=201, job_id="k"),
        call(Kind.CANCEL, 60, *seen(2, "cancelled", job_id="k"), job_id="k"),
        call(Kind.DELETE, 70, status=204, job_id="k"),
        call(Kind.READ, 80, status=404, problem="job-not-found", job_id="k"),
    ]
    record = Record(version(5), "completed", 1, RESULT, ((2, "r"), (4, "q"), (5, "c")))
    return History(
        calls=calls,
        events=events,
        records={"j": record},
        heard=heard(events),
        counts={"pending": 0, "completed": 1},
        listed=["j"],
    )


def add(*calls: Call) -> Spoil:
    return lambda history: history.calls.extend(calls)


def without_event(number: int) -> Spoil:
    def lose(history: History) -> None:
        history.events = [one for at, one in enumerate(history.events) if at != number]
        history.heard = heard(history.events)

    return lose


def with_event(number: int, new: Event) -> Spoil:
    def put(history: History) -> None:
        history.events = [*history.events[:number], new, *history.events[number:]]
        history.heard = heard(history.events)

    return put


def together(*steps: Spoil) -> Spoil:
    def spoil(history: History) -> None:
        for step in steps:
            step(history)

    return spoil


def told(change: Callable[[list[Heard]], list[Heard]]) -> Spoil:
    def spoil(history: History) -> None:
        history.heard = change(history.heard)

    return spoil


def with_record(**fields: Any) -> Spoil:
    return lambda history: history.records.update(j=history.records["j"]._replace(**fields))


def with_call(number: int, **fields: Any) -> Spoil:
    def put(history: History) -> None:
        history.calls[number] = replace(history.calls[number], **fields)

    return put


#: What is wrong, the check that must find it, and how to spoil a sound history so.
SPOILED: list[tuple[str, str, Spoil]] = [
    ("a job begins in its middle", "lawful_lives", without_event(0)),
    ("a revision comes twice", "lawful_lives", with_event(2, event(12, 2, "running"))),
    ("revisions go back", "lawful_lives", with_event(4, event(45, 3, "completed"))),
    ("a move that the table has not", "lawful_lives", with_event(4, event(45, 6, "running"))),
    ("a change goes without an event", "lawful_lives", with_event(7, event(75, 9, "cancelled", "deleted", "k"))),
    ("a job that has not ended is deleted", "lawful_lives", with_event(1, event(5, 2, "pending", "deleted"))),
    ("a deleted job goes on", "lawful_lives", with_event(7, event(75, 4, "cancelled", job_id="k"))),
    ("a record without an event", "records_agree", lambda h: h.records.update(x=Record(version(1, "x"), "pending", 0))),
    ("a job has gone without a word", "records_agree", lambda h: h.records.clear()),
    ("a deleted job is there", "records_agree", lambda h: h.records.update(k=Record(version(3, "k"), "cancelled", 0))),
    ("a record behind its events", "records_agree", with_record(version=version(4))),
    ("a record of another status", "records_agree", with_record(status="failed")),
    ("an attempt too many", "records_agree", with_record(attempt=2)),
    ("a history that leaves something out", "records_agree", with_record(changes=((4, "q"), (5, "c")))),
    ("a lost change", "acknowledged_is_there", add(call(Kind.START, 90, *seen(9, "running")))),
    (
        "a lost creation",
        "acknowledged_is_there",
        add(call(Kind.CREATE, 90, *seen(1, "pending", job_id="x"), job_id="x")),
    ),
    ("a change that became another", "acknowledged_is_there", add(call(Kind.START, 8, *seen(5, "completed")))),
    ("another status was acknowledged", "acknowledged_is_there", with_call(3, seen=seen(4, "cancelled"))),
    ("another result was acknowledged", "acknowledged_is_there", with_call(4, seen=seen(5, "completed", 1, "{}"))),
    ("a result was overwritten", "contents_survive", with_record(content='{"by":"another"}')),
    ("another result is shown", "contents_survive", with_call(5, seen=seen(5, "completed", 1, "{}"))),
    (
        "two requests made one revision",
        "one_change_a_revision",
        add(call(Kind.END, 40, *seen(5, "completed", 1, RESULT), target="completed", content=RESULT)),
    ),
    ("a refused change left a trace", "every_revision_has_a_cause", with_call(2, status=409, problem="lease-lost")),
    ("a refused deletion was done", "every_revision_has_a_cause", with_call(8, status=409, problem="job-not-final")),
    ("an unsent change was done", "every_revision_has_a_cause", with_call(8, status=None, is_unsent=True)),
    ("progress was acknowledged in vain", "every_revision_has_a_cause", add(call(Kind.BEAT, 22))),
    (
        "a change was done after it was given up",
        "every_revision_has_a_cause",
        with_call(8, status=503, problem="store-timeout", started=START - 9, ended=START - 6),
    ),
    (
        "a change was done before it was asked for",
        "every_revision_has_a_cause",
        with_call(8, started=START + 5, ended=START + 6),
    ),
    (
        "a request that was sent again was done twice",
        "every_revision_has_a_cause",
        together(
            with_event(2, event(12, 3, "running")),
            with_call(2, kind=Kind.PROGRESS, group="k", status=None),
            with_record(version=version(6), changes=((2, "r"), (5, "q"), (6, "c"))),
        ),
    ),
    ("a job was taken from its worker", "every_revision_has_a_cause", with_event(4, event(45, 5, "pending"))),
    (
        "a job was given out twice",
        "claims_are_single",
        add(call(Kind.CLAIM, 10, *seen(2, "running", 1), job_id="", token="1-another")),
    ),
    (
        "a token was given out twice",
        "claims_are_single",
        together(
            with_event(7, event(81, 1, "pending", job_id="m")),
            with_event(8, event(82, 2, "running", job_id="m")),
            add(call(Kind.CLAIM, 80, *seen(2, "running", 1, job_id="m"), job_id="", token="1-t")),
        ),
    ),
    ("a read went back", "reads_never_go_back", add(call(Kind.READ, 90, *seen(2, "running", 1)))),
    ("a read was shown what never was", "reads_are_true", add(call(Kind.READ, 90, *seen(9, "failed")))),
    ("a read was shown another status", "reads_are_true", with_call(5, seen=seen(5, "failed", 1, RESULT))),
    ("a read was shown the future", "reads_are_true", with_call(5, started=START - 9, ended=START - 8)),
    (
        "a read was shown what was deleted",
        "reads_are_true",
        add(call(Kind.READ, 900, *seen(2, "cancelled", job_id="k"))),
    ),
    ("a job was not found", "nothing_vanishes", add(call(Kind.READ, 45, status=404, problem="job-not-found"))),
    ("a lease that is nobody's was heeded", "conditions_are_heeded", with_call(4, lease=FORGED)),
    ("a version that no job has was heeded", "conditions_are_heeded", with_call(4, if_match=FORGED)),
    ("a lease that was lost was heeded", "conditions_are_heeded", with_call(4, lease="2-t")),
    ("a refusal is no problem", "answers_are_sound", with_call(9, is_sound=False)),
    ("a mistake of the service", "answers_are_sound", add(call(Kind.READ, 90, status=500, problem="internal-error"))),
    (
        "a sound key was called foreign",
        "answers_are_sound",
        add(call(Kind.READ, 90, status=500, problem="store-corrupt")),
    ),
    ("no answer", "answers_are_sound", add(call(Kind.READ, 90, status=None))),
    ("an answer that took long", "answers_are_sound", add(call(Kind.READ, 90, took=21_000))),
    ("the stream left something out", "streams_tell_all", told(lambda heard: heard[:3] + heard[4:])),
    ("the stream left out the last", "streams_tell_all", told(lambda heard: heard[:-1])),
    ("the stream said something twice", "streams_tell_all", told(lambda heard: [*heard[:3], heard[2], *heard[3:]])),
    ("the stream went back", "streams_tell_all", told(lambda heard: [heard[0], *reversed(heard[1:])])),
    (
        "the stream made something up",
        "streams_tell_all",
        lambda h: h.heard.insert(5, Heard("changed", f"{CREATED // 1000 + 45}-0")),
    ),
    ("the stream had a hole", "streams_tell_all", lambda h: h.heard.append(Heard("reset", h.heard[-1].position))),
    ("another count than walked", "counts_are_exact", lambda h: h.counts.update(pending=1)),
    ("a job was not listed", "counts_are_exact", lambda h: h.listed.clear()),
    ("a job was listed twice", "counts_are_exact", lambda h: h.listed.append("j")),
    ("an index that does not fit", "counts_are_exact", lambda h: h.drift.append("an entry has no job")),
]


def test_nothing_is_found_in_a_sound_history() -> None:
    assert check(sound()) == []


@pytest.mark.parametrize(("name", "spoil"), [one[1:] for one in SPOILED], ids=[one[0] for one in SPOILED])
def test_a_violation_is_found(name: str, spoil: Spoil) -> None:
    history = sound()
    spoil(history)

    assert name in {found.partition(":")[0] for found in check(history)}


def test_every_check_has_a_history_that_it_refuses() -> None:
    assert {name for _, name, _ in SPOILED} == {look.__name__ for look in CHECKS}


def test_what_was_complained_of_meanwhile_is_told() -> None:
    history = sound()
    history.complaints.append("it does not recover")

    assert check(history) == ["it does not recover"]


def fault(name: str = "lost-replies") -> Window:
    return Window(name, START, START + 0.1)


#: What is no violation, and how to turn a sound history into it.
ALLOWED: list[tuple[str, Spoil]] = [
    ("a change of unknown outcome was done", with_call(8, status=503, problem="store-timeout")),
    ("a change without an answer was done", together(lambda h: h.faults.append(fault()), with_call(8, status=None))),
    ("a change of unknown outcome was not done", add(call(Kind.DELETE, 90, status=503, problem="store-timeout"))),
    (
        "a change was done at its first try and refused at the second for what came between",
        together(
            lambda h: h.faults.append(fault()),
            with_call(3, status=409, problem="illegal-transition", ended=START + 0.05),
        ),
    ),
    (
        "a claim is told again after its job was asked to stop",
        with_call(1, seen=seen(4, "running", 1), ended=START + 0.035),
    ),
    (
        "a cancel that was done is told at its second try how the job is by then",
        with_call(3, seen=seen(5, "completed", 1, RESULT), ended=START + 0.045),
    ),
    (
        "a cancel that was done is told at its second try that the holder's release has cancelled the job",
        together(
            without_event(3),
            with_event(3, event(41, 5, "cancelled")),
            with_call(3, seen=seen(5, "cancelled", 1), ended=START + 0.045),
            with_call(4, kind=Kind.RELEASE, seen=seen(5, "cancelled", 1), target="", content=""),
            with_call(5, seen=seen(5, "cancelled", 1)),
            with_record(status="cancelled", content="", changes=((2, "r"), (4, "q"), (5, "x"))),
            lambda h: h.counts.update(completed=0, cancelled=1),
        ),
    ),
    (
        "Redis has forgotten what it may",
        together(
            lambda h: h.losses.append(Window("loss", START + 0.089, START + 0.2)),
            add(call(Kind.CREATE, 90, *seen(1, "pending", job_id="x"), job_id="x")),
            add(call(Kind.READ, 900, status=404, problem="job-not-found", job_id="x")),
            add(call(Kind.READ, 91, *seen(5, "completed", 1, '{"by":"what is forgotten"}'))),
            add(call(Kind.READ, 92, *seen(9, "running", 3), took=200)),  # told late
            add(call(Kind.READ, 300, *seen(5, "completed", 1, RESULT))),
            lambda h: h.heard.append(Heard("changed", f"{CREATED // 1000 + 91}-0")),
            lambda h: h.heard.append(Heard("reset", h.events[-1].position)),
        ),
    ),
    (
        "the stream tells of what happened after stock was taken",
        lambda h: h.heard.append(Heard("changed", f"{CREATED // 1000 + 99}-0")),
    ),
    (
        "no answer of a service that was killed",
        together(lambda h: h.faults.append(fault()), add(call(Kind.READ, 90, status=None))),
    ),
    (
        "a foreign key is called so",
        together(
            lambda h: h.faults.append(fault("wrong-type")),
            add(call(Kind.READ, 90, status=500, problem="store-corrupt")),
        ),
    ),
    (
        "the reaper took a job whose lease had run out",
        together(
            lambda h: h.run_out.update(j=START + 1),
            with_event(3, event(35, 5, "pending")),
            with_event(4, event(36, 6, "running")),
            with_call(4, kind=Kind.CLAIM, seen=seen(6, "running", 2), job_id="", token="2-u", content=""),
            with_call(5, kind=Kind.END, seen=seen(7, "completed", 2, RESULT), target="completed", content=RESULT),
            with_event(5, event(41, 7, "completed")),
            without_event(6),
            with_record(version=version(7), attempt=2, changes=((2, "r"), (4, "q"), (5, "p"), (6, "r"), (7, "c"))),
        ),
    ),
    (
        "a claim whose client had left is undone",
        together(
            with_event(7, event(81, 1, "pending", job_id="m")),
            with_event(8, event(82, 2, "running", job_id="m")),
            with_event(9, event(83, 3, "pending", job_id="m")),
            lambda h: h.faults.append(fault()),
            add(call(Kind.CREATE, 80, *seen(1, "pending", job_id="m"), job_id="m")),
            add(call(Kind.CLAIM, 81, job_id="", status=None)),
            lambda h: h.records.update(m=Record(version(3, "m"), "pending", 1, "", ((2, "r"), (3, "p")))),
            lambda h: h.counts.update(pending=1),
            lambda h: h.listed.append("m"),
        ),
    ),
]


@pytest.mark.parametrize("turn", [one[1] for one in ALLOWED], ids=[one[0] for one in ALLOWED])
def test_what_is_allowed_is_no_violation(turn: Spoil) -> None:
    history = sound()
    turn(history)

    assert check(history) == []
