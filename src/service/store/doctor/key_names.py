"""What a key is, by its name."""

from typing import Final, NamedTuple

from service.domain import constraints
from service.domain.states import Status
from service.store import keys

SHELVES: Final = frozenset({*Status, "delayed"})
#: Names that a part of a client's request is in, or a digest of it; and those that a queue and a shelf are in.
_OF_CLIENTS: Final = frozenset({"claim", "limit"})
_OF_SHELVES: Final = frozenset({"list", "exp"})
_JOB: Final = keys.job("")
#: What all our names begin with.
COMMON: Final = "job*"


class KeyName(NamedTuple):
    """A key of ours: `job` or what stands behind the root, then what it is of."""

    kind: str
    of: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The type that Redis says it has."""
        return keys.TYPES.get(self.kind, "hash")


def is_ours(name: bytes) -> bool:
    """Say whether a name is under those that we use."""
    return name.startswith((_JOB.encode(), keys.ROOT.encode()))


def parse(name: bytes) -> KeyName | None:
    """Return what a key is; `None` for one that we do not write."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        return None
    if text.startswith(_JOB):
        job_id = text.removeprefix(_JOB)
        return KeyName("job", (job_id,)) if constraints.JOB_ID.is_valid(job_id) else None
    kind, *of = text.removeprefix(keys.ROOT).split(":")
    return KeyName(kind, tuple(of)) if kind in keys.TYPES and _can_be(kind, of) else None


def _can_be(kind: str, of: list[str]) -> bool:
    if kind in _OF_SHELVES:
        return len(of) == 2 and constraints.QUEUE.is_valid(of[0]) and of[1] in SHELVES
    return len(of) == 1 if kind in _OF_CLIENTS else not of
