"""Write buffering: the head and the body of a response leave in one packet."""

import asyncio
from collections import deque
from typing import Any, Final

#: Maximum bytes that wait for the end of the event loop's iteration.
MAX_BUFFERED_BYTES: Final = 65_536


class FlushScheduler:
    """Flushes all transports with buffered data at the end of the event loop's iteration, with one callback."""

    def __init__(self) -> None:
        self._transports: deque[BufferedTransport] = deque()

    def add(self, transport: "BufferedTransport") -> None:
        """Flush `transport` at the end of this iteration."""
        if not self._transports:
            asyncio.get_running_loop().call_soon(self._flush_all)
        self._transports.append(transport)

    def _flush_all(self) -> None:
        try:
            while self._transports:
                self._transports.popleft().flush()
        finally:
            if self._transports:  # a flush has raised: the others follow in the next iteration
                asyncio.get_running_loop().call_soon(self._flush_all)


class BufferedTransport:
    """Wraps a transport. Sends the data written in one iteration of the event loop with one system call."""

    def __init__(self, transport: asyncio.Transport, flush_scheduler: FlushScheduler) -> None:
        """Write to `transport` when `flush_scheduler` flushes."""
        self._transport = transport
        self._flush_scheduler = flush_scheduler
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this iteration, or immediately if more than `MAX_BUFFERED_BYTES` wait."""
        if not self._parts:
            self._flush_scheduler.add(self)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED_BYTES:
            self.flush()

    def close(self) -> None:
        """Flush, then close."""
        self.flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes not yet handed to the operating system."""
        return self._size + self._transport.get_write_buffer_size()

    def flush(self) -> None:
        """Send the buffered data now."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
