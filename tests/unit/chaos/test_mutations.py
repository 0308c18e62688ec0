"""The guards that the mutation tests remove are in the scripts."""

import shutil
from pathlib import Path

import pytest

from tests.chaos.mutations import MUTATIONS, SOURCE, Mutation, remove_guard


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.script}: {mutation.guard}")
def test_a_guard_is_in_its_script_once_and_can_be_removed(mutation: Mutation, tmp_path: Path) -> None:
    scripts = Path("service", "store", "lua")
    shutil.copytree(SOURCE / scripts, tmp_path / scripts)
    remove_guard(mutation, tmp_path)
    assert any(
        path.read_text() != (SOURCE / path.relative_to(tmp_path)).read_text() for path in tmp_path.rglob("*.lua")
    )
