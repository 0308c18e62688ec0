"""The tools of the node project in this folder, installed as its lock says."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Run = Callable[..., str]


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Where the packages are, installed anew when the lock has changed."""
    lock, stamp = (HERE / "package-lock.json").read_text(), HERE / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_text() != lock:
        run_in(HERE, "npm", "ci")
        stamp.write_text(lock)
    return HERE / "node_modules"


@pytest.fixture
def project(node_modules: Path, tmp_path: Path) -> Path:
    """A copy of the node project that a test may write to."""
    for name in ("life.ts", "hey-api.ts", "linter.yaml", "package.json", "tsconfig.json", "tsconfig.hey-api.json"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    """Run a tool of the project and return what it says; fail the test where the tool fails."""
    return lambda tool, *arguments: run_in(project, f"node_modules/.bin/{tool}", *arguments)


def run_in(folder: Path, *command: str) -> str:
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | quiet)
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout
