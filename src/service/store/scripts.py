"""The Lua scripts: one file per command in `lua/`, with the shared files in front of it."""

from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

_LUA: Final = files(__package__) / "lua"

#: Flags of scripts that write nothing, or that must run when Redis is at its memory limit; most of these free memory.
_FLAGS: Final = {
    "count": "no-writes",
    "list": "no-writes",
    "oldest": "no-writes",
    "delete": "allow-oom",
    "drain": "allow-oom",
    "entries": "allow-oom",
    "examine": "allow-oom",  # it adds only missing entries
    "heartbeat": "allow-oom",  # it adds next to nothing, and without it the worker would lose its job
    "limit": "allow-oom",  # so that reads still work
    "probe": "allow-oom",
    "sweep": "allow-oom",
}

#: Scripts whose effect is not acknowledged to a client, so that `WAITAOF` is not needed.
_UNACKNOWLEDGED: Final = frozenset({"count", "entries", "examine", "limit", "list", "oldest", "probe", "sweep"})
#: Scripts that need the shared code for transitions.
_USES_TRANSITIONS: Final = frozenset(
    {"change", "claim", "delete", "entries", "examine", "heartbeat", "reap", "release"}
)


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


def _load(name: str, *replies: str) -> Script:
    flags = f" flags={_FLAGS[name]}" if name in _FLAGS else ""
    shared = () if name == "probe" else ("prelude", "moves") if name in _USES_TRANSITIONS else ("prelude",)
    text = "\n".join((f"#!lua{flags}", *(_LUA.joinpath(f"{part}.lua").read_text() for part in (*shared, name))))
    sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, frozenset(replies), sha, writes=name not in _UNACKNOWLEDGED)


CREATE: Final = _load("create", "CREATED", "REPLAYED", "EXISTS", "DRAINING")
CHANGE: Final = _load(
    *("change", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "KEY_REUSED", "PRECONDITION_FAILED", "ILLEGAL")
)
CLAIM: Final = _load("claim", "CLAIMED", "KEY_REUSED", "NONE", "DRAINING")
HEARTBEAT: Final = _load("heartbeat", "EXTENDED", "NOT_FOUND", "LEASE_LOST")
RELEASE: Final = _load("release", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "NOT_LEASED", "KEY_REUSED")
REAP: Final = _load("reap", "REAPED")
QUEUE: Final = _load("queue", "CONFIGURED")
DRAIN: Final = _load("drain", "DRAIN")
DELETE: Final = _load("delete", "DELETED", "NOT_FOUND", "PRECONDITION_FAILED", "NOT_FINAL")
LIST: Final = _load("list", "PAGE")
COUNT: Final = _load("count", "COUNTED")
OLDEST: Final = _load("oldest", "OLDEST", "NONE")
SWEEP: Final = _load("sweep", "SWEPT")
LIMIT: Final = _load("limit", "ALLOWED", "LIMITED")
EXAMINE: Final = _load("examine", "EXAMINED")
ENTRIES: Final = _load("entries", "EXAMINED")
#: The readiness check. It takes none of the arguments that the others share, and is not in `ALL`.
PROBE: Final = _load("probe")

ALL: Final = (
    *(CREATE, CHANGE, CLAIM, HEARTBEAT, RELEASE, REAP, QUEUE, DRAIN, DELETE, LIST, COUNT, OLDEST, SWEEP, LIMIT),
    *(EXAMINE, ENTRIES),
)
