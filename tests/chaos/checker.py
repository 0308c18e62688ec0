"""Holds what clients were told against what there is; says everything that cannot be."""

from collections import Counter, defaultdict
from collections.abc import Callable

from tests.chaos.attribution import causes, could_make, matched
from tests.chaos.context import Facts, Violations, in_words
from tests.chaos.history import FORGED, History, Kind, Outcome, Version
from tests.chaos.job_timelines import Life, Step, unlawful
from tests.chaos.reads import nothing_vanishes, reads_are_true, reads_never_go_back, streams_tell_all

#: Faults under which a key of ours holds what we did not write.
CORRUPTING = frozenset({"wrong-type", "foreign-fields"})
#: Seconds within which a call is answered at the very latest, on whatever machine, unless the service itself is hit.
LONGEST = 20.0


def check(history: History) -> list[str]:
    """Return every violation of a promise, each with the name of its check in front."""
    facts = Facts(history)
    found = [f"{look.__name__}: {one}" for look in CHECKS for one in look(facts)]
    return found + history.complaints


def lawful_lives(facts: Facts) -> Violations:
    """Each job's events are one legal order of its revisions, each once."""
    for life in facts.lives.values():
        yield from unlawful(life)


def records_agree(facts: Facts) -> Violations:
    """The record of each job is what its events lead to, and a job without a record was deleted."""
    for record in facts.history.records.values():
        if record.version[:2] not in facts.lives:
            yield f"{record.version} has no event"
    for life in facts.lives.values():
        if life.record is None:
            if not life.is_deleted and not facts.history.losses:
                yield f"{life.job_id} of {life.created} is gone, and nothing says so"
        else:
            yield from _disagreement(life)


def _disagreement(life: Life) -> Violations:
    record, last = life.record, life.events[-1]
    assert record
    if last.kind == "deleted":
        yield f"{life.job_id} is there after it was deleted"
    ahead = record.version.revision - last.version.revision
    if record.status != last.status or ahead < 0 or (ahead > 0 and record.status != "running"):
        yield f"{record} is not what its last event says: {last}"
    starts = sum(step.change == "moved" and step.after == "running" for step in life.steps)
    if record.attempt != starts:
        yield f"{record} moved to running {starts} times"
    told = {(step.version.revision, _letter(step)) for step in life.steps if step.change in {"moved", "asked"}}
    if told != set(record.changes):
        yield f"{record} remembers other changes than its events tell: {sorted(told)}"


def _letter(step: Step) -> str:
    letters = {"pending": "p", "running": "r", "completed": "c", "failed": "f", "cancelled": "x"}
    return "q" if step.change == "asked" else letters[step.after]


def acknowledged_is_there(facts: Facts) -> Violations:
    """What a client was told is done is in the events, and in the record that is left."""
    for version, call in facts.acknowledged:
        step, [seen] = facts.steps.get(version), call.seen
        if step is None:
            yield f"{in_words(call)} is not there"
        elif call.kind is not Kind.CANCEL and not could_make(call, step):
            yield f"{in_words(call)} is there as something else: {step}"
        elif call.kind not in {Kind.CREATE, Kind.CLAIM} and seen.status != step.after:
            yield f"{in_words(call)} is there as {step.after}"
        if call.kind is Kind.END and seen.content != call.content:
            yield f"{in_words(call)} was answered with another content: {seen.content!r}"


def contents_survive(facts: Facts) -> Violations:
    """Every record that is shown or left has the result of the call that ended it."""
    ends = {version: call for version, call in facts.acknowledged if call.kind is Kind.END}
    shown = [(record.version, record.content) for record in facts.history.records.values()]
    calls = [call for call in facts.history.calls if not facts.history.may_be_lost(call)]
    shown += [(seen.version, seen.content) for call in calls for seen in call.seen if seen.content]
    for version, content in shown:
        if version in ends and content != ends[version].content:
            yield f"{version} was ended with {ends[version].content!r} and has {content!r}"


def one_change_a_revision(facts: Facts) -> Violations:
    """No two requests are told that they made the same revision."""
    made: dict[Version, set[str]] = defaultdict(set)
    for number, (version, call) in enumerate(facts.acknowledged):
        if call.kind not in {Kind.CANCEL, Kind.CREATE}:  # an equal creation is told so; a cancel of what is cancelled
            made[version].add(call.group or f"#{number}")
    for version, groups in made.items():
        if len(groups) > 1:
            yield f"{version} was acknowledged to {sorted(groups)}"


def every_revision_has_a_cause(facts: Facts) -> Violations:
    """A refused request leaves no trace, and a request that is sent again is done once."""
    made = _made(facts)
    known = set(made.values())
    unknown = [step for version, step in facts.steps.items() if version not in known and not _reaped(facts, step)]
    possible = causes(facts.history, made)
    by_step = [
        [number for number, cause in enumerate(possible) if cause.may_have_made(step, facts.history)]
        for step in unknown
    ]
    explained = matched(range(len(unknown)), lambda row: by_step[row])
    for row, step in enumerate(unknown):
        if row not in explained:
            yield f"nobody who was not refused has made {step}; asked for were {_asked_of(facts, step)}"
    by_cause: dict[int, list[int]] = defaultdict(list)
    for row, numbers in enumerate(by_step):
        for number in numbers:
            by_cause[number].append(row)
    certain = [number for number, cause in enumerate(possible) if cause.is_certain]
    done = matched(certain, lambda number: by_cause[number])
    for number in certain:
        if number not in done:
            yield f"{in_words(possible[number].calls[-1])} has made no revision"


def _asked_of(facts: Facts, step: Step) -> str:
    calls = [call for call in facts.history.calls if call.job_id == step.version.job_id and call.is_change]
    return "; ".join(in_words(call) + (f" with {call.seen[0].version}" if call.seen else "") for call in calls)


def _made(facts: Facts) -> dict[int, Version]:
    """Return the calls (by `id`) that made the revision that their answer names.

    A cancel may be answered with what another call has made of it meanwhile, such as the holder's release or progress.
    """
    made: dict[int, Version] = {}
    for is_cancel in (False, True):
        others = set(made.values())
        for version, call in facts.acknowledged:
            step = facts.steps.get(version)
            if step is None or (call.kind is Kind.CANCEL) is not is_cancel or not could_make(call, step):
                continue
            if not is_cancel or (version not in others and step.change != "asked or progress"):
                made[id(call)] = version
    return made


def _reaped(facts: Facts, step: Step) -> bool:
    """Say whether the service took the job from its worker because its lease had run out."""
    is_taken = (step.change, step.before) == ("moved", "running")
    return is_taken and step.since <= facts.history.run_out.get(step.version.job_id, 0)


def claims_are_single(facts: Facts) -> Violations:
    """No job is given out twice under one attempt, nor under one token."""
    holders: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    tokens: dict[str, set[Version]] = defaultdict(set)
    for version, call in facts.acknowledged:
        if call.kind is Kind.CLAIM:
            [seen] = call.seen
            holders[(*version[:2], seen.attempt)].add(call.token)
            tokens[call.token].add(version)
    for (job_id, _, attempt), found in holders.items():
        if len(found) > 1:
            yield f"{job_id} was given out {len(found)} times under attempt {attempt}"
    for token, versions in tokens.items():
        if len(versions) > 1:
            yield f"the token {token} was given out for {sorted(versions)}"


def conditions_are_heeded(facts: Facts) -> Violations:
    """Nothing is done under a lease that is not the job's, nor to another version than was asked for."""
    for call in facts.history.calls:
        if call.outcome is not Outcome.DONE:
            continue
        if FORGED in (call.lease, call.if_match):
            yield f"{in_words(call)} with what is nobody's lease or version"
        attempt = call.lease.partition("-")[0]
        if attempt and call.seen and int(attempt) != call.seen[0].attempt:
            yield f"{in_words(call)} under the lease of attempt {attempt} shows {call.seen[0]}"


def answers_are_sound(facts: Facts) -> Violations:
    """Every refusal is a problem, says when to come again where that helps, and comes in time."""
    history = facts.history
    for call in history.calls:
        touching = {fault.name for fault in history.faults if fault.touches(call.started - 4, call.ended)}
        if not call.is_sound:
            yield f"{in_words(call)} was answered in another form"
        if call.status == 500 and not (call.problem == "store-corrupt" and touching & CORRUPTING):
            yield f"{in_words(call)} was answered {call.problem}"
        if call.status is None and not call.is_unsent and not touching:
            yield f"{in_words(call)} got no answer, and no fault was there"
        if call.ended - call.started > LONGEST and not touching:
            yield f"{in_words(call)} took {call.ended - call.started:.1f} s"


def counts_are_exact(facts: Facts) -> Violations:
    """Counts, lists and indexes are what a walk of all keys finds."""
    history = facts.history
    walked = Counter(record.status for record in history.records.values())
    if {status: count for status, count in history.counts.items() if count} != dict(walked):
        yield f"counted {history.counts}, walked {dict(walked)}"
    if sorted(history.listed) != sorted(history.records):
        difference = Counter(history.listed)
        difference.subtract(history.records.keys())
        yield f"listed otherwise than walked: { {job: n for job, n in difference.items() if n} }"
    yield from history.drift


CHECKS: tuple[Callable[[Facts], Violations], ...] = (
    lawful_lives,
    records_agree,
    acknowledged_is_there,
    contents_survive,
    one_change_a_revision,
    every_revision_has_a_cause,
    claims_are_single,
    reads_never_go_back,
    reads_are_true,
    nothing_vanishes,
    conditions_are_heeded,
    answers_are_sound,
    streams_tell_all,
    counts_are_exact,
)
