"""The API document against all rules of Redocly's linter. `linter.yaml` explains the exceptions."""

import shutil
from pathlib import Path

from tests.helpers.conformance import CHECKED_IN
from tests.integration.node.conftest import Run


def test_the_api_document_passes_the_linter(project: Path, run: Run) -> None:
    shutil.copy(CHECKED_IN, project)

    run("redocly", "lint", "--config", "linter.yaml", CHECKED_IN.name, "--format", "stylish", "--max-problems", "1000")
