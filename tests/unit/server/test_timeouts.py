from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from service.server.timeouts import Timeout, WriteTimeout


class FakeLoop:
    """Runs timers when the test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, seconds: float, callback: Callable[..., None], *args: Any) -> Any:
        timer = (seconds, callback, args)
        self.timers.append(timer)

        def cancel() -> None:
            self.timers = [one for one in self.timers if one is not timer]

        return SimpleNamespace(cancel=cancel)

    def expire(self) -> None:
        [(_, callback, args)] = self.timers
        self.timers.clear()
        callback(*args)


class FakeTransport:
    def __init__(self, size: int) -> None:
        self.size = size
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.is_aborted = True


def test_a_read_timeout_expires_once_unless_it_is_stopped() -> None:
    loop, expired = FakeLoop(), list[bool]()
    timeout = Timeout(loop, 30, lambda: expired.append(True))  # type: ignore[arg-type]
    timeout.start()
    timeout.start()
    assert [seconds for seconds, _, _ in loop.timers] == [30]
    assert timeout.is_running
    loop.expire()
    assert expired == [True]
    timeout.start()
    timeout.stop()
    assert (loop.timers, timeout.is_running) == ([], False)


def test_a_write_timeout_aborts_a_connection_only_when_its_client_has_read_nothing() -> None:
    loop, transport = FakeLoop(), FakeTransport(100)
    WriteTimeout(loop, 30, transport).start()  # type: ignore[arg-type]
    transport.size = 99
    loop.expire()
    assert not transport.is_aborted
    loop.expire()
    assert transport.is_aborted
    assert loop.timers == []
