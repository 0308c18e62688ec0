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
    """How a line to Redis, or what is behind it, can be broken."""

    #: Nobody listens; what was connected is reset.
    REFUSED = auto()
    #: Packets vanish: no connection comes about, and what was connected hears nothing more.
    UNANSWERED = auto()
    #: Connections are made and reset at once.
    RESET = auto()
    #: Every reply breaks off in its middle with a reset.
    CUT = auto()
    #: Connections and bytes are taken, and nothing comes back.
    SILENT = auto()
    #: Every reply comes after `FaultyLine.delay`.
    SLOW = auto()
    #: Every reply comes a byte at a time.
    TRICKLING = auto()


@dataclass
class FaultProxy:
    """A line to Redis on loopback that can lose replies, be broken in every way of `Fault`, and be mended."""

    upstream: int
    #: How many replies to scripts are still to be lost after the script has run.
    lose_replies: int = 0
    #: How many scripts are still to be held back until `let_go`, as by a network that stalls.
    hold_scripts: int = 0
    #: How Redis answered what was held back.
    late_replies: list[bytes] = field(default_factory=list)
    #: Lose a reply by silence instead of by closing the connection.
    lose_silently: bool = False
    fault: Fault | None = None
    #: Seconds by which a slow line holds a reply back, how many it holds now, and how many it held at once at most.
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
        with _bind(0) as reserved:  # so that nobody else takes the port while nobody listens on it
            self.port = int(reserved.getsockname()[1])
            await self.heal()
            try:
                yield self
            finally:
                await self._close()

    @property
    def connections(self) -> int:
        """How many connections its users hold open."""
        return len(self._open)

    def inject(self, fault: Fault) -> None:
        """Break, for connections that are there and for new ones, until `mend`."""
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
        for hole in self._black_hole:
            hole.close()
        self._black_hole = []
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, sock=_bind(self.port), backlog=1024)

    async def deliver_held(self) -> None:
        """Deliver what was held back, although its sender has given it up."""
        for data in self._held:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            writer.write(data)
            answer = await reader.readuntil(b"\r\n") + await reader.read(4096)
            self.late_replies.append(answer.split(b"\r\n")[2])
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
        """Close a connection as a host does that has lost it."""
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
        gone = (OSError, RuntimeError, asyncio.CancelledError)  # the second is what uvloop says of what was reset
        with contextlib.suppress(*gone), contextlib.closing(writer):
            redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            with contextlib.closing(redis_writer):
                lost = asyncio.Event()
                back = asyncio.create_task(self._return_replies(redis_reader, writer, lost))
                try:
                    await self._forward(reader, redis_writer, lost)
                finally:
                    self._open.discard(writer)
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
        self._open.discard(writer)
        self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self.fault in (Fault.SILENT, Fault.UNANSWERED):
                await self._healed.wait()  # and no more is read: what is sent now piles up with its sender
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
        while data := await reader.read(65536):
            if lost.is_set() and b"NOSCRIPT" not in data:
                if self.lose_silently:
                    continue
                break
            await self._deliver(data, writer)
        writer.close()

    async def _deliver(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Hand over a reply as the fault of the moment has it; what is late comes late, not never."""
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
    """Listen on a port with a backlog that is full, so that the kernel drops whatever asks for a connection."""
    listener = _bind(port)
    listener.listen(0)
    callers = [socket.socket() for _ in range(4)]
    for caller in callers:
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", port))
    return [*callers, listener]
