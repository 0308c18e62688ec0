"""The live page's modules, which nothing compiles: their types held against the API document, and their form."""

import shutil
from importlib.resources import files
from pathlib import Path

from tests.helpers.conformance import CHECKED_IN
from tests.integration.node.conftest import HERE, Run

LIVE = Path(str(files("service.web") / "dashboard"))
WIDTH = 120
LINES = 300


def test_the_page_takes_records_for_what_the_document_says_they_are(project: Path, run: Run) -> None:
    room = project / "page"
    room.mkdir()
    for module in LIVE.glob("*.js"):
        shutil.copy(module, room)
    shutil.copy(HERE / "tsconfig.page.json", room / "tsconfig.json")
    run("openapi-typescript", str(CHECKED_IN), "--default-non-nullable=false", "--output", str(room / "document.d.ts"))

    run("tsc", "--project", str(room))


def test_the_page_is_formatted_by_prettier(run: Run) -> None:
    """`just format-page` does it."""
    own = [str(path) for path in sorted(LIVE.iterdir()) if path.suffix in {".js", ".css"}]

    run("prettier", "--print-width", str(WIDTH), "--check", *own)


def test_no_module_is_long() -> None:
    assert [path.name for path in LIVE.glob("*.js") if len(path.read_text().splitlines()) > LINES] == []
