"""Mutation tests of the Lua scripts: remove one guard at a time and run the checker and the reference model.

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
MUTATIONS: Final = (
    Mutation("prelude", "the deadline", "if now() > not_after then", NEVER, "stop-redis,stop-redis"),
    Mutation("moves", "removal from the old indexes", "  take(job)\n  put(moved)", "  put(moved)"),
    Mutation("moves", "addition to the new indexes", "  take(job)\n  put(moved)", "  take(job)"),
    Mutation("moves", "the event of a change", "if not quiet then emit('changed', moved) end", ""),
    Mutation("moves", "only progress may have no event", "local quiet = what.progress and", "local quiet ="),
    Mutation("moves", "the revision", "revision = job.revision + 1,", "revision = job.revision,"),
    Mutation("moves", "recording the change", "if what.change then also('_change', what.change) end", ""),
    Mutation(
        "moves", "another content under a used key", "if job.last_change ~= change_id .. ':' .. digest then", NEVER
    ),
    Mutation("moves", "clearing the lease", "else without('lease_expires_at') end", "end"),
    Mutation("moves", "counting failures", "(what.failed and not job.cancel and 1 or 0)", "0"),
    Mutation("change", "the lease", "if not asks and lease_is_lost(job, token) then", NEVER),
    Mutation(
        "change",
        "a repeated change of a deleted job",
        "if not job or is_of_deleted(id, change_id) then",
        "if not job then",
    ),
    Mutation(
        "release",
        "a repeated change of a deleted job",
        "if not job or is_of_deleted(id, change_id) then",
        "if not job then",
    ),
    Mutation("change", "a repeated change", "if again then return again end", ""),
    Mutation("change", "a repeated final update", "if job.status == target and FINAL[target] and", "if false and"),
    Mutation("change", "a repeated cancellation request", "if asks and job.cancel then", NEVER),
    Mutation("change", "If-Match", "if ARGV[8] ~= '' and not", "if false and not"),
    Mutation("change", "legal transitions", "if not contains(ARGV[7], job.status) or", "if false or"),
    Mutation(
        "change",
        "only new progress counts",
        "or (progress and (not given.progress or given.progress == job.progress))",
        "",
    ),
    Mutation("claim", "a repeated claim", "if job and job.lease and job.token == token then", NEVER),
    Mutation("claim", "another claim under a used key", "if id and claimed_digest ~= digest then", NEVER),
    Mutation(
        "claim",
        "recording the claim",
        "redis.call('SET', claim, table.concat({ token, best, digest }, ' '), 'PX', ARGV[7])",
        "",
    ),
    Mutation("claim", "paused queues", "if paused ~= '0' then return false end", ""),
    Mutation("claim", "the oldest first", "if id then best, created = id, at end", "if id then best = id end"),
    Mutation("queue", "an absent setting", "if ARGV[2] ~= '' then paused = ARGV[2] end", "paused = ARGV[2]"),
    Mutation("create", "another job with the same id", "if known[1] ~= digest then", NEVER),
    Mutation("create", "an existing job", "if known[3] then", NEVER),
    Mutation("create", "an unmanaged hash", "if redis.call('EXISTS', job_hash) == 1 then", NEVER, "unknown-fields"),
    Mutation("create", "the event", "emit('changed', job)", ""),
    Mutation("create", "the indexes", "put(job)\n", ""),
    Mutation("delete", "a repeated deletion", "if redis.call('ZSCORE', deletions, mark) then", NEVER),
    Mutation("delete", "If-Match", "if ARGV[3] ~= '' and not", "if false and not"),
    Mutation("delete", "only finished jobs", "if not FINAL[job.status] then", NEVER),
    Mutation("delete", "the indexes", "take(job)\n", ""),
    Mutation("heartbeat", "the lease", "if not job.lease or token ~= job.token then", "if not job.lease then"),
    Mutation("heartbeat", "only new progress counts", "progress ~= '' and progress ~= job.progress", "progress ~= ''"),
    Mutation("release", "the lease", "if lease_is_lost(job, token) then", NEVER),
    Mutation("release", "a repeated release", "if again then return again end", ""),
    Mutation("release", "only leased jobs", "if not job.lease then", NEVER),
    Mutation(
        "reap",
        "only expired leases (two guards)",
        "redis.call('ZRANGE', leases, '-inf', digits(at)",
        "redis.call('ZRANGE', leases, '-inf', '+inf'",
        "expire-leases",
        ("elseif ours and job.lease > at then", "elseif false then"),
    ),
    Mutation("sweep", "only expired jobs", "local over = '(' .. digits(at)", "local over = '+inf'", "expire-leases"),
    Mutation(
        "list",
        "the newest first",
        "if runs[child].created > runs[newest].created",
        "if runs[child].created < runs[newest].created",
    ),
    Mutation("count", "the index states", "if ARGV[1] == '' or ARGV[1] == shelf then", "if shelf ~= 'running' then"),
)


def remove_guard(mutation: Mutation, source: Path) -> None:
    """Remove a guard from the scripts in `source`. Raises `ValueError` unless its text is there exactly once."""
    path = source / "service" / "store" / "lua" / f"{mutation.script}.lua"
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.script}.lua has {text.count(mutation.old)} times {mutation.old!r}")
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
    """Print which checks detect each removed guard."""
    undetected = 0
    print("| script | removed guard | failing checks | model |\n| --- | --- | --- | --- |", flush=True)
    for mutation in MUTATIONS:
        if not all(word in f"{mutation.script} {mutation.guard}" for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            source = Path(folder) / "src"
            shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
            remove_guard(mutation, source)
            checks, is_detected = failing_checks(mutation, source), model_fails(source)
        undetected += not checks and not is_detected
        model = "fails" if is_detected else "-"
        print(f"| {mutation.script} | {mutation.guard} | {', '.join(checks) or '-'} | {model} |", flush=True)
    sys.exit(1 if undetected else 0)


if __name__ == "__main__":
    main()
