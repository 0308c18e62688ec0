"""The client for Go; docs/api.md has the same command line."""

import os
import shutil
from pathlib import Path

import httpx
import pytest

from tests.helpers.service_process import Service
from tests.integration.clients.conftest import HERE, Generate, run

pytestmark = pytest.mark.usefixtures("consistent_store")

#: Without the second option an answer with a new field is an error.
OPTIONS = "packageName=jobstate,disallowAdditionalPropertiesIfNotPresent=false"
MODULE = """\
module example.org/life

go 1.19

require example.org/jobstate v0.0.0

replace example.org/jobstate => ./jobstate
"""


def test_a_client_for_go_runs_a_job_through_its_whole_life(
    api: httpx.Client, shared_service: Service, generate: Generate, tmp_path: Path
) -> None:
    client = generate("go", f"--additional-properties={OPTIONS}")
    program = tmp_path / "life"
    (program / "jobstate").mkdir(parents=True)
    for source in client.glob("*.go"):
        shutil.copy(source, program / "jobstate")
    (program / "jobstate" / "go.mod").write_text("module example.org/jobstate\n\ngo 1.19\n")
    (program / "go.mod").write_text(MODULE)
    shutil.copy(HERE / "life.go", program)
    offline = os.environ | {"GOPROXY": "off", "GOFLAGS": "-mod=mod"}
    run("go", "vet", ".", cwd=program, env=offline)
    run("go", "build", "-o", "life", ".", cwd=program, env=offline)

    assert run(program / "life", shared_service.url) == "passed\n"
