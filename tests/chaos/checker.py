"""The checker: compares the history of a round with the promises of the service and yields every violation."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

from tests.chaos.attribution import could_cause, maximum_matching, possible_causes
from tests.chaos.bulk_actions import bulk_actions_change_each_job_once, bulk_actions_end_with_all_their_jobs
from tests.chaos.context import CheckContext, Violations, describe_call
from tests.chaos.history import CORRUPTING, FORGED, TIMEOUT, Call, History, Kind, Outcome, Version, has_timeouts
from tests.chaos.job_timelines import JobTimeline, Transition, ordering_violations
from tests.chaos.reads import (
    jobs_do_not_vanish,
    observing_calls,
    reads_are_monotonic,
    reads_are_valid,
    streams_are_complete,
    times_are_in_order,
)

#: Seconds after which a response is late on any machine, unless a fault is active.
MAX_RESPONSE_TIME = 20.0


def check(history: History) -> list[str]:
    """Return all violations, each with the name of its check in front."""
    context = CheckContext(history)
    found = [f"{check.__name__}: {violation}" for check in CHECKS for violation in check(context)]
    return found + history.errors


def count_lost(history: History) -> int:
    """Return how many acknowledged changes Redis has lost, whether it may or not."""
    context = CheckContext(replace(history, losses=[]))
    return sum(_is_lost(call, context.transitions.get(version)) for version, call in context.acknowledged)


def _is_lost(call: Call, transition: Transition | None) -> bool:
    return transition is None or (call.kind is not Kind.CANCEL and not could_cause(call, transition))


def timelines_are_legal(context: CheckContext) -> Violations:
    """The events of each job are its revisions in a legal order, each once."""
    for timeline in context.timelines.values():
        yield from ordering_violations(timeline)


def records_match_events(context: CheckContext) -> Violations:
    """Each final record matches the job's events, and a job without a record was deleted."""
    for record in context.history.records.values():
        if record.version[:2] not in context.timelines:
            yield f"{record.version} has no event"
    for timeline in context.timelines.values():
        if timeline.record is None:
            if not timeline.is_deleted and not context.history.losses:
                yield f"{timeline.job_id} of {timeline.created} has no record and no event of its deletion"
        else:
            yield from _record_mismatches(timeline)


def _record_mismatches(timeline: JobTimeline) -> Violations:
    record, last = timeline.record, timeline.events[-1]
    assert record
    if last.kind == "deleted":
        yield f"{timeline.job_id} has a record after its deletion"
    ahead = record.version.revision - last.version.revision
    if record.status != last.status or ahead < 0 or (ahead > 0 and record.status != "running"):
        yield f"{record} does not match its last event: {last}"
    transitions = timeline.transitions
    starts = sum(made.change == "status" and made.after == "running" for made in transitions)
    if record.attempt != starts:
        yield f"{record} was started {starts} times"
    from_events = {
        (made.version.revision, made.code) for made in transitions if made.change in {"status", "cancel_requested"}
    }
    if from_events != set(record.changes):
        yield f"{record} has another history than its events: {sorted(from_events)}"


def acknowledged_changes_exist(context: CheckContext) -> Violations:
    """Every acknowledged change is among the events, with the status and content that the response showed."""
    for version, call in context.acknowledged:
        transition, [observed] = context.transitions.get(version), call.observations
        if transition is None:
            yield f"{describe_call(call)} was lost"
        elif call.kind is not Kind.CANCEL and not could_cause(call, transition):
            yield f"{describe_call(call)} became another change: {transition}"
        elif call.kind not in {Kind.CREATE, Kind.CLAIM, Kind.RETRY} and observed.status != transition.after:
            yield f"{describe_call(call)} has status {transition.after} in the events"
        if call.kind is Kind.FINISH and observed.content != call.content:
            yield f"{describe_call(call)} returned another content: {observed.content!r}"


def results_survive(context: CheckContext) -> Violations:
    """Every record, observed or final, has the result of the call that finished the job."""
    finished = {version: call for version, call in context.acknowledged if call.kind is Kind.FINISH}
    contents = [(record.version, record.content) for record in context.history.records.values()]
    seen_by_calls = (seen for call in observing_calls(context) for seen in call.observations)
    contents += [(seen.version, seen.content) for seen in seen_by_calls if seen.content]
    for version, content in contents:
        if version in finished and content != finished[version].content:
            yield f"{version} was finished with {finished[version].content!r} and has {content!r}"


def one_request_per_revision(context: CheckContext) -> Violations:
    """No two requests are acknowledged for the same revision."""
    groups_of: dict[Version, set[str]] = defaultdict(set)
    for number, (version, call) in enumerate(context.acknowledged):
        # Equal creations, and cancellations of a cancelled job, all get the same revision.
        if call.kind not in {Kind.CANCEL, Kind.CREATE}:
            groups_of[version].add(call.group or f"#{number}")
    for version, groups in groups_of.items():
        if len(groups) > 1:
            yield f"{version} was acknowledged to {sorted(groups)}"


def every_revision_has_a_cause(context: CheckContext) -> Violations:
    """A rejected request has no effect, and a repeated request takes effect once."""
    version_of = _versions_by_call(context)
    attributed = set(version_of.values())
    unexplained = [
        transition
        for version, transition in context.transitions.items()
        if version not in attributed
        and version.job_id not in context.history.bulk_jobs
        and not (_is_reaped(context, transition) or _has_timed_out(context, transition))
    ]
    causes = possible_causes(context.history, version_of)
    causes_of_job: dict[str, list[int]] = defaultdict(list)
    for number, cause in enumerate(causes):
        causes_of_job[cause.calls[0].job_id].append(number)
    candidates = [causes_of_job[""] + causes_of_job[transition.version.job_id] for transition in unexplained]
    causes_of_row = [
        [number for number in numbers if causes[number].may_have_caused(transition, context.history)]
        for transition, numbers in zip(unexplained, candidates, strict=True)
    ]
    explained = maximum_matching(range(len(unexplained)), lambda row: causes_of_row[row])
    for row, transition in enumerate(unexplained):
        if row not in explained:
            yield f"no call can have made {transition}; calls: {_describe_calls(context, transition)}"
    rows_of_cause: dict[int, list[int]] = defaultdict(list)
    for row, numbers in enumerate(causes_of_row):
        for number in numbers:
            rows_of_cause[number].append(row)
    certain = [number for number, cause in enumerate(causes) if cause.is_certain]
    effective = maximum_matching(certain, lambda number: rows_of_cause[number])
    for number in certain:
        if number not in effective:
            yield f"{describe_call(causes[number].calls[-1])} made no revision"


def _describe_calls(context: CheckContext, transition: Transition) -> str:
    job_id = transition.version.job_id
    return "; ".join(
        describe_call(call) + (f" with {call.observations[0].version}" if call.observations else "")
        for call in context.history.calls
        if call.job_id == job_id and call.is_change
    )


def _versions_by_call(context: CheckContext) -> dict[int, Version]:
    """Return the calls (by `id`) that made the revision that their response names.

    The response to a cancellation may name a revision of another call, such as the holder's release or progress.
    """
    version_of: dict[int, Version] = {}
    for is_cancel in (False, True):
        attributed = set(version_of.values())
        for version, call in context.acknowledged:
            transition = context.transitions.get(version)
            if transition is None or (call.kind is Kind.CANCEL) is not is_cancel or not could_cause(call, transition):
                continue
            if not is_cancel or not (version in attributed or _may_name_a_later_revision(context, call, transition)):
                version_of[id(call)] = version
    return version_of


def _may_name_a_later_revision(context: CheckContext, call: Call, transition: Transition) -> bool:
    """Return whether a cancellation may have made an earlier revision than this one, which its response names.

    If its first reply was lost, the holder's release or progress of unknown outcome may have followed.
    """
    is_end = (transition.change, transition.before) == ("status", "running") and context.history.overlaps_fault(call)
    return is_end or transition.change == "cancel_requested or progress"


def _is_reaped(context: CheckContext, transition: Transition) -> bool:
    """Return whether the reaper made the transition because the job's lease had expired."""
    is_end_of_lease = (transition.change, transition.before) == ("status", "running")
    return is_end_of_lease and transition.not_before <= context.history.expired_leases.get(transition.version.job_id, 0)


def _has_timed_out(context: CheckContext, transition: Transition) -> bool:
    """Return whether a time-out of the job may have made the transition: none does before its end."""
    if not has_timeouts(transition.version.job_id) or transition.change != "status":
        return False
    counts_from = None
    for earlier in context.timelines[transition.version[:2]].transitions:
        if earlier.version.revision >= transition.version.revision:
            break
        if earlier.attempt:
            counts_from = earlier if transition.before == "running" else None
        elif earlier.change == "created" or earlier.is_retry:
            counts_from = earlier if (transition.before, transition.after) == ("pending", "failed") else None
    if counts_from is None:
        return False
    if transition.before == "running" and transition.after not in {"pending", "failed", "cancelled"}:
        return False
    return transition.not_after + context.history.clock_tolerance >= counts_from.not_before + TIMEOUT


def claims_are_exclusive(context: CheckContext) -> Violations:
    """Each attempt of a job is claimed once, and each lease token belongs to one claim."""
    tokens_of: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    versions_of: dict[str, set[Version]] = defaultdict(set)
    for version, call in context.acknowledged:
        if call.kind is Kind.CLAIM:
            [observed] = call.observations
            tokens_of[(*version[:2], observed.attempt)].add(call.granted_token)
            versions_of[call.granted_token].add(version)
    for (job_id, _, attempt), tokens in tokens_of.items():
        if len(tokens) > 1:
            yield f"attempt {attempt} of {job_id} was claimed {len(tokens)} times"
    for token, versions in versions_of.items():
        if len(versions) > 1:
            yield f"the token {token} was granted for {sorted(versions)}"


def preconditions_hold(context: CheckContext) -> Violations:
    """No call succeeds with a lease token or an `If-Match` that is not the job's."""
    for call in context.history.calls:
        if call.outcome is not Outcome.OK:
            continue
        if FORGED in (call.sent_token, call.if_match):
            yield f"{describe_call(call)} succeeded with a forged lease token or version"
        attempt = call.sent_token.partition("-")[0]
        if attempt and call.observations and int(attempt) != call.observations[0].attempt:
            yield f"{describe_call(call)} with the lease of attempt {attempt} shows {call.observations[0]}"


def responses_are_well_formed(context: CheckContext) -> Violations:
    """Every error response is a problem, a temporary one has `Retry-After`, and every response is in time."""
    history = context.history
    for call in history.calls:
        faults = {fault.name for fault in history.faults if fault.overlaps(call.started - 4, call.ended)}
        if not call.is_well_formed:
            yield f"{describe_call(call)} got a malformed response"
        if call.status == 500 and not (call.problem == "store-corrupt" and faults & CORRUPTING):
            yield f"{describe_call(call)} got an unexpected 500"
        if call.status is None and not call.is_unsent and not faults:
            yield f"{describe_call(call)} got no response without a fault"
        if call.ended - call.started > MAX_RESPONSE_TIME and not faults:
            yield f"{describe_call(call)} took {call.ended - call.started:.1f} s"


def counts_are_exact(context: CheckContext) -> Violations:
    """Counts, lists and indexes match a scan of all keys."""
    history = context.history
    scanned = Counter(record.status for record in history.records.values())
    if {status: count for status, count in history.counts.items() if count} != dict(scanned):
        yield f"counts are {history.counts}, a scan finds {dict(scanned)}"
    if sorted(history.listed_ids) != sorted(history.records):
        difference = Counter(history.listed_ids)
        difference.subtract(history.records.keys())
        yield f"the list differs from a scan: { {job: n for job, n in difference.items() if n} }"
    yield from history.inconsistencies


CHECKS: tuple[Callable[[CheckContext], Violations], ...] = (
    timelines_are_legal,
    records_match_events,
    acknowledged_changes_exist,
    results_survive,
    one_request_per_revision,
    every_revision_has_a_cause,
    bulk_actions_end_with_all_their_jobs,
    bulk_actions_change_each_job_once,
    claims_are_exclusive,
    reads_are_monotonic,
    reads_are_valid,
    jobs_do_not_vanish,
    times_are_in_order,
    preconditions_hold,
    responses_are_well_formed,
    streams_are_complete,
    counts_are_exact,
)
