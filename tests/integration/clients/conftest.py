"""Clients that generators make from the API document, unedited: made, compiled and run through a job's whole life."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.generators import generator
from tests.helpers.paths import ROOT

HERE = Path(__file__).parent
#: Generators for Java and Go call their reading of OpenAPI 3.1 beta.
DOCUMENT_30 = ROOT / "docs" / "openapi-3.0.json"
Generate = Callable[..., Path]


def jar() -> Path:
    """Return the jar of openapi-generator."""
    found = generator()
    assert found is not None
    return found


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Return what a command prints; fail the test where the command fails."""
    ran = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(map(str, command))}:\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}"
    return ran.stdout


@pytest.fixture(scope="session")
def generate(tmp_path_factory: pytest.TempPathFactory) -> Generate:
    """Make a client with openapi-generator, and return its folder."""

    def generated(generator: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("generated") / generator
        java = shutil.which("java")
        assert java is not None
        run(java, "-jar", jar(), "generate", "-g", generator, "-i", DOCUMENT_30, "-o", folder, *options)
        return folder

    return generated
