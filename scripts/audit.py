"""Check production's dependencies for known vulnerabilities, and report which could not be checked.

Exit code 1 if there are vulnerabilities, or if pip-audit fails for another reason than an unreachable database.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

LOCK: Final = Path(__file__).resolve().parent.parent / "requirements.lock"
#: The databases in order. A later one is asked only if an earlier one does not know all dependencies.
SERVICES: Final = ("pypi", "osv")
#: Timeouts in seconds for a connection and for a whole audit.
CONNECT_TIMEOUT: Final = 5
AUDIT_TIMEOUT: Final = 90
#: Error output of pip-audit when a database cannot be reached.
_UNREACHABLE: Final = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|HTTPError|ServiceError|Could not connect"
)


class Audit(NamedTuple):
    """The result of an audit with one database."""

    #: One line for each vulnerability.
    vulnerabilities: list[str]
    #: Names of the dependencies that the database knows, and of those that it does not know.
    known: set[str]
    unknown: set[str]


def read(report: dict[str, Any]) -> Audit:
    """Return the result in a report of pip-audit. Skipped dependencies count as unknown."""
    entries = report["dependencies"]
    vulnerabilities = [
        f"{entry['name']} {entry['version']}: {vulnerability['id']}; "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for entry in entries
        for vulnerability in entry.get("vulns", ())
    ]
    unknown = {entry["name"] for entry in entries if "skip_reason" in entry}
    return Audit(vulnerabilities, {entry["name"] for entry in entries} - unknown, unknown)


def audit(service: str) -> Audit | str:
    """Audit all dependencies with one database; return the reason if that is not possible."""
    options = ["--requirement", str(LOCK), "--disable-pip", "--require-hashes", "--timeout", str(CONNECT_TIMEOUT)]
    command = [sys.executable, "-m", "pip_audit", *options, "--vulnerability-service", service, "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"timed out after {AUDIT_TIMEOUT} s"
    if done.stdout.lstrip().startswith("{"):
        return read(json.loads(done.stdout))
    if _UNREACHABLE.search(done.stderr):
        return "unreachable"
    sys.exit(f"pip-audit failed:\n{done.stderr}")


def summaries(results: Iterable[tuple[str, Audit | str]]) -> Iterator[str]:
    """Yield one line for each database."""
    for service, result in results:
        if isinstance(result, str):
            yield f"{service}: not checked: {result}"
        else:
            yield f"{service}: {len(result.known)} dependencies checked, {len(result.unknown)} unknown"


def main() -> None:
    """Audit until every dependency is known; exit with the vulnerabilities, if any."""
    results: list[tuple[str, Audit | str]] = []
    for service in SERVICES:
        results.append((service, audit(service)))
        last = results[-1][1]
        if isinstance(last, Audit) and not last.unknown:
            break
    print("\n".join(summaries(results)))
    audits = [result for _, result in results if isinstance(result, Audit)]
    dependencies = set().union(*(result.known | result.unknown for result in audits))
    unchecked = dependencies - set().union(*(result.known for result in audits))
    if not audits or unchecked:
        count = f"{len(unchecked)} of {len(dependencies)} dependencies" if audits else "all dependencies"
        print(f"NOT CHECKED for known vulnerabilities: {count}")
    if vulnerabilities := sorted({line for result in audits for line in result.vulnerabilities}):
        sys.exit("\n".join(["Known vulnerabilities:", *vulnerabilities]))


if __name__ == "__main__":
    main()
