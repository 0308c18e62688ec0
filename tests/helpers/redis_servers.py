"""Redis servers that a test may kill: in a container, or as a process of the embedded server's binary."""

import contextlib
import gc
import os
import signal
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import redis

from service.embedded.binary import find
from tests.helpers.polling import free_port, wait_until


class RedisServer(Protocol):
    """A Redis that persists its data and keeps its port when it is killed and started again."""

    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def send(self, number: signal.Signals) -> None: ...
    def remove(self) -> None: ...


class ContainerRedis:
    """Redis in a container. Its volume survives a kill."""

    def __init__(self, image: str, *options: str) -> None:
        from testcontainers.community.redis import RedisContainer

        self.port = free_port()
        command = ["redis-server", "--appendonly", "yes", "--hash-max-listpack-value", "4096", *options]
        self._container = RedisContainer(image).with_bind_ports(6379, self.port).with_command(command)
        self._container.start()

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


class ProcessRedis:
    """The embedded server's binary as a process, on its own port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._command = [
            str(find().path),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--hash-max-listpack-value", "4096", "--loglevel", "warning", *options),
        ]
        self.start()

    def start(self, *options: str) -> None:
        """Start it with additional `options`. It ignores SIGXFSZ, so that a file size limit makes writes fail."""
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL, restore_signals=False)
        wait_until(lambda: self.has_exited or _answers_ping(self.port), "a PONG from Redis")
        assert not self.has_exited, f"{self._command} {options} exited with {self._process.returncode}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def remove(self) -> None:
        self.kill()


def _answers_ping(port: int) -> bool:
    with contextlib.closing(redis.Redis(port=port, socket_timeout=1, retry=None)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _wait_until_ready(port: int) -> None:
    wait_until(lambda: _answers_ping(port), "a PONG from Redis")


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
    import docker

    try:
        with contextlib.closing(docker.from_env(version="1.40")) as engine:
            engine.ping()
    except Exception as error:
        return type(error).__name__
    return None
