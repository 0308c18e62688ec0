"""The API document under every rule of a linter; `linter.yaml` says which are off, and why."""

import shutil
from pathlib import Path

from tests.helpers.conformance import CHECKED_IN
from tests.integration.node.conftest import Run


def test_the_linter_has_nothing_to_say(project: Path, run: Run) -> None:
    shutil.copy(CHECKED_IN, project)

    run("redocly", "lint", "--config", "linter.yaml", CHECKED_IN.name, "--format", "stylish", "--max-problems", "1000")
