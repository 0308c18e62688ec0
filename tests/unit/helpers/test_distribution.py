"""The distribution of the tests over processes, and the list of `just quick`."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers import distribution
from tests.helpers.paths import ROOT

#: Areas without a test in the list: their tools may be missing.
NOT_QUICK = {"clients", "node"}
INTEGRATION = ROOT / "tests" / "integration"
QUICK = (ROOT / "tests" / "quick.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "in_one_process"),
    [
        (["tests/unit/test_layers.py"], True),
        (["tests/unit/test_layers.py::test_a", "tests/unit/test_layers.py::test_b"], True),
        (["tests/unit/test_layers.py", "tests/unit/test_vocabulary.py"], False),
        (["tests/unit"], False),
        (["tests"], False),
    ],
)
def test_tests_of_one_file_start_no_process(arguments: list[str], in_one_process: bool) -> None:
    config: Any = SimpleNamespace(args=arguments)
    assert (distribution.processes(config) == 0) is in_one_process


def test_chromium_and_what_makes_networks_share_a_process() -> None:
    scheduling = object.__new__(distribution.FileScheduling)
    names = ("tests/browser/test_job.py::test_a", "tests/browser/test_key.py::test_a")
    scopes = [scheduling._split_scope(f"{name}[x]") for name in (*names, *distribution.CHROMIUM_OR_NETWORKS[1:])]
    assert len(set(scopes)) == 1
    others = ("tests/unit/test_a.py::test_a", "tests/unit/test_a.py::test_b", "tests/unit/test_b.py::test_a")
    assert [scheduling._split_scope(name) for name in others] == ["tests/unit/test_a.py"] * 2 + ["tests/unit/test_b.py"]


def test_processes_that_tests_start_keep_their_bytecode() -> None:
    program = "import sys; sys.exit(sys.dont_write_bytecode)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", distribution.LONGEST)
def test_what_starts_first_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_just_quick_has_a_test_of_every_area_of_integration() -> None:
    areas = {
        file.parent.relative_to(ROOT) for file in INTEGRATION.rglob("test_*.py") if file.parent.name not in NOT_QUICK
    }
    covered = {(ROOT / line.partition("::")[0]).parent.relative_to(ROOT) for line in QUICK}
    assert covered == areas


@pytest.mark.parametrize("line", QUICK)
def test_just_quick_names_tests_that_exist(line: str) -> None:
    file, *names = line.split("::")
    source = (ROOT / file).read_text()
    assert [name for name in names if f"class {name}:" not in source and f"def {name}(" not in source] == []
