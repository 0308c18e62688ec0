"""Redis servers that a test may kill: in a container, or as a process of the embedded server's binary."""

import contextlib
import functools
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import redis

from service.embedded.binary import find
from tests.helpers.clocks import FakeClock
from tests.helpers.polling import free_port, wait_until


class RedisServer(Protocol):
    """A Redis that persists its data and keeps its port when it is killed and started again."""

    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def send(self, number: signal.Signals) -> None: ...
    def remove(self) -> None: ...


class ContainerRedis:
    """Redis in a container. Its volume survives a kill.

    It uses the host's network, if the engine has that one: each new network makes Chromium drop its connections.
    """

    def __init__(self, image: str, *options: str) -> None:
        from testcontainers.core.container import DockerContainer

        self.port = free_port()
        on_host = _shares_network()
        command = ["--port", str(self.port), "--bind", "127.0.0.1" if on_host else "0.0.0.0", "--protected-mode", "no"]
        command += ["--appendonly", "yes", "--hash-max-listpack-value", "4096", *options]
        self._container = DockerContainer(image).with_command(command)
        started_with: dict[str, Any] = {
            "entrypoint": ["redis-server"]
        }  # signals go to it, not to a program that started it
        if on_host:
            started_with["network_mode"] = "host"
        else:
            self._container.with_bind_ports(self.port, self.port)
        self._container.with_kwargs(**started_with)
        self._container.start()
        _wait_until_ready(self.port)

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        _wait_until_ready(self.port)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill("SIGKILL")
        wait_until(lambda: not _answers_ping(self.port), "exit of Redis")

    def send(self, number: signal.Signals) -> None:
        self._container.get_wrapped_container().kill(number.name)

    def remove(self) -> None:
        self._container.stop(force=True, delete_volume=True)


class ServerProcess:
    """A Redis server or a sentinel as a process, on its own port."""

    def __init__(self, port: int, *command: str, host: str = "127.0.0.1", clock: FakeClock | None = None) -> None:
        self.host, self.port, self.clock = host, port, clock
        self._command = command
        self.start()

    def start(self, *options: str) -> None:
        """Start it with additional `options`. It ignores SIGXFSZ, so that a file size limit makes writes fail."""
        environment = {**os.environ, **self.clock.environment} if self.clock else None
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                [*self._command, *options], stdout=output, stderr=output, restore_signals=False, env=environment
            )
            try:
                wait_until(lambda: self.has_exited or _answers_ping(self.port, self.host), "a PONG from Redis")
            except BaseException:
                self.kill()
                raise
            if self.has_exited:
                output.seek(0)
                text = output.read().decode(errors="replace")
                raise AssertionError(f"{self._command} {options} exited with {self._process.returncode}:\n{text}")

    @property
    def name(self) -> str:
        """Its address, as `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def set_clock(self, seconds: float) -> None:
        """Set its clock so many seconds ahead of the machine's, and wait until it has noticed.

        Valkey 9.1 asks the system for the time only every few milliseconds.
        """
        assert self.clock, "the server was started with a clock"
        self.clock.set(seconds)
        wait_until(lambda: abs(float(self.call("TIME")[0]) - time.time() - seconds) < 2, "the time of the clock")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def remove(self) -> None:
        self.kill()

    def client(self) -> Any:
        """Return a client of this server, whose user closes it."""
        return redis.Redis(self.host, self.port, socket_timeout=5, retry=None, decode_responses=True, protocol=2)

    def call(self, *command: Any) -> Any:
        """Return the reply to one command, in the types of RESP2.

        It is sent again if the server closes the connection, as one does that becomes a replica.
        """
        try:
            return self._call(*command)
        except redis.ConnectionError:
            return self._call(*command)

    def _call(self, *command: Any) -> Any:
        with contextlib.closing(self.client()) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)


class ProcessRedis(ServerProcess):
    """A Redis as a process: of the embedded server's binary, unless another is given."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        program: Path | None = None,
        port: int | None = None,
        file: Path | None = None,
        host: str = "127.0.0.1",
        clock: FakeClock | None = None,
    ) -> None:
        """Start it. `file` is its configuration file, which `CONFIG REWRITE` may change."""
        port = port or free_port()
        super().__init__(
            port,
            str(program or find().path),
            *((str(file),) if file else ()),
            *("--port", str(port), "--bind", host, "--bind-source-addr", host, "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--hash-max-listpack-value", "4096", "--loglevel", "warning"),
            *("--protected-mode", "no", *options),  # else only 127.0.0.1 may connect to other addresses of loopback
            host=host,
            clock=clock,
        )


def server_program() -> Path:
    """Return the binary of clusters and sentinels: `TEST_REDIS_SERVER`, else an installed Redis, else the embedded."""
    named = os.environ.get("TEST_REDIS_SERVER") or shutil.which("redis-server")
    return Path(named) if named else find().path


@functools.cache
def why_no_atomic_migration() -> str | None:
    """Return why the binary of clusters has no `CLUSTER MIGRATESLOTS`, if it has not."""
    program = server_program()
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Valkey.* v=(\d+)", version)
    return None if found and int(found[1]) >= 9 else f"{program} is no Valkey 9"


def _answers_ping(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.closing(redis.Redis(host, port, socket_timeout=1, retry=None)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _wait_until_ready(port: int) -> None:
    wait_until(lambda: _answers_ping(port), "a PONG from Redis")


NewRedis = Callable[..., RedisServer]


@dataclass(frozen=True)
class Backend:
    """Where the integration tests get Redis from, and why."""

    image: str | None
    reason: str

    @property
    def is_docker(self) -> bool:
        return self.image is not None

    def __str__(self) -> str:
        return f"testcontainers with {self.image}" if self.image else f"embedded {find()}, because {self.reason}"

    def redis(self, folder: Path, *options: str) -> RedisServer:
        """Start a Redis; as a process it stores its data in `folder`."""
        return ContainerRedis(self.image, *options) if self.image else ProcessRedis(folder, *options)

    @contextlib.contextmanager
    def servers(self, folder: Path) -> Iterator[NewRedis]:
        """Return a function that starts a Redis that the test may kill. Each is removed at the end of the block."""
        with contextlib.ExitStack() as started:

            def start(*options: str) -> RedisServer:
                data = folder / f"redis-{len(list(folder.iterdir()))}"
                data.mkdir()
                server = self.redis(data, "--appendfsync", "always", *options)
                started.callback(server.remove)
                return server

            yield start


def choose_backend() -> Backend:
    """Return containers if a Docker engine answers, else the embedded server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py does not close its socket without an engine
        why_not = _docker_failure()
        gc.collect()
    if why_not is not None:
        return Backend(None, f"no Docker engine answers ({why_not})")
    return Backend(os.environ.get("TEST_REDIS_IMAGE", "redis:7-alpine"), "a Docker engine answers")


def _docker_failure() -> str | None:
    try:
        with _engine() as engine:
            engine.ping()
    except Exception as error:
        return type(error).__name__
    return None


@functools.cache
def _shares_network() -> bool:
    """Return whether the Docker engine runs on this machine's network: not in a virtual machine, not rootless."""
    with _engine() as engine:
        info = engine.info()
    return info["Name"] == socket.gethostname() and "name=rootless" not in info["SecurityOptions"]


def _engine() -> contextlib.closing[Any]:
    import docker

    return contextlib.closing(docker.from_env(version="1.40"))
