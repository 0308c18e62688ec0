"""The checker of the chaos tests finds every kind of violation, and none in a valid history."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import CHECKS, check
from tests.chaos.history import (
    FORGED,
    BulkAction,
    Call,
    Event,
    History,
    Kind,
    Observation,
    Record,
    StreamMessage,
    Version,
    Window,
)

#: Unix time at which a history begins; `at` is in milliseconds after it.
START = 1_800_000_000.0
CREATED = 1_800_000_000_000_000
RESULT = '{"by":"w"}'

Modification = Callable[[History], None]


def version(revision: int, job_id: str = "j", created: int = CREATED) -> Version:
    return Version(job_id, created, revision)


def observed(revision: int, status: str, attempt: int = 0, content: str = "", job_id: str = "j") -> tuple[Observation]:
    return (Observation(version(revision, job_id), status, attempt, content),)


def changed_at(revision: int, status: str, updated_at: str, latest: str) -> tuple[Observation, ...]:
    """Return what a read shows of a job, and of an earlier revision that was changed at 2."""
    [seen], [earlier] = observed(revision, status, 1), observed(2, "running", 1)
    return (earlier._replace(updated_at="2"), seen._replace(updated_at=updated_at, latest=latest))


def call(
    kind: Kind, at: float, *observations: Observation, status: int | None = 200, took: float = 5, **more: Any
) -> Call:
    """Return a call that was sent `at` ms after the start and answered `took` ms later."""
    started = START + at / 1000
    return Call(
        kind,
        started,
        started + took / 1000,
        **{"job_id": "j", "status": status, "observations": observations, "has_key": False, **more},
    )


def event(at: int, revision: int, status: str, kind: str = "changed", job_id: str = "j", number: int = 0) -> Event:
    return Event(f"{int(START * 1000) + at}-{number}", kind, version(revision, job_id), status, "a")


def messages_of(events: Sequence[Event]) -> list[StreamMessage]:
    return [
        StreamMessage("hello", f"{int(START * 1000) - 1}-0"),
        *(StreamMessage(one.kind, one.position) for one in events),
    ]


def valid_history() -> History:
    """One job was created, claimed, got progress and a cancellation request, and completed. Another was deleted."""
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
        call(Kind.CREATE, 0, *observed(1, "pending"), status=201),
        call(Kind.CLAIM, 10, *observed(2, "running", 1), job_id="", granted_token="1-t"),
        call(Kind.HEARTBEAT, 20),
        call(Kind.CANCEL, 30, *observed(4, "running", 1), status=202),
        call(Kind.FINISH, 40, *observed(5, "completed", 1, RESULT), target_status="completed", content=RESULT),
        call(Kind.READ, 48, *observed(5, "completed", 1, RESULT)),
        call(Kind.CREATE, 50, *observed(1, "pending", job_id="k"), status=201, job_id="k"),
        call(Kind.CANCEL, 60, *observed(2, "cancelled", job_id="k"), job_id="k"),
        call(Kind.DELETE, 70, status=204, job_id="k"),
        call(Kind.READ, 80, status=404, problem="job-not-found", job_id="k"),
    ]
    record = Record(version(5), "completed", 1, RESULT, ((2, "r"), (4, "q"), (5, "c")))
    return History(
        calls=calls,
        events=events,
        records={"j": record},
        stream_messages=messages_of(events),
        counts={"pending": 0, "completed": 1},
        listed_ids=["j"],
    )


def add(*calls: Call) -> Modification:
    return lambda history: history.calls.extend(calls)


def without_event(number: int) -> Modification:
    def modify(history: History) -> None:
        history.events = [one for at, one in enumerate(history.events) if at != number]
        history.stream_messages = messages_of(history.events)

    return modify


def with_event(number: int, new: Event) -> Modification:
    def modify(history: History) -> None:
        history.events = [*history.events[:number], new, *history.events[number:]]
        history.stream_messages = messages_of(history.events)

    return modify


def failover(history: History) -> None:
    """A failover after all events of the valid history."""
    history.failovers.append(Window("failover", START + 0.089, START + 0.2))


def times_out(job_id: str, at: int, *, after_start: bool, to: str = "failed") -> Modification:
    """Add a job that was created at 80 ms, perhaps claimed at 82, and changed to `to` at `at` without a call."""

    def modify(history: History) -> None:
        revision = 3 if after_start else 2
        history.calls.append(call(Kind.CREATE, 80, *observed(1, "pending", job_id=job_id), job_id=job_id))
        events = [event(81, 1, "pending", job_id=job_id)]
        if after_start:
            claimed = observed(2, "running", 1, job_id=job_id)
            history.calls.append(call(Kind.CLAIM, 82, *claimed, job_id="", granted_token="1-m"))
            events.append(event(83, 2, "running", job_id=job_id))
        history.events = [*history.events, *events, event(at, revision, to, job_id=job_id)]
        changes = ((2, "r"), (3, to[0])) if after_start else ((2, to[0]),)
        history.records[job_id] = Record(version(revision, job_id), to, int(after_start), "", changes)
        history.counts[to] = history.counts.get(to, 0) + 1
        history.listed_ids.append(job_id)
        history.stream_messages = messages_of(history.events)

    return modify


def is_claimed_by_a_claim_that_ended_early(history: History) -> None:
    """Add a job whose claim was not acknowledged: the claim gave jobs of another partition."""
    events = [event(81, 1, "pending", job_id="m"), event(83, 2, "running", job_id="m")]
    history.events = [*history.events, *events]
    history.calls += [
        call(Kind.CREATE, 80, *observed(1, "pending", job_id="m"), job_id="m"),
        call(Kind.CLAIM, 82, job_id="", status=204, is_partial=True),
    ]
    history.records["m"] = Record(version(2, "m"), "running", 1, "", ((2, "r"),))
    history.counts["running"] = 1
    history.listed_ids.append("m")
    history.stream_messages = messages_of(history.events)


def combine(*steps: Modification) -> Modification:
    def modify(history: History) -> None:
        for step in steps:
            step(history)

    return modify


def with_messages(change: Callable[[list[StreamMessage]], list[StreamMessage]]) -> Modification:
    def modify(history: History) -> None:
        history.stream_messages = change(history.stream_messages)

    return modify


def bulk(expected: str = "xtxd", **fields: Any) -> Modification:
    """Add a job that bulk actions cancelled, retried, cancelled and deleted; the last action has `fields`."""

    def modify(history: History) -> None:
        history.events = [
            *history.events,
            event(101, 1, "pending", job_id="b"),
            event(102, 2, "cancelled", job_id="b"),
            event(103, 3, "pending", job_id="b"),
            event(104, 4, "cancelled", job_id="b"),
            event(105, 5, "cancelled", "deleted", job_id="b"),
        ]
        history.stream_messages = messages_of(history.events)
        history.bulk_jobs = {"b": expected}
        actions = [BulkAction(name, "done", 1, 1, 1, {}) for name in ("cancel", "retry", "cancel", "delete")]
        history.bulk_actions = [*actions[:-1], actions[-1]._replace(**fields)]

    return modify


def with_record(**fields: Any) -> Modification:
    return lambda history: history.records.update(j=history.records["j"]._replace(**fields))


def with_call(number: int, **fields: Any) -> Modification:
    def modify(history: History) -> None:
        history.calls[number] = replace(history.calls[number], **fields)

    return modify


#: The violation, the check that must find it, and the change to a valid history that causes it.
VIOLATIONS: list[tuple[str, str, Modification]] = [
    ("a job without its first event", "timelines_are_legal", without_event(0)),
    ("a duplicate revision", "timelines_are_legal", with_event(2, event(12, 2, "running"))),
    ("a revision after a later one", "timelines_are_legal", with_event(4, event(45, 3, "completed"))),
    ("an illegal transition", "timelines_are_legal", with_event(4, event(45, 6, "running"))),
    ("a change without an event", "timelines_are_legal", with_event(7, event(75, 9, "cancelled", "deleted", "k"))),
    ("an active job is deleted", "timelines_are_legal", with_event(1, event(5, 2, "pending", "deleted"))),
    ("a deleted job changes", "timelines_are_legal", with_event(7, event(75, 4, "cancelled", job_id="k"))),
    (
        "a record without an event",
        "records_match_events",
        lambda h: h.records.update(x=Record(version(1, "x"), "pending", 0)),
    ),
    ("a job disappears without an event", "records_match_events", lambda h: h.records.clear()),
    (
        "a deleted job has a record",
        "records_match_events",
        lambda h: h.records.update(k=Record(version(3, "k"), "cancelled", 0)),
    ),
    ("a record behind its events", "records_match_events", with_record(version=version(4))),
    ("a record with another status", "records_match_events", with_record(status="failed")),
    ("a wrong number of attempts", "records_match_events", with_record(attempt=2)),
    ("an incomplete job history", "records_match_events", with_record(changes=((4, "q"), (5, "c")))),
    ("a lost change", "acknowledged_changes_exist", add(call(Kind.START, 90, *observed(9, "running")))),
    (
        "an acknowledged change lost in a failover",
        "acknowledged_changes_exist",
        combine(failover, add(call(Kind.START, 90, *observed(9, "running")))),
    ),
    (
        "a read before a failover shows a state that never existed",
        "reads_are_valid",
        combine(failover, add(call(Kind.READ, 80, *observed(9, "running", 3)))),
    ),
    (
        "a read in a failover shows an older state",
        "reads_are_monotonic",
        combine(failover, add(call(Kind.READ, 90, *observed(4, "running", 1)))),
    ),
    (
        "an event is left out in a failover",
        "streams_are_complete",
        combine(
            with_event(7, event(91, 1, "pending", job_id="l")),
            with_event(8, event(92, 1, "pending", job_id="m")),
            failover,
            lambda h: h.stream_messages.remove(h.stream_messages[-2]),
        ),
    ),
    (
        "a lost creation",
        "acknowledged_changes_exist",
        add(call(Kind.CREATE, 90, *observed(1, "pending", job_id="x"), job_id="x")),
    ),
    (
        "another change than acknowledged",
        "acknowledged_changes_exist",
        add(call(Kind.START, 8, *observed(5, "completed"))),
    ),
    (
        "another status than acknowledged",
        "acknowledged_changes_exist",
        with_call(3, observations=observed(4, "cancelled")),
    ),
    (
        "another result than acknowledged",
        "acknowledged_changes_exist",
        with_call(4, observations=observed(5, "completed", 1, "{}")),
    ),
    ("a result was overwritten", "results_survive", with_record(content='{"by":"another"}')),
    ("a read of another result", "results_survive", with_call(5, observations=observed(5, "completed", 1, "{}"))),
    (
        "one revision for two requests",
        "one_request_per_revision",
        add(call(Kind.FINISH, 40, *observed(5, "completed", 1, RESULT), target_status="completed", content=RESULT)),
    ),
    ("a rejected change took effect", "every_revision_has_a_cause", with_call(2, status=409, problem="lease-lost")),
    (
        "a rejected deletion took effect",
        "every_revision_has_a_cause",
        with_call(8, status=409, problem="job-not-final"),
    ),
    ("an unsent change took effect", "every_revision_has_a_cause", with_call(8, status=None, is_unsent=True)),
    (
        "a claim has claimed one job more without a fault",
        "every_revision_has_a_cause",
        is_claimed_by_a_claim_that_ended_early,
    ),
    ("a run time-out came too early", "every_revision_has_a_cause", times_out("r3c0-j5", 700, after_start=True)),
    ("a start time-out came too early", "every_revision_has_a_cause", times_out("r3c0-j0", 700, after_start=False)),
    (
        "a time-out completed a job",
        "every_revision_has_a_cause",
        times_out("r3c0-j5", 1083, after_start=True, to="completed"),
    ),
    ("a job without time-outs timed out", "every_revision_has_a_cause", times_out("r3c0-j1", 1083, after_start=True)),
    ("acknowledged progress without a revision", "every_revision_has_a_cause", add(call(Kind.HEARTBEAT, 22))),
    (
        "a change took effect after its timeout",
        "every_revision_has_a_cause",
        with_call(8, status=503, problem="store-timeout", started=START - 9, ended=START - 6),
    ),
    (
        "a change took effect before its request",
        "every_revision_has_a_cause",
        with_call(8, started=START + 5, ended=START + 6),
    ),
    (
        "a repeated request took effect twice",
        "every_revision_has_a_cause",
        combine(
            with_event(2, event(12, 3, "running")),
            with_call(2, kind=Kind.PROGRESS, group="k", status=None),
            with_record(version=version(6), changes=((2, "r"), (5, "q"), (6, "c"))),
        ),
    ),
    (
        "a job was requeued although its lease had not expired",
        "every_revision_has_a_cause",
        with_event(4, event(45, 5, "pending")),
    ),
    (
        "a job was claimed twice",
        "claims_are_exclusive",
        add(call(Kind.CLAIM, 10, *observed(2, "running", 1), job_id="", granted_token="1-another")),
    ),
    (
        "a token was granted twice",
        "claims_are_exclusive",
        combine(
            with_event(7, event(81, 1, "pending", job_id="m")),
            with_event(8, event(82, 2, "running", job_id="m")),
            add(call(Kind.CLAIM, 80, *observed(2, "running", 1, job_id="m"), job_id="", granted_token="1-t")),
        ),
    ),
    ("a read of an older version", "reads_are_monotonic", add(call(Kind.READ, 90, *observed(2, "running", 1)))),
    ("a read of a version that never existed", "reads_are_valid", add(call(Kind.READ, 90, *observed(9, "failed")))),
    ("a read of another status", "reads_are_valid", with_call(5, observations=observed(5, "failed", 1, RESULT))),
    ("a read of a later version", "reads_are_valid", with_call(5, started=START - 9, ended=START - 8)),
    (
        "a read of a deleted job",
        "reads_are_valid",
        add(call(Kind.READ, 900, *observed(2, "cancelled", job_id="k"))),
    ),
    (
        "an existing job was not found",
        "jobs_do_not_vanish",
        add(call(Kind.READ, 45, status=404, problem="job-not-found")),
    ),
    ("a change before another", "times_are_in_order", with_call(5, observations=changed_at(4, "running", "1", "0"))),
    ("a time after a change", "times_are_in_order", with_call(5, observations=changed_at(5, "completed", "2", "3"))),
    ("a forged token was accepted", "preconditions_hold", with_call(4, sent_token=FORGED)),
    ("a forged version was accepted", "preconditions_hold", with_call(4, if_match=FORGED)),
    ("a lost lease was accepted", "preconditions_hold", with_call(4, sent_token="2-t")),
    ("a malformed error response", "responses_are_well_formed", with_call(9, is_well_formed=False)),
    (
        "an internal error",
        "responses_are_well_formed",
        add(call(Kind.READ, 90, status=500, problem="internal-error")),
    ),
    (
        "store-corrupt without a fault",
        "responses_are_well_formed",
        add(call(Kind.READ, 90, status=500, problem="store-corrupt")),
    ),
    ("no response", "responses_are_well_formed", add(call(Kind.READ, 90, status=None))),
    ("a late response", "responses_are_well_formed", add(call(Kind.READ, 90, took=21_000))),
    ("the stream left an event out", "streams_are_complete", with_messages(lambda got: got[:3] + got[4:])),
    ("the stream left the last event out", "streams_are_complete", with_messages(lambda got: got[:-1])),
    (
        "the stream repeated an event",
        "streams_are_complete",
        with_messages(lambda got: [*got[:3], got[2], *got[3:]]),
    ),
    (
        "the stream reversed the events",
        "streams_are_complete",
        with_messages(lambda got: [got[0], *reversed(got[1:])]),
    ),
    (
        "the stream sent an unknown event",
        "streams_are_complete",
        lambda h: h.stream_messages.insert(5, StreamMessage("changed", f"{CREATED // 1000 + 45}-0")),
    ),
    (
        "the stream sent reset without a loss",
        "streams_are_complete",
        lambda h: h.stream_messages.append(StreamMessage("reset", h.stream_messages[-1].position)),
    ),
    ("a bulk action did not end", "bulk_actions_end_with_all_their_jobs", bulk(state="running")),
    ("a bulk action matched fewer jobs", "bulk_actions_end_with_all_their_jobs", bulk(matched=0)),
    ("a bulk action left a job out", "bulk_actions_end_with_all_their_jobs", bulk(done=0)),
    ("a bulk action changed a job twice", "bulk_actions_end_with_all_their_jobs", bulk(done=2)),
    (
        "a bulk action refused a job",
        "bulk_actions_end_with_all_their_jobs",
        bulk(done=0, refused={"illegal-transition": 1}),
    ),
    ("a job was changed once more than by its bulk actions", "bulk_actions_change_each_job_once", bulk("xd")),
    ("a job was not changed by its bulk action", "bulk_actions_change_each_job_once", bulk("xtxtd")),
    ("a wrong count", "counts_are_exact", lambda h: h.counts.update(pending=1)),
    ("a job was not listed", "counts_are_exact", lambda h: h.listed_ids.clear()),
    ("a job was listed twice", "counts_are_exact", lambda h: h.listed_ids.append("j")),
    ("an inconsistent index", "counts_are_exact", lambda h: h.inconsistencies.append("an entry has no job")),
]


def test_a_valid_history_has_no_violation() -> None:
    assert check(valid_history()) == []


@pytest.mark.parametrize(("name", "modify"), [one[1:] for one in VIOLATIONS], ids=[one[0] for one in VIOLATIONS])
def test_a_violation_is_found(name: str, modify: Modification) -> None:
    history = valid_history()
    modify(history)

    assert name in {found.partition(":")[0] for found in check(history)}


def test_every_check_has_a_violation() -> None:
    assert {name for _, name, _ in VIOLATIONS} == {check.__name__ for check in CHECKS}


def test_errors_of_the_round_are_reported() -> None:
    history = valid_history()
    history.errors.append("the service did not recover")

    assert check(history) == ["the service did not recover"]


def fault(name: str = "lost-replies") -> Window:
    return Window(name, START, START + 0.1)


#: What is allowed, and the change to a valid history that causes it.
ALLOWED: list[tuple[str, Modification]] = [
    ("jobs are changed by bulk actions alone", bulk()),
    (
        "data of another program kept a bulk action from a job",
        combine(
            lambda h: h.faults.append(fault("wrong-type")),
            bulk("xtxtxd", done=0, refused={"store-corrupt": 1}),
        ),
    ),
    (
        "Redis lost a bulk action",
        combine(lambda h: h.losses.append(fault()), bulk(matched=0, done=0)),
    ),
    ("a change of unknown outcome took effect", with_call(8, status=503, problem="store-timeout")),
    (
        "a change without a response took effect",
        combine(lambda h: h.faults.append(fault()), with_call(8, status=None)),
    ),
    ("a change of unknown outcome had no effect", add(call(Kind.DELETE, 90, status=503, problem="store-timeout"))),
    (
        "a change took effect at the first try and failed at the second because of a change in between",
        combine(
            lambda h: h.faults.append(fault()),
            with_call(3, status=409, problem="illegal-transition", ended=START + 0.05),
        ),
    ),
    (
        "a repeated claim shows a cancellation request",
        with_call(1, observations=observed(4, "running", 1), ended=START + 0.035),
    ),
    (
        "a read shows an unacknowledged result that a failover has lost",
        combine(failover, add(call(Kind.READ, 90, *observed(5, "failed", 1, '{"by":"another"}')))),
    ),
    (
        "a repeated cancellation shows a later state",
        with_call(3, observations=observed(5, "completed", 1, RESULT), ended=START + 0.045),
    ),
    (
        "a repeated cancellation shows that the holder's release cancelled the job",
        combine(
            without_event(3),
            with_event(3, event(41, 5, "cancelled")),
            with_call(3, observations=observed(5, "cancelled", 1), ended=START + 0.045),
            with_call(4, kind=Kind.RELEASE, observations=observed(5, "cancelled", 1), target_status="", content=""),
            with_call(5, observations=observed(5, "cancelled", 1)),
            with_record(status="cancelled", content="", changes=((2, "r"), (4, "q"), (5, "x"))),
            lambda h: h.counts.update(completed=0, cancelled=1),
        ),
    ),
    (
        "a repeated cancellation shows that a release of unknown outcome cancelled the job",
        combine(
            lambda h: h.faults.append(fault()),
            without_event(3),
            with_event(3, event(41, 5, "cancelled")),
            with_call(3, observations=observed(5, "cancelled", 1), ended=START + 0.045),
            with_call(
                4,
                kind=Kind.RELEASE,
                status=503,
                problem="store-unreachable",
                observations=(),
                target_status="",
                content="",
            ),
            with_call(5, observations=observed(5, "cancelled", 1)),
            with_record(status="cancelled", content="", changes=((2, "r"), (4, "q"), (5, "x"))),
            lambda h: h.counts.update(completed=0, cancelled=1),
        ),
    ),
    (
        "Redis lost changes within a window of loss",
        combine(
            lambda h: h.losses.append(Window("loss", START + 0.089, START + 0.2)),
            add(call(Kind.CREATE, 90, *observed(1, "pending", job_id="x"), job_id="x")),
            add(call(Kind.READ, 900, status=404, problem="job-not-found", job_id="x")),
            add(call(Kind.READ, 91, *observed(5, "completed", 1, '{"by":"a lost change"}'))),
            add(call(Kind.READ, 92, *observed(9, "running", 3), took=200)),  # a late response
            add(call(Kind.READ, 300, *observed(5, "completed", 1, RESULT))),
            lambda h: h.stream_messages.append(StreamMessage("changed", f"{CREATED // 1000 + 91}-0")),
            lambda h: h.stream_messages.append(StreamMessage("reset", h.events[-1].position)),
        ),
    ),
    (
        "a failover lost changes that were not acknowledged, and that clients have seen",
        combine(
            failover,
            add(call(Kind.START, 88, status=503, problem="store-timeout")),
            add(call(Kind.READ, 90, *observed(9, "running", 3))),
            add(call(Kind.READ, 300, *observed(5, "completed", 1, RESULT))),
            lambda h: h.stream_messages.append(StreamMessage("changed", f"{CREATED // 1000 + 91}-0")),
            lambda h: h.stream_messages.append(StreamMessage("reset", h.events[-1].position)),
        ),
    ),
    (
        "the stream sends events after the final state was read",
        lambda h: h.stream_messages.append(StreamMessage("changed", f"{CREATED // 1000 + 99}-0")),
    ),
    (
        "no response from a service that was killed",
        combine(lambda h: h.faults.append(fault()), add(call(Kind.READ, 90, status=None))),
    ),
    (
        "store-corrupt during wrong-type",
        combine(
            lambda h: h.faults.append(fault("wrong-type")),
            add(call(Kind.READ, 90, status=500, problem="store-corrupt")),
        ),
    ),
    (
        "the reaper requeued a job whose lease had expired",
        combine(
            lambda h: h.expired_leases.update(j=START + 1),
            with_event(3, event(35, 5, "pending")),
            with_event(4, event(36, 6, "running")),
            with_call(
                4, kind=Kind.CLAIM, observations=observed(6, "running", 2), job_id="", granted_token="2-u", content=""
            ),
            with_call(
                5,
                kind=Kind.FINISH,
                observations=observed(7, "completed", 2, RESULT),
                target_status="completed",
                content=RESULT,
            ),
            with_event(5, event(41, 7, "completed")),
            without_event(6),
            with_record(version=version(7), attempt=2, changes=((2, "r"), (4, "q"), (5, "p"), (6, "r"), (7, "c"))),
        ),
    ),
    (
        "a claim that ended early in a fault has claimed one job more",
        combine(lambda h: h.faults.append(fault()), is_claimed_by_a_claim_that_ended_early),
    ),
    ("an attempt timed out", times_out("r3c0-j5", 1083, after_start=True)),
    ("a job was not started in time", times_out("r3c0-j0", 1081, after_start=False)),
    (
        "the claim of a disconnected client is released",
        combine(
            with_event(7, event(81, 1, "pending", job_id="m")),
            with_event(8, event(82, 2, "running", job_id="m")),
            with_event(9, event(83, 3, "pending", job_id="m")),
            lambda h: h.faults.append(fault()),
            add(call(Kind.CREATE, 80, *observed(1, "pending", job_id="m"), job_id="m")),
            add(call(Kind.CLAIM, 81, job_id="", status=None)),
            lambda h: h.records.update(m=Record(version(3, "m"), "pending", 1, "", ((2, "r"), (3, "p")))),
            lambda h: h.counts.update(pending=1),
            lambda h: h.listed_ids.append("m"),
        ),
    ),
]


@pytest.mark.parametrize("modify", [one[1] for one in ALLOWED], ids=[one[0] for one in ALLOWED])
def test_an_allowed_deviation_is_no_violation(modify: Modification) -> None:
    history = valid_history()
    modify(history)

    assert check(history) == []
