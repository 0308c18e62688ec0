"""`clients/typescript/jobstate.ts` and the programs in docs/clients.md that use it, through outages."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.helpers.conformance import CHECKED_IN
from tests.helpers.document_programs import ADDRESS, EXACT, Outage, code_blocks
from tests.helpers.http_faults import FAULTS
from tests.helpers.paths import ROOT
from tests.helpers.polling import TIMEOUT
from tests.helpers.service_process import Service
from tests.integration.node.conftest import Run, copy_project, run_in

SUBMIT, WATCH = code_blocks("ts")
PROGRAMS = {
    "submit": SUBMIT,
    "watch": WATCH,
    "exact": SUBMIT.replace("timeout: 600_000", "parse: (json) => json"),
    "hasty-submit": SUBMIT.replace("timeout: 600_000", "timeout: 300"),
    "hasty-watch": WATCH.replace("job.job_id)", "job.job_id, { signal: AbortSignal.timeout(300) })"),
}
HELPER = ROOT / "clients" / "typescript" / "jobstate.ts"
MAX_LINES, LINE_LENGTH = 100, 120


@pytest.fixture(scope="session")
def built(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the compiled programs. Each takes the URL of the service as its argument."""
    folder = copy_project(node_modules, tmp_path_factory.mktemp("submitting"))
    programs = folder / "programs"
    programs.mkdir()
    shutil.copy(HELPER, programs)
    for name, program in PROGRAMS.items():
        (programs / f"{name}.ts").write_text(program.replace(f'"{ADDRESS}"', 'process.argv[2] ?? ""'))
    types = ("--default-non-nullable=false", "--output", "programs/openapi.d.ts")
    run_in(folder, "node_modules/.bin/openapi-typescript", str(CHECKED_IN), *types)
    run_in(folder, "node_modules/.bin/tsc", "--project", "tsconfig.clients.json")
    return folder / "built"


def test_a_program_gets_its_result_through_outages(disturbed: Outage, built: Path) -> None:
    command = ["node", f"{built}/submit.js", disturbed.front.url]
    ran = disturbed.finish(command, "completed", result='"Hello, Ann"')
    assert (ran.stdout, ran.stderr) == ("Hello, Ann\n", "")
    disturbed.check_requests()


def test_a_program_gets_the_error_of_a_failed_job(disturbed: Outage, built: Path) -> None:
    disturbed.front.heal()
    command = ["node", f"{built}/submit.js", disturbed.front.url]
    ran = disturbed.finish(command, "failed", error_message='"lost my voice"')
    assert (ran.stdout, ran.stderr) == ("urn:jobstate:problem:job-failed lost my voice\n", "")


def test_a_result_keeps_its_digits(disturbed: Outage, built: Path) -> None:
    disturbed.front.heal()
    command = ["node", f"{built}/exact.js", disturbed.front.url]
    ran = disturbed.finish(command, "completed", result=EXACT)
    assert (ran.stdout, ran.stderr) == (f"{EXACT}\n", "")


def test_a_watch_follows_a_job_to_its_end_through_outages(disturbed: Outage, built: Path) -> None:
    ran = disturbed.finish(["node", f"{built}/watch.js", disturbed.front.url], "completed", result="1")
    assert ran.stderr == ""
    assert ran.stdout.splitlines()[0] == "pending undefined"
    assert ran.stdout.splitlines()[-1] == "completed undefined"
    streams = disturbed.front.sent("GET", "/events")[len(FAULTS["events"]) :]
    assert "last-event-id" not in streams[0].headers
    assert re.search(r"^\d+-1$", streams[-1].headers["last-event-id"])


@pytest.mark.parametrize(("program", "output"), [("hasty-submit", ""), ("hasty-watch", "pending undefined\n")])
def test_a_call_ends_at_its_time_limit(
    program: str, output: str, api: httpx.Client, shared_service: Service, built: Path
) -> None:
    command = ["node", f"{built}/{program}.js", shared_service.url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (ran.returncode, ran.stdout) == (1, output)
    assert "TimeoutError" in ran.stderr


def test_the_helper_is_short_and_formatted_by_prettier(run: Run) -> None:
    run("prettier", "--print-width", str(LINE_LENGTH), "--check", str(HELPER))
    assert len([line for line in HELPER.read_text().splitlines() if line]) <= MAX_LINES
