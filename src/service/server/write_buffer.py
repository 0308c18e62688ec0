"""What a connection writes to: the head of an answer and its body leave in one packet."""

import asyncio
from collections import deque
from typing import Any, Final

#: Bytes that wait at most for the end of the event loop's turn.
MAX_BUFFERED_BYTES: Final = 65_536


class FlushScheduler:
    """The transports that have something to send at the end of the event loop's turn, called by it once for all."""

    def __init__(self) -> None:
        self._transports: deque[BufferedTransport] = deque()

    def add(self, transport: "BufferedTransport") -> None:
        """Have `transport` send at the end of this turn."""
        if not self._transports:
            asyncio.get_running_loop().call_soon(self._flush_all)
        self._transports.append(transport)

    def _flush_all(self) -> None:
        try:
            while self._transports:
                self._transports.popleft().flush()
        finally:
            if self._transports:  # one has failed: the others have their turn all the same
                asyncio.get_running_loop().call_soon(self._flush_all)


class BufferedTransport:
    """A transport around another, which sends what is written within one turn of the event loop in one system call."""

    def __init__(self, transport: asyncio.Transport, turn: FlushScheduler) -> None:
        """Write to `transport` at the end of a `turn`."""
        self._transport = transport
        self._flush_scheduler = turn
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn, or at once where there is much."""
        if not self._parts:
            self._flush_scheduler.add(self)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED_BYTES:
            self.flush()

    def close(self) -> None:
        """Close once all is sent."""
        self.flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not taken in yet."""
        return self._size + self._transport.get_write_buffer_size()

    def flush(self) -> None:
        """Send what waits for the end of the turn."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
