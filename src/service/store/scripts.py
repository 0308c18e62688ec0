"""The Lua scripts: one file per verb in `lua/`, the prelude in front of each, and how a job moves where one does."""

from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

_LUA: Final = files(__package__) / "lua"

#: Scripts that write nothing, and those that must run when Redis is at its memory limit, most because they free some.
_FLAGS: Final = {
    "count": "no-writes",
    "list": "no-writes",
    "oldest": "no-writes",
    "delete": "allow-oom",
    "drain": "allow-oom",
    "entries": "allow-oom",
    "examine": "allow-oom",  # it only adds what is missing
    "heartbeat": "allow-oom",  # it adds next to nothing, and a worker that is not heard of loses its job
    "limit": "allow-oom",  # so that what is stored can be read on
    "sweep": "allow-oom",
}

#: Scripts that change nothing of which anybody is assured.
_UNACKNOWLEDGED: Final = frozenset({"count", "entries", "examine", "limit", "list", "oldest", "sweep"})
#: Scripts that move jobs.
_USES_TRANSITIONS: Final = frozenset(
    {"change", "claim", "delete", "entries", "examine", "heartbeat", "reap", "release"}
)


class Script(NamedTuple):
    """A script as it is sent to Redis, and the words that its reply may begin with."""

    name: str
    text: str
    replies: frozenset[str]
    sha: str
    """What Redis knows it by once it is loaded: the SHA-1 of its text."""
    writes: bool
    """Whether what it answers may be of a change: its own, or one that it finds made before."""


def _source(name: str, *words: str) -> Script:
    flags = f" flags={_FLAGS[name]}" if name in _FLAGS else ""
    parts = ("prelude", "moves", name) if name in _USES_TRANSITIONS else ("prelude", name)
    texts = (_LUA.joinpath(f"{part}.lua").read_text() for part in parts)
    text = "\n".join((f"#!lua{flags}", *texts))
    writes = name not in _UNACKNOWLEDGED
    return Script(name, text, frozenset(words), sha1(text.encode(), usedforsecurity=False).hexdigest(), writes)


CREATE: Final = _source("create", "CREATED", "REPLAYED", "EXISTS", "DRAINING")
CHANGE: Final = _source(
    *("change", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "KEY_REUSED", "PRECONDITION_FAILED", "ILLEGAL")
)
CLAIM: Final = _source("claim", "CLAIMED", "KEY_REUSED", "NONE", "DRAINING")
HEARTBEAT: Final = _source("heartbeat", "EXTENDED", "NOT_FOUND", "LEASE_LOST")
RELEASE: Final = _source("release", "CHANGED", "UNCHANGED", "NOT_FOUND", "LEASE_LOST", "NOT_LEASED", "KEY_REUSED")
REAP: Final = _source("reap", "REAPED")
QUEUE: Final = _source("queue", "CONFIGURED")
DRAIN: Final = _source("drain", "DRAIN")
DELETE: Final = _source("delete", "DELETED", "NOT_FOUND", "PRECONDITION_FAILED", "NOT_FINAL")
LIST: Final = _source("list", "PAGE")
COUNT: Final = _source("count", "COUNTED")
OLDEST: Final = _source("oldest", "OLDEST", "NONE")
SWEEP: Final = _source("sweep", "SWEPT")
LIMIT: Final = _source("limit", "ALLOWED", "LIMITED")
EXAMINE: Final = _source("examine", "EXAMINED")
ENTRIES: Final = _source("entries", "EXAMINED")

ALL: Final = (
    *(CREATE, CHANGE, CLAIM, HEARTBEAT, RELEASE, REAP, QUEUE, DRAIN, DELETE, LIST, COUNT, OLDEST, SWEEP, LIMIT),
    *(EXAMINE, ENTRIES),
)
