"""The unit, as `systemd-analyze` reads it."""

import subprocess
from pathlib import Path

import pytest

from tests.helpers.deploy_tools import UNIT, systemd_analyze

#: Exposure in tenths, from 0 (isolated) to 100, as systemd 252 counts it.
MAX_EXPOSURE = 15


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a command that exists."""
    text = UNIT.read_text()
    assert text.count("ExecStart=/opt/jobstate/bin/jobstate serve\n") == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/jobstate/bin/jobstate", "/bin/sh"))
    return copy


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(systemd_analyze()), *arguments], capture_output=True, text=True, check=False)


def test_systemd_accepts_the_unit_without_a_warning(unit: Path) -> None:
    result = analyze("verify", "--man=no", str(unit))

    output = result.stdout + result.stderr  # with what other units of this machine cause
    assert (result.returncode, [line for line in output.splitlines() if UNIT.stem in line]) == (0, [])


def test_a_directive_that_systemd_does_not_know_is_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("KillMode=", "KillMod="))

    assert "KillMod" in analyze("verify", "--man=no", str(unit)).stderr


def test_the_unit_is_isolated(unit: Path) -> None:
    result = analyze("security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}", str(unit))

    assert result.returncode == 0, result.stdout
