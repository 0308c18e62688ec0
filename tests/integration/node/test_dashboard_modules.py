"""The dashboard's JavaScript modules: types against the API document, formatting, length."""

import shutil
from importlib.resources import files
from pathlib import Path

from tests.helpers.conformance import CHECKED_IN
from tests.integration.node.conftest import HERE, Run

DASHBOARD = Path(str(files("service.web") / "dashboard"))
LINE_LENGTH = 120
MAX_LINES = 300


def test_the_types_match_the_api_document(project: Path, run: Run) -> None:
    folder = project / "dashboard"
    folder.mkdir()
    for module in DASHBOARD.glob("*.js"):
        shutil.copy(module, folder)
    shutil.copy(HERE / "tsconfig.dashboard.json", folder / "tsconfig.json")
    run("openapi-typescript", str(CHECKED_IN), "--default-non-nullable=false", "--output", str(folder / "openapi.d.ts"))

    run("tsc", "--project", str(folder))


def test_the_files_are_formatted_by_prettier(run: Run) -> None:
    """`just format-page` formats them."""
    files = [str(path) for path in sorted(DASHBOARD.iterdir()) if path.suffix in {".js", ".css"}]

    run("prettier", "--print-width", str(LINE_LENGTH), "--check", *files)


def test_no_module_is_too_long() -> None:
    assert [path.name for path in DASHBOARD.glob("*.js") if len(path.read_text().splitlines()) > MAX_LINES] == []
