"""The two distributions, built and installed into empty environments."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

VERSION = "0.3.0"
#: What the client must not need, as modules.
SERVER_ONLY = ("litestar", "redis", "uvicorn", "service", "prometheus_client")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd="/")


def install(folder: Path, *wheels: str | Path) -> Path:
    """Install wheels with their dependencies into a new environment, and return its directory of programs."""
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    command = ["uv", "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *map(str, wheels)]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both wheels, each built from its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(["uv", "build", "--quiet", "--all-packages", "--out-dir", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def client(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("client"), *wheels.glob("jobstate_client-*.whl"))


@pytest.fixture(scope="module")
def whole(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    [client], [server] = wheels.glob("jobstate_client-*.whl"), wheels.glob("jobstate_server-*.whl")
    return install(tmp_path_factory.mktemp("whole"), client, f"{server}[embedded]")


def test_the_client_alone_has_client_worker_and_commands_and_nothing_of_the_server(client: Path) -> None:
    program = "import jobstate, jobstate.worker; jobstate.Jobs('http://jobs'); jobstate.Worker"
    assert run(client / "python", "-c", program).returncode == 0
    assert run(client / "jobstate", "--version").stdout == f"jobstate, version {VERSION}\n"
    for module in SERVER_ONLY:
        assert run(client / "python", "-c", f"import {module}").returncode == 1, module


def test_the_client_alone_says_how_to_install_the_server(client: Path) -> None:
    result = run(client / "jobstate", "serve")
    assert result.returncode == 2
    assert "pip install jobstate-server" in result.stderr


def test_types_and_licence_come_with_the_client(client: Path) -> None:
    [package] = client.parent.glob("lib/python3*/site-packages/jobstate")
    [licence] = client.parent.glob("lib/python3*/site-packages/jobstate_client-*/licenses/LICENSE")
    assert (package / "py.typed").exists()
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_client_and_server_together_serve_and_list(whole: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "JOBSTATE_PORT": "0", "JOBSTATE_DATA": str(tmp_path / "data")}
    for name in ("REDIS_URL", "REDIS_HOST", "REDIS_PORT"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [whole / "jobstate"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{url}/ready", timeout=10) as response:
            assert VERSION in response.read().decode()
        listed = run(whole / "jobstate", "list", "--url", url)
        assert (listed.returncode, listed.stdout.split()[:2]) == (0, ["JOB", "STATUS"])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_both_distributions_have_one_version() -> None:
    for project in (ROOT / "pyproject.toml", ROOT / "src" / "pyproject.toml"):
        assert f'version = "{VERSION}"' in project.read_text()
    assert f'"jobstate-client=={VERSION}"' in (ROOT / "pyproject.toml").read_text()
