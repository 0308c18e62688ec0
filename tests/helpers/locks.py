"""Where tests run in several processes: what measures time under a load of its own has the machine to itself."""

import contextlib
import os
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path


class FairLock:
    """A process's part in two locks of the system, on files that are there.

    All who run a test share the room. Who goes in keeps the door shut meanwhile, so that one who waits there until the
    others have left has nobody come in before.
    """

    def __init__(self, room: Path, door: Path) -> None:
        self._lock, self._entry = os.open(room, os.O_RDONLY), os.open(door, os.O_RDONLY)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Run a test beside those of other processes."""
        self._acquire(LOCK_SH)
        try:
            yield
        finally:
            flock(self._lock, LOCK_UN)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Inside `shared`, wait until no other process runs a test, and let none begin before the end of the block."""
        flock(self._lock, LOCK_UN)  # else two who both want to be alone would wait for one another
        self._acquire(LOCK_EX)
        try:
            yield
        finally:
            flock(self._lock, LOCK_UN)
            self._acquire(LOCK_SH)

    def _acquire(self, kind: int) -> None:
        flock(self._entry, LOCK_EX)
        try:
            flock(self._lock, kind)
        finally:
            flock(self._entry, LOCK_UN)


#: Of all processes that run tests of this folder.
TEST_LOCK = FairLock(Path(__file__), Path(__file__).with_name("__init__.py"))
