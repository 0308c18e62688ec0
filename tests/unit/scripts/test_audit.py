"""The audit of dependencies: an unchecked dependency is never reported as safe."""

import importlib.util
from types import ModuleType

import pytest

from tests.helpers.paths import ROOT

SCRIPT = ROOT / "scripts" / "audit.py"
SAFE = {"name": "click", "version": "8.4.2", "vulns": []}
VULNERABLE = {"name": "h11", "version": "0.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"]}]}
SKIPPED = {"name": "redis", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("results", "words", "failure"),
    [
        ([[SAFE]], ["pypi: 1 dependencies checked, 0 unknown"], None),
        ([[SAFE, VULNERABLE]], [], "h11 0.1: PYSEC-1; fixed in 0.16.0"),
        ([[SAFE, SKIPPED], [SAFE, {**SAFE, "name": "redis"}]], ["osv: 2 dependencies"], None),
        ([[SAFE, SKIPPED], "unreachable"], ["NOT CHECKED", "1 of 2 dependencies"], None),
        (["unreachable"] * 2, ["pypi: not checked: unreachable", "NOT CHECKED"], None),
        (["unreachable", [VULNERABLE, SKIPPED]], ["NOT CHECKED", "1 of 2"], "PYSEC-1"),
    ],
)
def test_unchecked_dependencies_are_reported_and_vulnerable_ones_fail(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    results: list[list[dict[str, object]] | str],
    words: list[str],
    failure: str | None,
) -> None:
    pending = [result if isinstance(result, str) else audit.read({"dependencies": result}) for result in results]
    monkeypatch.setattr(audit, "audit", lambda service: pending.pop(0))
    if failure is None:
        audit.main()
    else:
        with pytest.raises(SystemExit, match=failure):
            audit.main()
    output = capsys.readouterr().out
    assert all(word in output for word in words)
    assert ("NOT CHECKED" in output) == ("NOT CHECKED" in words)
    assert pending == []
