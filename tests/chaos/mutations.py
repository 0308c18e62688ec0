"""Take one guard out of one Lua script at a time, and see who notices: the checker under faults, the model, or nobody.

`python -m tests.chaos.mutations [words of a script or guard …]`; 1 if a guard went that nobody missed.
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
    """A guard: its script, what it is for, and the text that is put in its place."""

    script: str
    guard: str
    old: str
    new: str
    faults: str = FAULTS
    #: A second guard for the same thing, which goes with it.
    also: tuple[str, str] = ("\0", "")


GIVE_WAY: Final = "if false then"
MUTATIONS: Final = (
    Mutation("prelude", "too late to run", "if now() > not_after then", GIVE_WAY, "stop-redis,stop-redis"),
    Mutation("moves", "leaving the old shelf", "  take(job)\n  put(moved)", "  put(moved)"),
    Mutation("moves", "entering the new shelf", "  take(job)\n  put(moved)", "  take(job)"),
    Mutation("moves", "the event of a change", "if not quiet then emit('changed', moved) end", ""),
    Mutation("moves", "nothing but progress goes without an event", "local quiet = what.progress and", "local quiet ="),
    Mutation("moves", "the revision", "revision = job.revision + 1,", "revision = job.revision,"),
    Mutation("moves", "remembering the change", "if what.change then also('_change', what.change) end", ""),
    Mutation(
        "moves", "another content under a known key", "if job.last_change ~= change_id .. ':' .. digest then", GIVE_WAY
    ),
    Mutation("moves", "the end of the lease", "else without('lease_expires_at') end", "end"),
    Mutation("moves", "counting failures", "(what.failed and not job.cancel and 1 or 0)", "0"),
    Mutation("change", "the lease", "if not asks and lease_is_lost(job, token) then", GIVE_WAY),
    Mutation(
        "change", "what was done to a deleted job", "if not job or is_of_deleted(id, change_id) then", "if not job then"
    ),
    Mutation(
        "release",
        "what was done to a deleted job",
        "if not job or is_of_deleted(id, change_id) then",
        "if not job then",
    ),
    Mutation("change", "the same change again", "if again then return again end", ""),
    Mutation("change", "the same end again", "if job.status == target and FINAL[target] and", "if false and"),
    Mutation("change", "asked to stop already", "if asks and job.cancel then", GIVE_WAY),
    Mutation("change", "If-Match", "if ARGV[8] ~= '' and not", "if false and not"),
    Mutation("change", "legal moves", "if not contains(ARGV[7], job.status) or", "if false or"),
    Mutation(
        "change", "progress that is new", "or (progress and (not given.progress or given.progress == job.progress))", ""
    ),
    Mutation("claim", "the same claim again", "if job and job.lease and job.token == token then", GIVE_WAY),
    Mutation("claim", "another claim under a known key", "if id and claimed_digest ~= digest then", GIVE_WAY),
    Mutation(
        "claim",
        "remembering the claim",
        "redis.call('SET', claim, table.concat({ token, best, digest }, ' '), 'PX', ARGV[7])",
        "",
    ),
    Mutation("claim", "paused queues", "if paused ~= '0' then return false end", ""),
    Mutation("claim", "the oldest first", "if id then best, created = id, at end", "if id then best = id end"),
    Mutation("queue", "a setting that is left out", "if ARGV[2] ~= '' then paused = ARGV[2] end", "paused = ARGV[2]"),
    Mutation("create", "another job of this id", "if known[1] ~= digest then", GIVE_WAY),
    Mutation("create", "a job that is there", "if known[3] then", GIVE_WAY),
    Mutation(
        "create", "a hash that is not ours", "if redis.call('EXISTS', job_hash) == 1 then", GIVE_WAY, "foreign-fields"
    ),
    Mutation("create", "the event", "emit('changed', job)", ""),
    Mutation("create", "the indexes", "put(job)\n", ""),
    Mutation("delete", "the same deletion again", "if redis.call('ZSCORE', deletions, mark) then", GIVE_WAY),
    Mutation("delete", "If-Match", "if ARGV[3] ~= '' and not", "if false and not"),
    Mutation("delete", "only what has ended", "if not FINAL[job.status] then", GIVE_WAY),
    Mutation("delete", "the indexes", "take(job)\n", ""),
    Mutation("heartbeat", "the lease", "if not job.lease or token ~= job.token then", "if not job.lease then"),
    Mutation("heartbeat", "progress that is new", "progress ~= '' and progress ~= job.progress", "progress ~= ''"),
    Mutation("release", "the lease", "if lease_is_lost(job, token) then", GIVE_WAY),
    Mutation("release", "the same release again", "if again then return again end", ""),
    Mutation("release", "only what is leased", "if not job.lease then", GIVE_WAY),
    Mutation(
        "reap",
        "only leases that have run out (two guards)",
        "redis.call('ZRANGE', leases, '-inf', digits(at)",
        "redis.call('ZRANGE', leases, '-inf', '+inf'",
        "an-hour",
        ("elseif ours and job.lease > at then", "elseif false then"),
    ),
    Mutation("sweep", "only what has expired", "local over = '(' .. digits(at)", "local over = '+inf'", "an-hour"),
    Mutation(
        "list",
        "the newest first",
        "if runs[child].created > runs[newest].created",
        "if runs[child].created < runs[newest].created",
    ),
    Mutation("count", "the shelves", "if ARGV[1] == '' or ARGV[1] == shelf then", "if shelf ~= 'running' then"),
)


def removed(mutation: Mutation, source: Path) -> None:
    """Take a guard out of the scripts in `source`. Raises `ValueError` where it is not there exactly once."""
    path = source / "service" / "store" / "lua" / f"{mutation.script}.lua"
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.script}.lua has {text.count(mutation.old)} times {mutation.old!r}")
    path.write_text(text.replace(mutation.old, mutation.new).replace(*mutation.also))


def checks_under_faults(mutation: Mutation, source: Path) -> list[str]:
    """Return which checks find something in a few rounds."""
    rounds = str(len(mutation.faults.split(",")))
    asked = [rounds, "1", "--clients", "16", "--only", mutation.faults, "--source", str(source)]
    run = _run([sys.executable, "-m", "tests.chaos", *asked])
    found = sorted(set(re.findall(r"^     (\w+): ", run.stdout, re.MULTILINE)))
    return found or ([] if run.returncode == 0 else ["a complaint" if "violations" in run.stdout else "no start"])


def is_seen_by_the_model(source: Path) -> bool:
    """Say whether the model of the contract finds something."""
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
    """Print who missed which guard."""
    missed_by_nobody = 0
    print("| script | without | checks under faults | model |\n| --- | --- | --- | --- |", flush=True)
    for mutation in MUTATIONS:
        if not all(word in f"{mutation.script} {mutation.guard}" for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            source = Path(folder) / "src"
            shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
            removed(mutation, source)
            checks, is_seen = checks_under_faults(mutation, source), is_seen_by_the_model(source)
        missed_by_nobody += not checks and not is_seen
        seen = "sees it" if is_seen else "-"
        print(f"| {mutation.script} | {mutation.guard} | {', '.join(checks) or '-'} | {seen} |", flush=True)
    sys.exit(1 if missed_by_nobody else 0)


if __name__ == "__main__":
    main()
