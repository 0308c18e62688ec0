"""The public names are imported on use."""

import subprocess
import sys

import pytest

import jobstate


def imported_by(program: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("program", "wanted", "unwanted"),
    [
        ("import jobstate", "jobstate", {"httpx", "msgspec", "jobstate.client"}),
        ("from jobstate import JobFailed", "jobstate.errors", {"httpx", "jobstate.client"}),
        ("from jobstate import Jobs", "jobstate.client", {"asyncio", "jobstate.async_client", "click"}),
        ("from jobstate import BulkAction", "jobstate._bulk_models", {"httpx", "jobstate.client"}),
        ("from jobstate.cli.commands.bulk import bulk", "jobstate.cli.render.bulk", {"asyncio", "rich"}),
    ],
)
def test_a_name_imports_only_what_it_needs(program: str, wanted: str, unwanted: set[str]) -> None:
    imported = imported_by(f"import sys; sys.modules['httpx._main'] = None; {program}")
    assert wanted in imported
    assert imported & unwanted == set()


def test_every_public_name_exists() -> None:
    assert [name for name in jobstate.__all__ if not hasattr(jobstate, name)] == []
    assert dir(jobstate) == sorted(jobstate.__all__)


def test_another_name_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'decode'"):
        jobstate.decode  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'annotations'"):
        exec("from jobstate import annotations")
