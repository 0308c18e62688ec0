"""Clocks of servers that differ from that of the machine, by a small library that is preloaded (`fake_clock.c`).

Debian's libfaketime does not work with a Redis that uses jemalloc: it hangs at its start.
"""

import atexit
import functools
import mmap
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("fake_clock.c")


@functools.cache
def why_not() -> str | None:
    """Return why the clocks of servers cannot be set, if they cannot."""
    if sys.platform != "linux":
        return "it takes Linux"
    return None if shutil.which("cc") else "`cc` is not installed"


@functools.cache
def _library() -> Path:
    folder = tempfile.mkdtemp(prefix="fake-clock-")
    atexit.register(shutil.rmtree, folder)
    library = Path(folder) / "fake_clock.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)], check=True)
    return library


class FakeClock:
    """The clock of one server: that of the machine at first, until it is set. Intervals are not affected."""

    def __init__(self, file: Path) -> None:
        """Keep the difference in `file`."""
        file.write_bytes(bytes(8))
        self._file = file

    def set(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the machine's, at once."""
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as micros:
            micros[:] = struct.pack("q", round(seconds * 1e6))

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the server."""
        return {"LD_PRELOAD": str(_library()), "FAKE_CLOCK": str(self._file)}
