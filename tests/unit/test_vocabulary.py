"""The project uses the field's standard terms: words of its former private vocabulary stay out."""

import re
import subprocess
from functools import cache
from typing import Final

import pytest

from tests.helpers.paths import ROOT

#: Each banned word or phrase, and the standard term to use instead.
BANNED: Final = {
    "bell": "wake-up",
    "bells": "wake-ups",
    "shelf": "index state",
    "shelves": "index states",
    "epitaph": "expiry member",
    "glance": "summary, or read",
    "glanced": "read",
    "patience": "timeout",
    "deaf": "stream down",
    "seat": "slot",
    "seats": "slots",
    "grave": "expired job",
    "graves": "expired jobs",
    "census": "job counts",
    "linger": "idle timeout",
    "lingers": "waits",
    "whoever": "a client that …",
    "somebody": "a client",
    "told": "notified, received or reported",
    "heard": "received",
    "said": "reported",
    "besides": "also",
    "passed over": "skipped",
    "given back": "released",
    "handed on": "requeued",
    "turned away": "rejected",
    "let in": "allowed",
    "stood still": "was paused",
    "mend": "fix, or heal",
    "mended": "fixed, or healed",
}
#: Paths that may use banned words, each with the reason. An entry that finds nothing more must be removed.
EXEMPT: Final = {
    "src/service/store/data_version.py": "names the keys of version 1",
    "docs/decisions/0015-data-version.md": "names the keys of version 1",
    "src/service/store/doctor/key_names.py": "names the keys of version 1",
}
SEARCHED: Final = ("*.md", "src", "docs", "tests", "benchmarks", "scripts", "examples", "deploy")
_WORD: Final = re.compile(rf"(?<![A-Za-z])({'|'.join(BANNED)})(?![A-Za-z])", re.IGNORECASE)
#: Names that stay: a socket option and a driver of the sample data.
_IGNORED: Final = re.compile(r"\bSO_LINGER\b|\bA\. Bell\b")
#: Files of other projects, generated files, and this list.
_EXCLUDED: Final = re.compile(r"swagger_ui/|uplot/|tests/unit/test_vocabulary\.py|\.(png|svg|json|lock|csv|woff2?)$")


@cache
def findings() -> dict[str, list[str]]:
    """Return for each file the lines with a banned word, as `line: word (standard term)`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *SEARCHED]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    found: dict[str, list[str]] = {}
    for name in listed:
        path = ROOT / name
        if _EXCLUDED.search(name) or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for match in _WORD.finditer(_IGNORED.sub("", line)):
                word = match[1].lower()
                found.setdefault(name, []).append(f"{name}:{number}: {word!r}; use: {BANNED[word]}")
    return found


def test_banned_words_are_not_used() -> None:
    lines = [line for name, found in findings().items() if not name.startswith(tuple(EXEMPT)) for line in found]
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("path", EXEMPT)
def test_an_exemption_is_still_needed(path: str) -> None:
    assert any(name.startswith(path) for name in findings()), f"remove {path!r} from `EXEMPT`: {EXEMPT[path]}"
