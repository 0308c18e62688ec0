"""The client for Java, with the command line of docs/api.md and the code of docs/clients.md."""

import subprocess

import httpx
import pytest

from tests.helpers.document_programs import ADDRESS, EXACT, Outage, code_blocks
from tests.helpers.generators import ANNOTATIONS
from tests.helpers.polling import TIMEOUT
from tests.helpers.service_process import Service
from tests.integration.clients.conftest import HERE, Generate, jar, run

CLASS, PROGRAM = code_blocks("java")
#: Without the option a field that is not set, and may be any JSON, is sent as `null`.
OPTIONS = ("--library", "native", "--additional-properties=openApiNullable=false")


@pytest.fixture(scope="module")
def java(generate: Generate, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command that runs `Life` or `Greet`, which is the program of docs/clients.md.

    Both take the URL as their argument. `Greet` has a short time limit with a second one.
    """
    folder = tmp_path_factory.mktemp("java")
    path = f"{jar()}:{ANNOTATIONS}:{folder}"
    assert "Duration.ofMinutes(10)" in PROGRAM
    limited = PROGRAM.replace("Duration.ofMinutes(10)", "Duration.ofSeconds(arguments.length > 1 ? 1 : 60)")
    program = limited.replace(f'"{ADDRESS}"', "arguments[0]")
    for name, code in {"Jobs": CLASS, "Greet": program}.items():
        (folder / f"{name}.java").write_text(code)
    sources = sorted((generate("java", *OPTIONS) / "src" / "main" / "java").rglob("*.java"))
    run("javac", "-nowarn", "-cp", path, "-d", folder, *sources, HERE / "Life.java", *sorted(folder.glob("*.java")))
    return ["java", "-cp", path]


def test_a_client_for_java_runs_a_job_through_its_whole_life(
    api: httpx.Client, shared_service: Service, consistent_store: None, java: list[str]
) -> None:
    assert run(*java, "Life", shared_service.url) == "passed\n"


def test_the_program_prints_the_exact_result_through_outages(disturbed: Outage, java: list[str]) -> None:
    ran = disturbed.finish([*java, "Greet", disturbed.front.url], "completed", result=EXACT)
    assert (ran.stdout, ran.stderr) == (f"{EXACT}\n", "")
    disturbed.check_requests()


def test_the_program_prints_the_error_of_a_failed_job(disturbed: Outage, java: list[str]) -> None:
    disturbed.front.heal()
    ran = disturbed.finish([*java, "Greet", disturbed.front.url], "failed", error_message='"lost my voice"')
    assert (ran.stdout, ran.stderr) == ("urn:jobstate:problem:job-failed lost my voice\n", "")


def test_the_program_ends_at_its_time_limit(api: httpx.Client, shared_service: Service, java: list[str]) -> None:
    command = [*java, "Greet", shared_service.url, "hasty"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ran.returncode == 1
    assert "the job has not ended in time" in ran.stderr
