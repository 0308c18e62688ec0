"""Mutation tests of the Lua scripts: remove one guard at a time and run the checker, or else the reference model.

`python -m tests.chaos.mutations [WORD …]` mutates the guards whose script or name contains all words.
The exit code is 1 if neither detects a removed guard.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import service

SOURCE: Final = Path(service.__file__).parents[1]
FAULTS: Final = "lost-replies"


class Mutation(NamedTuple):
    """The removal of a guard: the script, the purpose of the guard, its text, and the text that replaces it."""

    script: str
    guard: str
    old: str
    new: str
    faults: str = FAULTS
    #: A second guard with the same purpose, removed as well: its text and the replacement.
    also: tuple[str, str] = ("\0", "")


NEVER: Final = "if false then"
_MOVE: Final = "if state ~= job.state then add_to_lists(job, state) end"
_LEAVE: Final = "if state ~= job.state then remove_from_lists(job, job.state) end"
_END_TIMER: Final = (
    "if job.timer and timer ~= job.timer then remove('ZREM', key('timers'), timer_member(job.timer, job)) end"
)
_DELETED: Final = "if not job or was_on_deleted_job(job, change_id, tonumber(ARGV[%d])) then"
MUTATIONS: Final = (
    Mutation("header", "the deadline", "if NOW > deadline then", NEVER, "stop-redis,stop-redis"),
    Mutation(
        "writes",
        "what an addition that fails takes back",
        "for i = undo_size - 2, 1, -3 do",
        "for i = 0, 1, -3 do",
        "wrong-type",
    ),
    Mutation("transitions", "removal from the old indexes", _LEAVE, ""),
    Mutation("transitions", "addition to the new indexes", _MOVE, ""),
    Mutation(
        "indexes",
        "removal of a priority",
        "if state == 'prioritized' then remove('ZREM', key('by_priority', job.queue), job.id) end",
        "",
    ),
    Mutation(
        "transitions",
        "the event of a change",
        "if has_event then emit_change('changed', job, status, revision) end",
        "",
    ),
    Mutation("transitions", "only progress may have no event", "has_event = not update.is_progress or", "has_event ="),
    Mutation("transitions", "the revision", "format('%d', job.revision + 1)", "format('%d', job.revision)"),
    Mutation("transitions", "recording the change", "if update.change then", NEVER),
    Mutation(
        "requests", "another content under a used key", "if last_change ~= change_id .. ':' .. digest then", NEVER
    ),
    Mutation("transitions", "clearing the lease", "elseif job.has_lease then", "elseif false then"),
    Mutation("transitions", "counting failures", "(update.failed and not is_cancelled and 1 or 0)", "0"),
    Mutation("update", "the lease", "if not requests_cancel and lease_is_lost(job, token) then", NEVER),
    Mutation("update", "a repeated change of a deleted job", _DELETED % 10, "if not job then"),
    Mutation("release", "a repeated change of a deleted job", _DELETED % 7, "if not job then"),
    Mutation("update", "a repeated change", "if replayed then return replayed end", ""),
    Mutation("update", "a repeated final update", "if job.status == target and FINAL[target] then", NEVER),
    Mutation(
        "update",
        "a repeated cancellation request",
        "if requests_cancel and job.fields.cancel_requested_at then",
        NEVER,
    ),
    Mutation("update", "If-Match", "if not has_version(job, ARGV[8]) then", NEVER),
    Mutation("update", "legal transitions", "if not contains(ARGV[7], job.status) or", "if false or"),
    Mutation(
        "update",
        "only new progress counts",
        "or (is_progress and (not given.progress or given.progress == job.fields.progress))",
        "",
    ),
    Mutation("claim", "a repeated claim", "if loaded and job and job.has_lease and job.token == token then", NEVER),
    Mutation(
        "claim", "another claim under a used key", "if known_digest ~= digest and known_digest ~= '-' then", NEVER
    ),
    Mutation("claim", "recording the claim", "redis.call('SET', claim, remembered, 'PX', ARGV[7])", ""),
    Mutation("claim", "paused queues", "if paused ~= '0' then room = 0 end", ""),
    Mutation(
        "claim",
        "the most running jobs",
        "room = tonumber(max_running) - call('ZCARD', key('by_created', name, 'running'))",
        "room = math.huge",
    ),
    Mutation(
        "claim",
        "the order of claims",
        "if not first or cursor.order < first.order then",
        "if not first then",
    ),
    Mutation("configure_queue", "an absent setting", "if ARGV[2] ~= '' then paused = ARGV[2] end", "paused = ARGV[2]"),
    Mutation("creation", "another job with the same id", "if held._creation ~= job.digest then", NEVER),
    Mutation("creation", "an existing job", "if held.status then", NEVER),
    Mutation("creation", "an unmanaged hash", "  reject_record(id)\n", "", "unknown-fields"),
    Mutation("creation", "the event", "emit_change('changed', job, 'pending', '1')", ""),
    Mutation(
        "creation",
        "the indexes",
        "add_to_lists(job, delay > 0 and 'delayed' or due_state(job))",
        "",
    ),
    Mutation(
        "delete",
        "a repeated deletion",
        "if call('ZSCORE', key('deletions'), deletion_member(id, change_id)) then",
        NEVER,
    ),
    Mutation("delete", "If-Match", "if not has_version(job, ARGV[3]) then", NEVER),
    Mutation("delete", "only finished jobs", "if not FINAL[job.status] then", NEVER),
    Mutation("actions", "the indexes", "remove('ZREM', key('by_created', job.queue, job.state), job.id)\n", ""),
    Mutation(
        "heartbeat",
        "the lease",
        "if not lease_expires_at or token ~= holder then",
        "if not lease_expires_at then",
    ),
    Mutation("heartbeat", "only new progress counts", "progress ~= '' and progress ~= old_progress", "progress ~= ''"),
    Mutation("retry", "a retry of a deleted job", "or was_on_deleted_job(job, change_id, remembered) then", "then"),
    Mutation("retry", "a repeated retry", "if replayed then return replayed end", ""),
    Mutation("retry", "If-Match", "if not has_version(job, ARGV[6]) then", NEVER),
    Mutation("retry", "only jobs that did not complete", "if not can_retry(job) then", NEVER),
    Mutation(
        "actions",
        "the retry that is repeated",
        "set.failures, set._retry, set._ended = '0', made, remember",
        "set.failures, set._ended = '0', remember",
    ),
    Mutation("actions", "the former lease", ", '_token' }", " }"),
    Mutation("update", "changes before a retry", "if was_before_retry(job, change_id) then", NEVER),
    Mutation("release", "the lease", "if lease_is_lost(job, token) then", NEVER),
    Mutation("release", "a repeated release", "if replayed then return replayed end", ""),
    Mutation("release", "only leased jobs", "if not job.has_lease then", NEVER),
    Mutation(
        "reap",
        "only expired leases (two guards)",
        "call('ZRANGE', leases, '-inf', NOW_MS,",
        "call('ZRANGE', leases, '-inf', '+inf',",
        "expire-leases",
        ("elseif lease > NOW_MS then", "elseif false then"),
    ),
    Mutation(
        "time_out",
        "only time-outs that are over (two guards)",
        "call('ZRANGE', timers, '-inf', NOW_MS,",
        "call('ZRANGE', timers, '-inf', '+inf',",
        ",".join(["expire-leases"] * 8),  # the reaper begins 10 s after the start of the service, or an outage
        also=("if deadline > NOW_MS then", "if false then"),
    ),
    Mutation("transitions", "the end of a time-out", _END_TIMER, ""),
    Mutation(
        "sweep",
        "only expired jobs (two guards)",
        "call('ZRANGE', by_expiry, '-inf', '(' .. NOW_MS,",
        "call('ZRANGE', by_expiry, '-inf', '+inf',",
        "expire-leases",
        ("if created_at == format_time(tonumber(job.created)) then", NEVER),
    ),
    Mutation(
        "walk",
        "the newest first",
        "if (cursors[child].created > cursors[next_one].created) ~= cursors.is_ascending then",
        "if (cursors[child].created < cursors[next_one].created) ~= cursors.is_ascending then",
    ),
    Mutation("count", "the states", "if status == '' or status == status_of(state) then", "if state ~= 'running' then"),
)


def remove_guard(mutation: Mutation, source: Path) -> None:
    """Remove a guard from the scripts in `source`. Raises `ValueError` unless its text is there exactly once."""
    [path] = (source / "service" / "store" / "lua").rglob(f"{mutation.script}.lua")
    text = path.read_text()
    for guard in (mutation.old, mutation.also[0]):
        if text.count(guard) != (guard != "\0"):
            raise ValueError(f"{mutation.script}.lua has {text.count(guard)} times {guard!r}")
    path.write_text(text.replace(mutation.old, mutation.new).replace(*mutation.also))


def failing_checks(mutation: Mutation, source: Path) -> list[str]:
    """Return the names of the checks that find a violation."""
    rounds = str(len(mutation.faults.split(",")))
    args = [rounds, "1", "--clients", "16", "--only", mutation.faults, "--source", str(source)]
    run = _run([sys.executable, "-m", "tests.chaos", *args])
    found = sorted(set(re.findall(r"^     (\w+): ", run.stdout, re.MULTILINE)))
    return found or ([] if run.returncode == 0 else ["other error" if "violations" in run.stdout else "no start"])


def model_fails(source: Path) -> bool:
    """Return whether a test against the reference model fails."""
    environment = {
        "PYTHONPATH": str(source),
        "DOCKER_HOST": "unix:///nowhere",
        "CONTRACT_UNSHRUNK": "1",
        "CONTRACT_EXAMPLES": "150",
    }
    tests = ["tests/integration/api/test_contract.py", "-q", "-x"]
    return _run([sys.executable, "-m", "pytest", *tests], **environment).returncode != 0


def _run(command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def main() -> None:
    """Print which checks detect each removed guard, and whether the model detects those that no check does."""
    undetected = 0
    print("| script | removed guard | failing checks | model |\n| --- | --- | --- | --- |", flush=True)
    for mutation in MUTATIONS:
        if not all(word in f"{mutation.script} {mutation.guard}" for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            source = Path(folder) / "src"
            shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
            remove_guard(mutation, source)
            checks = failing_checks(mutation, source)
            model = "" if checks else ("fails" if model_fails(source) else "-")
        undetected += model == "-"
        print(f"| {mutation.script} | {mutation.guard} | {', '.join(checks) or '-'} | {model} |", flush=True)
    sys.exit(1 if undetected else 0)


if __name__ == "__main__":
    main()
