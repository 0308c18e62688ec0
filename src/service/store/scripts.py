"""The Lua scripts: one file per command in `lua/`, with the shared files in front of it."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

_LUA: Final = files(__package__) / "lua"


class Script(NamedTuple):
    """A Lua script as sent to Redis."""

    name: str
    text: str
    #: The words that the reply may start with.
    replies: frozenset[str]
    #: The SHA-1 of the text, for `EVALSHA`.
    sha: str
    #: Whether the reply may acknowledge a change, made by this call or by an earlier one that it repeats.
    writes: bool


def _load(
    name: str, *replies: str, shared: Sequence[str] = ("prelude",), flags: str = "", acknowledges: bool = True
) -> Script:
    """Return the script in the file `name`, with the files `shared` in front of it and these `flags`.

    `no-writes` is the flag of scripts that write nothing, `allow-oom` that of scripts that must run when Redis is at
    its memory limit; most of these free memory. `WAITAOF` is needed only for scripts that acknowledge a change.
    """
    first_line = f"#!lua flags={flags}" if flags else "#!lua"
    text = "\n".join((first_line, *(_LUA.joinpath(f"{part}.lua").read_text() for part in (*shared, name))))
    sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, frozenset(replies), sha, writes=acknowledges)


#: The shared code of scripts that make transitions.
_MOVES: Final = ("prelude", "moves")

CREATE: Final = _load("create", "CREATED", "REPLAYED", "EXISTS", "DRAINING")
CHANGE: Final = _load(
    *("change", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "KEY_REUSED", "PRECONDITION_FAILED", "ILLEGAL"),
    shared=_MOVES,
)
CLAIM: Final = _load("claim", "CLAIMED", "KEY_REUSED", "NONE", "DRAINING", shared=_MOVES)
#: It adds next to nothing, and without it the worker would lose its job.
HEARTBEAT: Final = _load("heartbeat", "EXTENDED", "NOT_FOUND", "LEASE_LOST", shared=_MOVES, flags="allow-oom")
RELEASE: Final = _load(
    *("release", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "NOT_LEASED", "KEY_REUSED"), shared=_MOVES
)
REAP: Final = _load("reap", "REAPED", shared=_MOVES)
QUEUE: Final = _load("queue", "CONFIGURED")
DRAIN: Final = _load("drain", "DRAIN", flags="allow-oom")
DELETE: Final = _load(
    *("delete", "DELETED", "NOT_FOUND", "PRECONDITION_FAILED", "NOT_FINAL"), shared=_MOVES, flags="allow-oom"
)
LIST: Final = _load("list", "PAGE", flags="no-writes", acknowledges=False)
COUNT: Final = _load("count", "COUNTED", flags="no-writes", acknowledges=False)
OLDEST: Final = _load("oldest", "OLDEST", "NONE", flags="no-writes", acknowledges=False)
SWEEP: Final = _load("sweep", "SWEPT", flags="allow-oom", acknowledges=False)
#: `allow-oom`, so that reads still work.
LIMIT: Final = _load("limit", "ALLOWED", "LIMITED", flags="allow-oom", acknowledges=False)
#: It adds only missing entries.
EXAMINE: Final = _load("examine", "EXAMINED", shared=_MOVES, flags="allow-oom", acknowledges=False)
ENTRIES: Final = _load("entries", "EXAMINED", shared=_MOVES, flags="allow-oom", acknowledges=False)
#: The readiness check. It takes none of the arguments that the others share, and is not in `ALL`.
PROBE: Final = _load("probe", shared=(), flags="allow-oom", acknowledges=False)

ALL: Final = (
    *(CREATE, CHANGE, CLAIM, HEARTBEAT, RELEASE, REAP, QUEUE, DRAIN, DELETE, LIST, COUNT, OLDEST, SWEEP, LIMIT),
    *(EXAMINE, ENTRIES),
)
