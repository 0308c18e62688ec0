"""Timeouts of a connection: for a request that does not arrive, and for a response that the client does not read."""

import asyncio
from collections.abc import Callable
from typing import Any


class Timeout:
    """A timer that runs at most once at a time. It calls `on_expired` after `seconds`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, on_expired: Callable[..., None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._on_expired = on_expired
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether the timer was started, and not stopped since."""
        return self._handle is not None

    def start(self, *args: Any) -> None:
        """Start the timer, or start it again; `on_expired` gets `args`."""
        self.stop()
        self._handle = self._loop.call_later(self._seconds, self._on_expired, *args)

    def stop(self) -> None:
        """Stop the timer if it runs."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class WriteTimeout(Timeout):
    """Aborts a connection whose client reads nothing for `seconds` while the write buffer is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, transport: asyncio.WriteTransport) -> None:
        super().__init__(loop, seconds, self._check)
        self._transport = transport

    def start(self, *_: Any) -> None:
        """Start the timer, or start it again."""
        super().start(self._transport.get_write_buffer_size())

    def _check(self, size_before: int) -> None:
        if self._transport.get_write_buffer_size() < size_before:  # slow, but reading
            self.start()
        else:
            self._transport.abort()
