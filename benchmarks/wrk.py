"""Load on loopback by `wrk` (Debian's package): so many connections for so many seconds, and how it went."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

_SCRIPT: Final = Path(__file__).with_name("requests.lua")


class Round(NamedTuple):
    """How one round of load went."""

    rate: float
    """Requests answered in a second."""
    p50: float
    """Milliseconds from request to answer."""
    p99: float
    """The same, of the slowest hundredth."""


def need_wrk() -> None:
    """End where there is no load generator."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing (apt-get install wrk)")


def ask(address: str, kind: str, first: int, count: int, *, connections: int, seconds: int) -> Round:
    """Ask for jobs `bench-N` from `first` on, as `requests.lua` does for `kind`; no answer may be an error."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(_SCRIPT), address, "--"]
    said = subprocess.run([*command, kind, str(first), str(count)], capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise SystemExit(f"{address} {kind}: {said}")
    return Round(found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"])
