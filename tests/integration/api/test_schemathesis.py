"""All checks of schemathesis for all operations: examples, coverage, fuzzing and stateful sequences."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.helpers.conformance import DOCUMENT
from tests.helpers.paths import ROOT
from tests.helpers.service_process import Service

pytestmark = pytest.mark.usefixtures("consistent_store")

HELPERS = ROOT / "tests" / "helpers"
#: Examples of each operation; `just fuzz` generates more.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "20")


def test_generated_requests_cause_no_undocumented_response_and_no_5xx(
    api: httpx.Client, shared_service: Service, tmp_path: Path
) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HELPERS / "schemathesis.toml")]
    what = ["run", f"{shared_service.url}/schema/openapi.json", "--checks", "all", "--max-examples", EXAMPLES]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.helpers.schemathesis_hooks"}
    environment["PYTHONPATH"] = str(ROOT)

    run = subprocess.run([*command, *what], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    operations = sum(len(item) for item in DOCUMENT["paths"].values())
    assert f"Tested: {operations}" in run.stdout
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in run.stdout
