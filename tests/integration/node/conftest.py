"""The Node project in this folder, with the packages of its `package-lock.json`."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.locks import locked

HERE = Path(__file__).parent
Run = Callable[..., str]


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Return the folder of the packages, installed again when the lock file has changed."""
    lock, stamp = (HERE / "package-lock.json").read_text(), HERE / "node_modules" / ".installed"
    with locked(HERE / "package-lock.json"):
        if not stamp.exists() or stamp.read_text() != lock:
            run_in(HERE, "npm", "ci")
            stamp.write_text(lock)
    return HERE / "node_modules"


@pytest.fixture
def project(node_modules: Path, tmp_path: Path) -> Path:
    """Return a copy of the project that a test may write to."""
    return copy_project(node_modules, tmp_path)


def copy_project(node_modules: Path, folder: Path) -> Path:
    for pattern in ("*.ts", "*.yaml", "package.json", "tsconfig*.json"):
        for path in HERE.glob(pattern):
            shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(node_modules)
    return folder


@pytest.fixture
def run(project: Path) -> Run:
    """Return a function that runs a tool of the project and returns its output. It fails the test if the tool fails."""
    return lambda tool, *arguments: run_in(project, f"node_modules/.bin/{tool}", *arguments)


def run_in(folder: Path, *command: str) -> str:
    environment = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}{result.stderr}"
    return result.stdout
