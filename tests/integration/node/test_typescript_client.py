"""TypeScript clients from the API document, compiled and run against the service."""

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.helpers.conformance import CHECKED_IN
from tests.helpers.service_process import Service
from tests.integration.node.conftest import Run

pytestmark = pytest.mark.usefixtures("consistent_store")


def test_a_typed_client_runs_a_job_from_creation_to_deletion(
    api: httpx.Client, shared_service: Service, project: Path, run: Run
) -> None:
    # Without the option, the types would require each field that has a default.
    run("openapi-typescript", str(CHECKED_IN), "--default-non-nullable=false", "--output", "openapi.d.ts")
    run("tsc", "--project", "tsconfig.json")

    command = ["node", "built/life.js", shared_service.url]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (0, "passed\n"), result.stderr


def test_a_client_of_hey_api_runs_a_job_through_its_life(
    api: httpx.Client, shared_service: Service, project: Path, run: Run
) -> None:
    plugins = ("@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk")
    run("openapi-ts", "--input", str(CHECKED_IN), "--output", "hey-api", "--plugins", *plugins, "--no-log-file")
    run("tsc", "--project", "tsconfig.hey-api.json")

    command = ["node", "built/hey-api.js", shared_service.url]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (0, "passed\n"), result.stderr
