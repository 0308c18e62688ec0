"""The settings of a queue, as its field in `queues` holds them."""

import math
import re
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from service.domain.constraints import RETENTION_SECONDS
from service.domain.jobs import Retention

#: The field: whether the queue is paused, how many of its jobs may run (empty for any number), and, if one of them is
#: set, for how many seconds completed, failed and cancelled jobs are kept (empty for the retention of the service). The
#: scripts read it by the same patterns.
_FIELD: Final = re.compile(rb"([0-9]):([0-9]*)(?::([0-9]*):([0-9]*):([0-9]*))?")
#: The field of a queue that has none.
DEFAULT_FIELD: Final = b"0:"
#: A number with more digits is no limit: it exceeds the number of jobs that Redis can hold.
_MAX_DIGITS: Final = 15


class QueueSettings(NamedTuple):
    """The settings of a queue. Those that cannot be read pause it: claims get no job from it."""

    paused: bool
    #: How many jobs may run: 0 of a paused queue, infinite without a limit.
    room: float
    max_running: int | None = None
    retention: Retention | None = None

    @classmethod
    def parse(cls, field: bytes | None) -> Self:
        """Return the settings in a field (`None` for a queue that has none)."""
        match = _FIELD.fullmatch(DEFAULT_FIELD if field is None else field)
        if match is None:
            return cls(paused=True, room=0)
        flag, digits, *ends = match.groups(b"")
        limit = min(float(digits), sys.float_info.max) if digits else math.inf
        paused = flag != b"0" or limit == 0
        retention = Retention(*map(_seconds, ends))
        return cls(
            paused=paused,
            room=0 if paused else limit,
            max_running=_number(digits) or None,
            retention=None if retention == Retention() else retention,
        )


def is_usable(field: bytes) -> bool:
    """Return whether all settings of a field take effect."""
    if _FIELD.fullmatch(field) is None:
        return False
    flag, _, *ends = field.split(b":")
    return flag in {b"0", b"1"} and all(not end or _seconds(end) is not None for end in ends)


def as_arguments(field: bytes) -> Sequence[bytes]:
    """Return the arguments of the script that sets the settings of a field."""
    paused, *numbers = field.split(b":")
    return paused, *(number or b"0" for number in [*numbers, b"", b"", b""][:4])


def _seconds(digits: bytes) -> int | None:
    """Return a retention; `None` also for one that no client can set, which says nothing."""
    seconds = _number(digits)
    return seconds if RETENTION_SECONDS.is_valid(seconds) else None


def _number(digits: bytes) -> int | None:
    return int(digits) if 0 < len(digits) <= _MAX_DIGITS else None
