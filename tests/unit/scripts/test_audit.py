"""The look at known vulnerabilities: what was not looked up is never taken for sound."""

import importlib.util
from types import ModuleType

import pytest

from tests.helpers.paths import ROOT

SCRIPT = ROOT / "scripts" / "audit.py"
SOUND = {"name": "click", "version": "8.4.2", "vulns": []}
FLAWED = {"name": "h11", "version": "0.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"]}]}
PASSED_OVER = {"name": "redis", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answers", "words", "ends"),
    [
        ([[SOUND]], ["pypi: 1 dependencies looked up, 0 unknown"], None),
        ([[SOUND, FLAWED]], [], "h11 0.1: PYSEC-1; mended in 0.16.0"),
        ([[SOUND, PASSED_OVER], [SOUND, {**SOUND, "name": "redis"}]], ["osv: 2 dependencies"], None),
        ([[SOUND, PASSED_OVER], "it cannot be reached"], ["NOT CHECKED", "1 of 2 dependencies"], None),
        (["it cannot be reached"] * 2, ["pypi: not asked: it cannot be reached", "NOT CHECKED"], None),
        (["it cannot be reached", [FLAWED, PASSED_OVER]], ["NOT CHECKED", "1 of 2"], "PYSEC-1"),
    ],
)
def test_what_was_not_looked_up_is_said_and_what_is_flawed_is_refused(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[list[dict[str, object]] | str],
    words: list[str],
    ends: str | None,
) -> None:
    told = [one if isinstance(one, str) else audit.read({"dependencies": one}) for one in answers]
    monkeypatch.setattr(audit, "ask", lambda service: told.pop(0))
    if ends is None:
        audit.main()
    else:
        with pytest.raises(SystemExit, match=ends):
            audit.main()
    said = capsys.readouterr().out
    assert all(word in said for word in words)
    assert ("NOT CHECKED" in said) == ("NOT CHECKED" in words)
    assert told == []
