"""Timeouts of a connection: for a request that does not arrive, and for a response that the client does not read."""

import asyncio
from collections.abc import Callable
from typing import Any


class _Timeout:
    """A timer that runs at most once at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Stop the timer if it runs."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _start(self, on_expired: Callable[..., None], *args: Any) -> None:
        self.stop()
        self._handle = self._loop.call_later(self._seconds, on_expired, *args)


class ReadTimeout(_Timeout):
    """Calls `on_expired` when a request has not arrived completely after `seconds`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, on_expired: Callable[[], None]) -> None:
        super().__init__(loop, seconds)
        self._on_expired = on_expired

    @property
    def is_running(self) -> bool:
        """Whether a request is being waited for."""
        return self._handle is not None

    def start(self) -> None:
        """Start the timer, or start it again."""
        self._start(self._on_expired)


class WriteTimeout(_Timeout):
    """Aborts a connection whose client reads nothing for `seconds` while the write buffer is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, transport: asyncio.WriteTransport) -> None:
        super().__init__(loop, seconds)
        self._transport = transport

    def start(self) -> None:
        """Start the timer, or start it again."""
        self._start(self._on_expired, self._transport.get_write_buffer_size())

    def _on_expired(self, size_before: int) -> None:
        if self._transport.get_write_buffer_size() < size_before:  # slow, but reading
            self.start()
        else:
            self._transport.abort()
