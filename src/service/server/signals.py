"""Signals that terminate a process: all of them shut this one down in order, with its child processes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

#: Signals that do not terminate a process, that cannot be handled, or that report a fault of the process itself.
_UNHANDLED: Final = {
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGKILL, signal.SIGSTOP),
    *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP),
    *(getattr(signal, name, signal.SIGCHLD) for name in ("SIGEMT", "SIGINFO")),  # on BSD and macOS
}


def exit_on_signals(sigterm_code: int = 0) -> None:
    """Exit through every `finally` on a signal that would terminate the process; on SIGTERM with this exit code."""
    signal.signal(signal.SIGTERM, partial(_exit, sigterm_code))
    end_as_sigint()


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Call the handlers of signals that arrive in the `with` block after it.

    For imports: Python ignores what a handler raises in the callback of a weak reference, of which the import of a
    module has several, and replaces what it raises while a class is created by a `RuntimeError`. A signal mask does
    not help, because another thread of the process then gets the signal, and its handler runs all the same.
    """
    received: list[int] = []
    numbers = signal.valid_signals() - _UNHANDLED
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda received_number, _: received.append(received_number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived in received:  # the first may raise
            signal.raise_signal(arrived)


def end_as_sigint() -> None:
    """Make every signal whose default action terminates the process act like SIGINT.

    A signal that is ignored (`nohup`) or already has a handler stays as it is.
    """
    for number in signal.valid_signals() - _UNHANDLED:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _exit(code: int, *_: Any) -> None:
    raise SystemExit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:  # a closing terminal sends it several times, and a second SIGINT skips the wait
        signal.signal(number, signal.SIG_IGN)
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # SIGINT is ignored or has its default action
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
