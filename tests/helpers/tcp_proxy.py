"""A TCP proxy before Redis that injects faults: refused, reset, silent or slow connections, and lost replies."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Self


class Fault(StrEnum):
    """A fault of the connections to Redis."""

    #: New connections are refused; open ones are reset.
    REFUSED = auto()
    #: Packets are lost: connecting times out, and open connections receive nothing.
    UNANSWERED = auto()
    #: Connections are accepted and reset at once.
    RESET = auto()
    #: Connections are reset in the middle of a reply.
    CUT = auto()
    #: Connections and data are accepted; no reply is returned.
    SILENT = auto()
    #: Every reply is delayed by `FaultProxy.delay`.
    SLOW = auto()
    #: Replies are returned one byte at a time.
    TRICKLING = auto()


@dataclass
class FaultProxy:
    """A proxy on loopback that injects a `Fault` until it is healed, and loses replies or holds scripts back."""

    upstream: int
    #: How many more script replies to lose, after the scripts have run.
    lose_replies: int = 0
    #: How many more script calls to hold until `deliver_held`, as a stalled network does.
    hold_scripts: int = 0
    #: The replies to the held script calls.
    late_replies: list[bytes] = field(default_factory=list)
    #: Lose replies without closing the connection.
    lose_silently: bool = False
    fault: Fault | None = None
    #: Seconds by which `Fault.SLOW` delays a reply, and how many replies it delays now.
    delay: float = 5.0
    delayed: int = 0
    scripts_seen: int = 0
    port: int = 0
    _held: list[bytes] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _listener: asyncio.Server | None = None
    _black_hole: list[socket.socket] = field(default_factory=list)
    _healed: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        with _bind(0) as reserved:  # reserves the port while the proxy does not listen
            self.port = int(reserved.getsockname()[1])
            await self.heal()
            try:
                yield self
            finally:
                await self._close()

    @property
    def connections(self) -> int:
        """The number of open connections from clients."""
        return len(self._open)

    def inject(self, fault: Fault) -> None:
        """Apply a fault to open and new connections, until `heal`."""
        self.fault = fault
        self._healed.clear()
        if fault in (Fault.REFUSED, Fault.UNANSWERED):
            self._stop_listening()
        if fault is Fault.UNANSWERED:
            self._black_hole = _listen_with_full_backlog(self.port)
        if fault in (Fault.REFUSED, Fault.RESET):
            for writer in list(self._open):
                self._reset(writer)

    async def heal(self) -> None:
        self.fault = None
        self._healed.set()
        for unanswered in self._black_hole:
            unanswered.close()
        self._black_hole = []
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, sock=_bind(self.port), backlog=1024)

    async def deliver_held(self) -> None:
        """Deliver the held script calls, although their sender has timed out."""
        for data in self._held:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            writer.write(data)
            reply = await reader.readuntil(b"\r\n") + await reader.read(4096)
            self.late_replies.append(reply.split(b"\r\n")[2])
            writer.close()

    async def _close(self) -> None:
        await self.heal()
        self._stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection with a TCP reset."""
        self._open.discard(writer)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.RESET:
            return self._reset(writer)
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._open.add(writer)
        reset = (OSError, RuntimeError, asyncio.CancelledError)  # uvloop raises RuntimeError on a reset connection
        with contextlib.suppress(*reset), contextlib.closing(writer):
            redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            with contextlib.closing(redis_writer):
                lost = asyncio.Event()
                returning = asyncio.create_task(self._return_replies(redis_reader, writer, lost))
                try:
                    await self._forward(reader, redis_writer, lost)
                finally:
                    self._open.discard(writer)
                    returning.cancel()
                    await asyncio.gather(returning, return_exceptions=True)
        self._open.discard(writer)
        self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self.fault in (Fault.SILENT, Fault.UNANSWERED):
                await self._healed.wait()  # without reading, so that the sender's buffer fills
            if b"EVALSHA" in data:
                self.scripts_seen += 1
                if self.hold_scripts:
                    self.hold_scripts -= 1
                    self._held.append(data)
                    continue
                if self.lose_replies:
                    self.lose_replies -= 1
                    lost.set()
            writer.write(data)
            await writer.drain()

    async def _return_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        is_silent = False  # after a lost reply a connection returns nothing more: TCP leaves nothing out
        while data := await reader.read(65536):
            if is_silent or (lost.is_set() and b"NOSCRIPT" not in data):
                if not self.lose_silently:
                    break
                is_silent = True
                continue
            await self._deliver(data, writer)
        writer.close()

    async def _deliver(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Return a reply to the client as the current fault requires."""
        match self.fault:
            case Fault.SILENT | Fault.UNANSWERED:
                await self._healed.wait()
            case Fault.SLOW:
                self.delayed += 1
                try:
                    await asyncio.sleep(self.delay)
                finally:
                    self.delayed -= 1
                if self.fault is not Fault.SLOW:
                    return await self._deliver(data, writer)
            case Fault.TRICKLING:
                while data and self.fault is Fault.TRICKLING:
                    writer.write(data[:1])
                    data = data[1:]
                    await asyncio.sleep(0.5)
            case Fault.CUT:
                writer.write(data[: len(data) // 2])
                await asyncio.sleep(0.01)
                return self._reset(writer)
        writer.write(data)
        await writer.drain()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _listen_with_full_backlog(port: int) -> list[socket.socket]:
    """Listen on a port with a full backlog, so that the kernel drops connection attempts."""
    listener = _bind(port)
    listener.listen(0)
    clients = [socket.socket() for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    return [*clients, listener]
