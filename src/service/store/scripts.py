"""The Lua scripts: one file per command in `lua/`, linked with the functions that it uses from `lua/lib/`."""

import re
from collections.abc import Iterator
from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

_LUA: Final = files(__package__) / "lua"
#: The libraries. A definition uses only definitions before it.
_LIBRARIES: Final = (
    *("common", "times", "writes", "indexes", "events", "records", "requests", "transitions", "creation", "actions"),
    *("walk", "bulk"),
)
#: What names no definition: comments, and keys of tables.
_IGNORED: Final = re.compile(r"--.*|(?<=[{,])\s*\w+ =(?!=)")
_NAME: Final = re.compile(r"(?<![\w.:'])[A-Za-z_]\w*")
#: A definition of a library with its comment, as far as the next one.
_NEXT_DEFINITION: Final = re.compile(r"\n\n(?=--|local )")
#: A paragraph of a script begins behind an empty line, and not within a block.
_PARAGRAPH: Final = re.compile(r"\n\n(?=\S)")
_DEFINED: Final = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)


class Script(NamedTuple):
    """A Lua script as sent to Redis."""

    name: str
    text: str
    #: The words that the reply may start with, or that to one of several jobs.
    replies: frozenset[str]
    #: The SHA-1 of the text, for `EVALSHA`.
    sha: str
    #: Whether the reply may acknowledge a change, made by this call or by an earlier one that it repeats.
    writes: bool


def _read(name: str) -> str:
    return _LUA.joinpath(f"{name}.lua").read_text(encoding="utf-8").rstrip()


_DEFINITIONS: Final = {
    defined[1]: text
    for library in _LIBRARIES
    for text in _NEXT_DEFINITION.split(_read(f"lib/{library}"))
    if (defined := _DEFINED.search(text))
}


def _names_in(text: str) -> frozenset[str]:
    return frozenset(_NAME.findall(_IGNORED.sub("", text)))


#: The names in each definition, from the last one to the first: it uses only definitions before it.
_USES: Final = {defined: _names_in(text) for defined, text in reversed(_DEFINITIONS.items())}


def _linked(name: str) -> Iterator[str]:
    """Yield each paragraph of the script in the file `name`, after the definitions that no paragraph before it needed.

    Redis runs all of a script at each call, so a function that it does not use would cost each call about 0.1 µs. A
    call that ends early does without those of the paragraphs that it does not reach.
    """
    linked: set[str] = set()
    for paragraph in _PARAGRAPH.split(_read(name)):
        used, missing = set(_names_in(paragraph)), []
        for defined, names in _USES.items():
            if defined in used and defined not in linked:
                used |= names
                missing.append(defined)
        linked.update(missing)
        yield from (_DEFINITIONS[defined] for defined in reversed(missing))
        yield paragraph


def _load(name: str, *replies: str, flags: str = "", acknowledges: bool = True) -> Script:
    """Return the script in the file `name`, with these `flags`.

    `no-writes` is the flag of scripts that write nothing, `allow-oom` that of scripts that must run when Redis is at
    its memory limit; most of these free memory. `WAITAOF` is needed only for scripts that acknowledge a change.
    """
    first_line = f"#!lua flags={flags}" if flags else "#!lua"
    text = "\n\n".join((f"{first_line}\n{_read('header')}", *_linked(name)))
    return _script(name, text, replies, acknowledges)


def _script(name: str, text: str, replies: tuple[str, ...] = (), acknowledges: bool = False) -> Script:
    sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, frozenset(replies), sha, writes=acknowledges)


CREATE: Final = _load("create", "CREATED", "REPLAYED", "EXISTS", "DRAINING")
CREATE_MANY: Final = _load("create_many", "JOBS", "CREATED", "REPLAYED", "EXISTS", "DRAINING", "ERROR")
UPDATE: Final = _load(
    *("update", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "KEY_REUSED", "PRECONDITION_FAILED"),
    *("BEFORE_RETRY", "ILLEGAL_TRANSITION"),
)
RETRY: Final = _load(
    *("retry", "CHANGED", "UNCHANGED", "NOT_FOUND", "KEY_REUSED", "PRECONDITION_FAILED", "ILLEGAL_TRANSITION")
)
CLAIM: Final = _load("claim", "CLAIMED", "KEY_REUSED", "NONE", "DELAY_OVER", "DRAINING")
#: A claim that follows relies on it.
AIM: Final = _load("aim", "MADE", "KNOWN", "NONE")
#: `allow-oom`, so that a gate can be left.
GATE: Final = _load("gate", "HELD", "LEFT", "BUSY", flags="allow-oom", acknowledges=False)
#: It adds next to nothing, and without it the worker would lose its job.
HEARTBEAT: Final = _load("heartbeat", "EXTENDED", "NOT_FOUND", "LEASE_LOST", flags="allow-oom")
RELEASE: Final = _load(
    *("release", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "NOT_LEASED", "KEY_REUSED"),
)
REAP: Final = _load("reap", "REAPED")
TIME_OUT: Final = _load("time_out", "TIMED_OUT")
END_DELAYS: Final = _load("end_delays", "ENDED", acknowledges=False)
CONFIGURE_QUEUE: Final = _load("configure_queue", "CONFIGURED")
DRAIN: Final = _load("drain", "DRAIN", flags="allow-oom")
DELETE: Final = _load(
    *("delete", "DELETED", "NOT_FOUND", "PRECONDITION_FAILED", "NOT_FINAL"),
    flags="allow-oom",
)
#: Scripts of bulk actions are `allow-oom`, so that jobs can be deleted; only the one that changes jobs adds much.
BULK_START: Final = _load("bulk_start", "STARTED", "REPLAYED", "KEY_REUSED", flags="allow-oom")
BULK_ABORT: Final = _load("bulk_abort", "ABORTED", "NONE", flags="allow-oom")
BULK_TAKE: Final = _load("bulk_take", "TAKEN", "HELD", "ENDED", "NONE", flags="allow-oom", acknowledges=False)
BULK_COUNT: Final = _load("bulk_count", "STEPPED", flags="allow-oom")
BULK_CHANGE: Final = _load("bulk_change", "STEPPED")
BULK_DELETE: Final = _load("bulk_delete", "STEPPED", flags="allow-oom")
LIST: Final = _load("list", "PAGE", flags="no-writes", acknowledges=False)
COUNT: Final = _load("count", "COUNTED", "MORE", flags="no-writes", acknowledges=False)
FIND_OLDEST: Final = _load("find_oldest", "OLDEST", "NONE", flags="no-writes", acknowledges=False)
FIND_DUE: Final = _load("find_due", "FOUND", flags="no-writes", acknowledges=False)
SWEEP: Final = _load("sweep", "SWEPT", flags="allow-oom", acknowledges=False)
WRITE_VERSION: Final = _load("write_version", "VERSION", flags="allow-oom", acknowledges=False)
#: `allow-oom`, so that reads still work.
RATE_LIMIT: Final = _load("rate_limit", "ALLOWED", "LIMITED", flags="allow-oom", acknowledges=False)
#: It adds only missing entries.
CHECK_JOBS: Final = _load("check_jobs", "CHECKED", flags="allow-oom", acknowledges=False)
CHECK_ENTRIES: Final = _load("check_entries", "CHECKED", flags="allow-oom", acknowledges=False)
#: The readiness check. It takes none of the arguments that the others share, and is not in `ALL`.
PROBE: Final = _script("probe", f"#!lua flags=allow-oom\n{_read('probe')}")

ALL: Final = (
    *(CREATE, CREATE_MANY, UPDATE, RETRY, CLAIM, AIM, GATE, HEARTBEAT, RELEASE, REAP, TIME_OUT, END_DELAYS),
    *(CONFIGURE_QUEUE, DRAIN, DELETE, LIST, COUNT, FIND_OLDEST, FIND_DUE, SWEEP, WRITE_VERSION, RATE_LIMIT),
    *(BULK_START, BULK_ABORT, BULK_TAKE, BULK_COUNT, BULK_CHANGE, BULK_DELETE, CHECK_JOBS, CHECK_ENTRIES),
)
