"""Which signals shut the service down, and which it leaves unchanged."""

import signal
import subprocess
import sys

#: Signals that stop a process until SIGCONT.
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
#: Signals that report a fault of the process itself.
FAULTS = set(
    (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP)
)


def signals(program: str) -> set[int]:
    """Run a program that prints signal numbers, in a process whose signals have their default actions."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return set(map(int, done.stdout.split()))


def terminates(number: int) -> bool:
    """Return whether the default action of a signal terminates a process."""
    done = subprocess.run(["sh", "-c", f"ulimit -c 0; kill -{number} $$; exit 0"], capture_output=True, timeout=30)
    return done.returncode == -number


def test_every_signal_that_terminates_a_process_is_handled_or_reports_a_fault() -> None:
    handled = signals(
        "import signal; from service.server.signals import end_as_sigint; end_as_sigint();"
        "print(*(int(n) for n in signal.valid_signals() if callable(signal.getsignal(n))))"
    )
    ignored = signals(
        "import signal; print(*(int(n) for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN))"
    )
    candidates = set(map(int, signal.valid_signals())) - {signal.SIGKILL} - STOPPING - ignored
    terminating = {number for number in candidates if terminates(number)}

    assert {signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGRTMIN} < terminating
    assert terminating - handled == FAULTS
    assert handled <= terminating


def test_a_signal_that_is_ignored_or_has_a_handler_keeps_it() -> None:
    changed = signals(
        "import signal; from service.server.signals import end_as_sigint;"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGUSR1, print);"
        "before = {n: signal.getsignal(n) for n in signal.valid_signals()}; end_as_sigint();"
        "print(*(int(n) for n in before if signal.getsignal(n) != before[n]))"
    )
    assert not changed & {signal.SIGHUP, signal.SIGUSR1, signal.SIGINT}
    assert {signal.SIGQUIT, signal.SIGUSR2} <= changed


def test_a_signal_terminates_a_process_that_ignores_sigint() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import signal; from service.server.signals import end_as_sigint;"
            "signal.signal(signal.SIGINT, signal.SIG_IGN); end_as_sigint();"
            "signal.raise_signal(signal.SIGINT); print('ignored');"
            "signal.raise_signal(signal.SIGUSR1); print('not ended')",
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.stdout == "ignored\n"
    assert "KeyboardInterrupt" in ended.stderr
