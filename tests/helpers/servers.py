"""Real servers for the tests to use and to kill: Redis in a container or as a process, the service, a faulty line."""

import asyncio
import contextlib
import gc
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path
from typing import Any, Protocol, Self

import redis

from service.embedded.binary import find

PATIENCE = 30.0


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return what `condition` returns once it is true; fail the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {patience} s"
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer(Protocol):
    """A durable Redis on a port that stays the same over its deaths."""

    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def send(self, number: signal.Signals) -> None: ...
    def remove(self) -> None: ...


class ContainerRedis:
    """Redis in a container whose volume outlives a kill."""

    def __init__(self, image: str, *options: str) -> None:
        from testcontainers.community.redis import RedisContainer

        self.port = free_port()
        command = ["redis-server", "--appendonly", "yes", "--hash-max-listpack-value", "4096", *options]
        self._container = RedisContainer(image).with_bind_ports(6379, self.port).with_command(command)
        self._container.start()

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        _wait_for_pong(self.port)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill("SIGKILL")
        wait_until(lambda: not _pongs(self.port), "the end of Redis")

    def send(self, number: signal.Signals) -> None:
        self._container.get_wrapped_container().kill(number.name)

    def remove(self) -> None:
        self._container.stop(force=True, delete_volume=True)


class ProcessRedis:
    """The server that the service would embed, on a port of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._command = [
            str(find().path),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--hash-max-listpack-value", "4096", "--loglevel", "warning", *options),
        ]
        self.start()

    def start(self, *options: str) -> None:
        """Start it, this time with `options` besides. A file-size limit is an error of writing to it, not its end."""
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL, restore_signals=False)
        _wait_for_pong(self.port)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def remove(self) -> None:
        self.kill()


def _pongs(port: int) -> bool:
    with contextlib.closing(redis.Redis(port=port, socket_timeout=1, retry=None)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _wait_for_pong(port: int) -> None:
    wait_until(lambda: _pongs(port), "a PONG of Redis")


@dataclass(frozen=True)
class Backend:
    """What the integration tests run on, and why."""

    image: str | None
    why: str

    @property
    def is_docker(self) -> bool:
        return self.image is not None

    def __str__(self) -> str:
        return f"testcontainers with {self.image}" if self.image else f"embedded {find()}, because {self.why}"

    def redis(self, folder: Path, *options: str) -> RedisServer:
        """Start a Redis; `folder` keeps the data of one that is a process."""
        return ContainerRedis(self.image, *options) if self.image else ProcessRedis(folder, *options)


def choose_backend() -> Backend:
    """Take containers where an engine answers, else the embedded server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py leaves its socket open where nobody answers
        why_not = _engine_failure()
        gc.collect()
    if why_not is not None:
        return Backend(None, f"no Docker engine answers ({why_not})")
    return Backend(os.environ.get("TEST_REDIS_IMAGE", "redis:7-alpine"), "a Docker engine answers")


def _engine_failure() -> str | None:
    import docker

    try:
        with contextlib.closing(docker.from_env(version="1.40")) as engine:
            engine.ping()
    except Exception as error:
        return type(error).__name__
    return None


class Service:
    """The service as its users start it: `jobstate`, in a process of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._environment = {"JOBSTATE_PORT": "0", "JOBSTATE_DATA": str(folder / "data"), **environment}
        self._log = folder / "service.log"
        self.start()

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "JOB"))}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                env=inherited | self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.banner = self._read_banner()
        listening = re.search(r"listens on (http://\S+)", self.banner)
        assert listening, f"the service did not start: {self.banner}{self.log}"
        self.url = listening[1]
        self._environment["JOBSTATE_PORT"] = self.url.rpartition(":")[2]

    def _read_banner(self) -> str:
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(line.decode())
            if line.strip().startswith(b"curl"):
                break
        return "".join(lines)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(PATIENCE)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


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
class FaultyLine:
    """A line to Redis on loopback that can lose replies, be broken in every way of `Fault`, and be mended."""

    upstream: int
    #: How many replies to scripts are still to be lost after the script has run.
    lose_replies: int = 0
    #: How many scripts are still to be held back until `let_go`, as by a network that stalls.
    hold_scripts: int = 0
    #: How Redis answered what was held back.
    late: list[bytes] = field(default_factory=list)
    #: Lose a reply by silence instead of by closing the connection.
    in_silence: bool = False
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
    _void: list[socket.socket] = field(default_factory=list)
    _mended: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        with _bound(0) as reserved:  # so that nobody else takes the port while nobody listens on it
            self.port = int(reserved.getsockname()[1])
            await self.mend()
            try:
                yield self
            finally:
                await self._close()

    @property
    def connections(self) -> int:
        """How many connections its users hold open."""
        return len(self._open)

    def breaks(self, fault: Fault) -> None:
        """Break, for connections that are there and for new ones, until `mend`."""
        self.fault = fault
        self._mended.clear()
        if fault in (Fault.REFUSED, Fault.UNANSWERED):
            self._deafen()
        if fault is Fault.UNANSWERED:
            self._void = _unanswered(self.port)
        if fault in (Fault.REFUSED, Fault.RESET):
            for writer in list(self._open):
                self._reset(writer)

    async def mend(self) -> None:
        self.fault = None
        self._mended.set()
        for hole in self._void:
            hole.close()
        self._void = []
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, sock=_bound(self.port), backlog=1024)

    async def let_go(self) -> None:
        """Deliver what was held back, although its sender has given it up."""
        for data in self._held:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            writer.write(data)
            answer = await reader.readuntil(b"\r\n") + await reader.read(4096)
            self.late.append(answer.split(b"\r\n")[2])
            writer.close()

    async def _close(self) -> None:
        await self.mend()
        self._deafen()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _deafen(self) -> None:
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
                back = asyncio.create_task(self._back(redis_reader, writer, lost))
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
                await self._mended.wait()  # and no more is read: what is sent now piles up with its sender
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

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if lost.is_set() and b"NOSCRIPT" not in data:
                if self.in_silence:
                    continue
                break
            await self._deliver(data, writer)
        writer.close()

    async def _deliver(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Hand over a reply as the fault of the moment has it; what is late comes late, not never."""
        match self.fault:
            case Fault.SILENT | Fault.UNANSWERED:
                await self._mended.wait()
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


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _unanswered(port: int) -> list[socket.socket]:
    """Listen on a port with a backlog that is full, so that the kernel drops whatever asks for a connection."""
    listener = _bound(port)
    listener.listen(0)
    callers = [socket.socket() for _ in range(4)]
    for caller in callers:
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", port))
    return [*callers, listener]


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stop a process for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
