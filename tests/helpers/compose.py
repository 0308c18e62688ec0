"""Runs compose.yaml and compose.cluster.yaml unchanged, on free ports and in a project and network of its own."""

import json
import os
import random
import subprocess
import uuid
from pathlib import Path
from typing import Any

import httpx

from service.settings import VARIABLES
from tests.helpers.paths import ROOT
from tests.helpers.polling import free_port, wait_until

#: Seconds that a command may take. A build without a cache takes longest.
COMMAND_TIMEOUT = 300.0
#: Variables that the files read and that the tests must not inherit.
_SERVICE_VARIABLES = {variable.name for variable in VARIABLES} | {"ALLOWED_HOSTS", "COMPOSE_PROFILES"}

CommandResult = subprocess.CompletedProcess[str]


def compose_failure() -> str | None:
    """Return why `docker compose` cannot run; None if it can."""
    try:
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "`docker compose` is missing"
    return None


class Compose:
    """Runs `docker compose` with a file of this project, isolated from the user's environment."""

    def __init__(self, *options: str, file: str = "compose.yaml", **environment: str) -> None:
        self._command = ["docker", "compose", "--env-file", os.devnull, "--file", str(ROOT / file), *options]
        inherited = {name: value for name, value in os.environ.items() if name not in _SERVICE_VARIABLES}
        self._environment = inherited | environment

    def run(self, *command: str) -> CommandResult:
        """Run a `docker compose` command and return its result, also if it failed."""
        command = (*self._command, *command)
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT)

    def run_checked(self, *command: str) -> str:
        """Run a `docker compose` command, fail the test unless it succeeds, and return its output."""
        done = self.run(*command)
        assert done.returncode == 0, f"docker compose {' '.join(command)}: {done.stderr}\n{self.run('logs').stdout}"
        return done.stdout


class Stack(Compose):
    """An isolated stack. `remove` deletes everything that it created."""

    def __init__(self, folder: Path, file: str = "compose.yaml") -> None:
        self.name = f"jobstate-test-{uuid.uuid4().hex[:8]}"
        self.redis_port, self.backend_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.backend_port}"
        names = folder / "names.json"
        renamed = {"backend": {"image": self.name}}
        names.write_text(json.dumps({"services": renamed, "networks": {"nascar-network": {"name": self.name}}}))
        super().__init__(
            *("--file", str(names), "--project-name", self.name),
            file=file,
            CLUSTER_NETWORK=f"10.{random.randrange(100, 250)}.{random.randrange(256)}",
            REDIS_PUBLISHED_PORT=str(self.redis_port),
            BACKEND_PUBLISHED_PORT=str(self.backend_port),
        )

    def inspect(self, service: str) -> dict[str, Any]:
        """Return `docker inspect` of a service's container, running or not."""
        container = self.run_checked("ps", "--all", "--quiet", service).strip()
        containers: list[dict[str, Any]] = json.loads(_docker("inspect", container))
        return containers[0]

    def published_addresses(self, service: str) -> list[tuple[str, int]]:
        """Return the host addresses that a service's ports are published on."""
        ports = self.inspect(service)["NetworkSettings"]["Ports"].values()
        return [(binding["HostIp"], int(binding["HostPort"])) for bindings in ports for binding in bindings or []]

    def kill(self, *services: str) -> None:
        """Kill containers with SIGKILL and wait until they have stopped."""
        _docker("kill", "--signal", "KILL", *(self.inspect(service)["Id"] for service in services))
        for service in services:
            wait_until(lambda service=service: not self.inspect(service)["State"]["Running"], f"exit of {service}")

    def wait_until_ready(self) -> None:
        """Wait until `/ready` answers 200."""

        def ready() -> bool:
            try:
                return httpx.get(f"{self.url}/ready").status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(ready, "readiness")

    def remove(self) -> None:
        """Remove containers, volumes, network and image."""
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "1")
        subprocess.run(["docker", "image", "rm", "--force", self.name], capture_output=True)


def _docker(*command: str) -> str:
    return subprocess.run(["docker", *command], check=True, capture_output=True, text=True).stdout
