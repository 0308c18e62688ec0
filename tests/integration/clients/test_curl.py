"""The script for curl in docs/clients.md, through outages."""

import subprocess

import httpx

from tests.helpers.document_programs import ADDRESS, EXACT, Outage, code_blocks
from tests.helpers.polling import TIMEOUT
from tests.helpers.service_process import Service

(SCRIPT,) = code_blocks("bash")


def test_the_script_prints_the_exact_result_through_outages(disturbed: Outage) -> None:
    script = SCRIPT.replace(ADDRESS, disturbed.front.url)
    ran = disturbed.finish(["bash", "-c", script], "completed", result=EXACT)
    assert (ran.stdout, ran.stderr) == (EXACT, "")
    disturbed.check_requests()


def test_the_script_fails_with_the_job(disturbed: Outage) -> None:
    disturbed.front.heal()
    script = SCRIPT.replace(ADDRESS, disturbed.front.url)
    ran = disturbed.finish(["bash", "-c", script], "failed", error_message='"lost my voice"')
    assert (ran.returncode, ran.stdout) == (1, "")
    assert '"error_message":"lost my voice"' in ran.stderr


def test_the_script_ends_at_its_time_limit(api: httpx.Client, shared_service: Service) -> None:
    script = SCRIPT.replace("SECONDS + 600", "SECONDS + 2").replace(ADDRESS, shared_service.url)
    assert "SECONDS + 2" in script
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
