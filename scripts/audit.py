"""Look production's dependencies up among known vulnerabilities; say so where nothing could be looked up.

Ends with 1 where there are some, or where pip-audit fails for any other reason than that no database answers.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

LOCK: Final = Path(__file__).resolve().parent.parent / "requirements.lock"
#: The databases, each asked for what those before it did not know.
SERVICES: Final = ("pypi", "osv")
#: Seconds for a connection, and for a database in all.
CONNECT: Final = 5
PATIENCE: Final = 90
#: How it sounds where a database cannot be reached.
_AWAY: Final = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|HTTPError|ServiceError|Could not connect"
)


class Looked(NamedTuple):
    """What came of asking a database."""

    #: What was found, a line for each vulnerability.
    found: list[str]
    #: The names of those that were looked up, and of all others.
    known: set[str]
    unknown: set[str]


def read(report: dict[str, Any]) -> Looked:
    """Return what a report of pip-audit says: a dependency that it passes over counts as not looked up."""
    entries = report["dependencies"]
    found = [
        f"{one['name']} {one['version']}: {flaw['id']}; mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in entries
        for flaw in one.get("vulns", ())
    ]
    unknown = {one["name"] for one in entries if "skip_reason" in one}
    return Looked(found, {one["name"] for one in entries} - unknown, unknown)


def ask(service: str) -> Looked | str:
    """Ask a database of all dependencies; return why it could not be asked where that is so."""
    options = ["--requirement", str(LOCK), "--disable-pip", "--require-hashes", "--timeout", str(CONNECT)]
    command = [sys.executable, "-m", "pip_audit", *options, "--vulnerability-service", service, "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"no end within {PATIENCE} s"
    if done.stdout.lstrip().startswith("{"):
        return read(json.loads(done.stdout))
    if _AWAY.search(done.stderr):
        return "it cannot be reached"
    sys.exit(f"pip-audit failed:\n{done.stderr}")


def said(answers: Iterable[tuple[str, Looked | str]]) -> Iterator[str]:
    """Say of each database what it knew."""
    for service, answer in answers:
        if isinstance(answer, str):
            yield f"{service}: not asked: {answer}."
        else:
            yield f"{service}: {len(answer.known)} dependencies looked up, {len(answer.unknown)} unknown there."


def main() -> None:
    """Ask until every dependency was looked up; end with what was found."""
    answers: list[tuple[str, Looked | str]] = []
    for service in SERVICES:
        answers.append((service, ask(service)))
        last = answers[-1][1]
        if isinstance(last, Looked) and not last.unknown:
            break
    print("\n".join(said(answers)))
    looked = [answer for _, answer in answers if isinstance(answer, Looked)]
    everything = set().union(*(one.known | one.unknown for one in looked))
    left = everything - set().union(*(one.known for one in looked))
    if not looked or left:
        what = f"{len(left)} of {len(everything)} dependencies" if looked else "The dependencies"
        print(f"NOT CHECKED for known vulnerabilities: {what}; no database here knows them.")
    found = sorted({line for one in looked for line in one.found})
    if found:
        sys.exit("\n".join(["Known vulnerabilities:", *found]))


if __name__ == "__main__":
    main()
