"""Locks between pytest processes: for what they share, and for tests that measure time under their own load."""

import contextlib
import os
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other processes out of the block that is locked with the same file."""
    with file.open() as lock:
        flock(lock, LOCK_EX)
        yield


class FairLock:
    """A fair readers-writer lock between processes, made of `flock` on two existing files.

    Tests hold `lock_file` shared. A process that waits for it holds `entry_file`, so that later processes do not
    overtake one that waits for exclusive use.
    """

    def __init__(self, lock_file: Path, entry_file: Path) -> None:
        self._lock, self._entry = os.open(lock_file, os.O_RDONLY), os.open(entry_file, os.O_RDONLY)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other processes."""
        self._acquire(LOCK_SH)
        try:
            yield
        finally:
            flock(self._lock, LOCK_UN)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Inside `shared`, wait until no other process holds the lock, and keep others out until the block ends."""
        flock(self._lock, LOCK_UN)  # two processes that wait for exclusive use would block each other
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


#: Shared by all processes that run tests of this checkout. A test that holds it for exclusive use runs alone.
TEST_LOCK = FairLock(Path(__file__), Path(__file__).with_name("__init__.py"))
