"""Ends the processes of tests that end without doing so, such as those of pytest-xdist after Ctrl-C."""

import signal
import subprocess
from typing import Final

#: The pipe has two ends: that of the tests is closed when their process ends, in whatever way.
_SCRIPT: Final = 'read line; kill -"$2" "$1"'


class Guard:
    """Sends a signal to a process when this process ends before `close`."""

    def __init__(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "sh", str(process.pid), str(int(number))],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def close(self) -> None:
        self._shell.kill()
        self._shell.communicate()
