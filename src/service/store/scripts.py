"""The Lua scripts: one file per verb in `lua/`, the prelude in front of each."""

from importlib.resources import files
from typing import Final, NamedTuple

_LUA: Final = files(__package__) / "lua"

#: Scripts that write nothing, and those that must run when Redis is at its memory limit because they free some.
_FLAGS: Final = {
    "count": "no-writes",
    "list": "no-writes",
    "oldest": "no-writes",
    "delete": "allow-oom",
    "sweep": "allow-oom",
}


class Source(NamedTuple):
    """A script as it is sent to Redis."""

    name: str
    text: str


def _source(name: str) -> Source:
    flags = f" flags={_FLAGS[name]}" if name in _FLAGS else ""
    parts = (_LUA.joinpath(f"{part}.lua").read_text() for part in ("prelude", name))
    return Source(name, "\n".join((f"#!lua{flags}", *parts)))


CREATE: Final = _source("create")
CHANGE: Final = _source("change")
DELETE: Final = _source("delete")
LIST: Final = _source("list")
COUNT: Final = _source("count")
OLDEST: Final = _source("oldest")
SWEEP: Final = _source("sweep")

ALL: Final = (CREATE, CHANGE, DELETE, LIST, COUNT, OLDEST, SWEEP)
