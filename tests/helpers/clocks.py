"""Clocks of servers that differ from that of the machine, by libfaketime (Debian's package `libfaketime`)."""

from pathlib import Path
from typing import Final

_LIBRARY: Final = "faketime/libfaketimeMT.so.1"
_FOLDERS: Final = (*Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib"), Path("/usr/local/lib"))
#: Seconds until a server sees that its clock was set.
DELAY: Final = 1.0


def _library() -> Path | None:
    return next((folder / _LIBRARY for folder in _FOLDERS if (folder / _LIBRARY).exists()), None)


def why_not() -> str | None:
    """Return why the clocks of servers cannot be set, if they cannot."""
    return None if _library() else "libfaketime is not installed (`apt-get install libfaketime`)"


class FakeClock:
    """The clock of one server: that of the machine at first, until it is set. Intervals are not affected."""

    def __init__(self, file: Path) -> None:
        """Keep the difference in `file`."""
        self._file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set the clock so many seconds ahead of the machine's, within `DELAY`."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}")
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the server."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
