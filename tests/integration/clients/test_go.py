"""The client for Go, with the command line of docs/api.md and the code of docs/clients.md."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.helpers.document_programs import ADDRESS, EXACT, Outage, code_blocks
from tests.helpers.polling import TIMEOUT
from tests.helpers.service_process import Service
from tests.integration.clients.conftest import HERE, Generate, run

#: The time limit of the program: short with a second argument.
LIMIT = """
func limit() time.Duration {
	if len(os.Args) > 2 {
		return time.Second
	}
	return time.Minute
}
"""
FUNCTIONS, PROGRAM = code_blocks("go")
#: Without the second option an answer with a new field is an error.
OPTIONS = "packageName=jobstate,disallowAdditionalPropertiesIfNotPresent=false"
MODULE = """\
module example.org/life

go 1.19

require example.org/jobstate v0.0.0

replace example.org/jobstate => ./jobstate
"""


@pytest.fixture(scope="module")
def built(generate: Generate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two programs: `life`, and `document` of docs/clients.md."""
    client = generate("go", f"--additional-properties={OPTIONS}")
    folder = tmp_path_factory.mktemp("go")
    (folder / "jobstate").mkdir()
    for source in client.glob("*.go"):
        shutil.copy(source, folder / "jobstate")
    (folder / "jobstate" / "go.mod").write_text("module example.org/jobstate\n\ngo 1.19\n")
    (folder / "go.mod").write_text(MODULE)
    for name in ("life", "document"):
        (folder / name).mkdir()
    shutil.copy(HERE / "life.go", folder / "life")
    (folder / "document" / "jobs.go").write_text(FUNCTIONS)
    program = PROGRAM.replace(f'"{ADDRESS}"', "os.Args[1]").replace('"fmt"', '"fmt"\n\t"os"')
    assert "10*time.Minute" in program
    program = program.replace("10*time.Minute", "limit()") + LIMIT
    (folder / "document" / "main.go").write_text(program)
    offline = os.environ | {"GOPROXY": "off", "GOFLAGS": "-mod=mod"}
    run("go", "vet", "./life", "./document", cwd=folder, env=offline)
    run("go", "build", "-o", "bin/", "./life", "./document", cwd=folder, env=offline)
    assert run("gofmt", "-l", "document", cwd=folder) == ""
    return folder / "bin"


def test_a_client_for_go_runs_a_job_through_its_whole_life(
    api: httpx.Client, shared_service: Service, consistent_store: None, built: Path
) -> None:
    assert run(built / "life", shared_service.url) == "passed\n"


def test_the_program_prints_the_exact_result_through_outages(disturbed: Outage, built: Path) -> None:
    ran = disturbed.finish([f"{built}/document", disturbed.front.url], "completed", result=EXACT)
    assert (ran.stdout, ran.stderr) == (f"{EXACT}\n", "")
    disturbed.check_requests()


def test_the_program_prints_the_error_of_a_failed_job(disturbed: Outage, built: Path) -> None:
    disturbed.front.heal()
    ran = disturbed.finish([f"{built}/document", disturbed.front.url], "failed", error_message='"lost my voice"')
    assert (ran.stdout, ran.stderr) == ("urn:jobstate:problem:job-failed lost my voice\n", "")


def test_the_program_ends_at_its_time_limit(api: httpx.Client, shared_service: Service, built: Path) -> None:
    command = [built / "document", shared_service.url, "hasty"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ran.returncode == 2
    assert "context deadline exceeded" in ran.stderr
