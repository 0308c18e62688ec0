"""A client whose types `openapi-typescript` makes from the API document, compiled strictly, on the real service."""

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.helpers.conformance import CHECKED_IN
from tests.helpers.service_process import Service
from tests.integration.node.conftest import Run

pytestmark = pytest.mark.usefixtures("consistent_store")


def test_a_typed_client_runs_a_job_through_its_whole_life(
    api: httpx.Client, shared_service: Service, project: Path, run: Run
) -> None:
    # Without the option a field that has a default would have to be sent.
    run("openapi-typescript", str(CHECKED_IN), "--default-non-nullable=false", "--output", "document.d.ts")
    run("tsc", "--project", "tsconfig.json")

    command = ["node", "built/life.js", shared_service.url]
    lived = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert (lived.returncode, lived.stdout) == (0, "lived\n"), lived.stderr
