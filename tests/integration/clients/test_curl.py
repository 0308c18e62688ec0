"""The script for curl in docs/clients.md, through outages."""

from tests.helpers.document_programs import ADDRESS, EXACT, Outage, code_blocks

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
