"""The client for Java; docs/api.md has the same command line."""

from pathlib import Path

import httpx
import pytest

from tests.helpers.generators import ANNOTATIONS
from tests.helpers.service_process import Service
from tests.integration.clients.conftest import HERE, Generate, jar, run

pytestmark = pytest.mark.usefixtures("consistent_store")

#: Without the option a field that is not set, and may be any JSON, is sent as `null`.
OPTIONS = ("--library", "native", "--additional-properties=openApiNullable=false")


def test_a_client_for_java_runs_a_job_through_its_whole_life(
    api: httpx.Client, shared_service: Service, generate: Generate, tmp_path: Path
) -> None:
    sources = (generate("java", *OPTIONS) / "src" / "main" / "java").rglob("*.java")
    classes = tmp_path / "classes"
    path = f"{jar()}:{ANNOTATIONS}:{classes}"
    run("javac", "-nowarn", "-cp", path, "-d", classes, *sorted(sources), HERE / "Life.java")

    assert run("java", "-cp", path, "Life", shared_service.url) == "passed\n"
