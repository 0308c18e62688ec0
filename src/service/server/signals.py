"""Signals that end a process: all end this one in order, so that it leaves no server and no worker running."""

import signal
from types import FrameType
from typing import Final

#: Signals that do not end a process, cannot be handled, or report a fault of the process itself.
_UNHANDLED: Final = {
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGKILL, signal.SIGSTOP),
    *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP),
    *(getattr(signal, name, signal.SIGCHLD) for name in ("SIGEMT", "SIGINFO")),  # of BSD and macOS
}


def end_as_sigint() -> None:
    """Let every signal whose default action ends the process act as SIGINT does.

    A signal that is ignored (`nohup`) or has a handler keeps it.
    """
    for number in signal.valid_signals() - _UNHANDLED:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:  # a closed terminal sends it more than once, and a second SIGINT means "at once"
        signal.signal(number, signal.SIG_IGN)
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # SIGINT is ignored or ends the process
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
