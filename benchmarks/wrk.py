"""Runs `wrk` (Debian's package) and returns its rate and latencies."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.fixtures import AUTHORIZATION

_SCRIPT: Final = Path(__file__).with_name("requests.lua")


class Sample(NamedTuple):
    """The result of one run of `wrk`."""

    rate: float
    """Responses per second."""
    p50: float
    """Median latency in milliseconds."""
    p99: float
    """99th percentile of the latency in milliseconds."""


def require_wrk() -> None:
    """Exit with an error if `wrk` is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit("`wrk` is missing; install it (apt-get install wrk)")


def run_wrk(address: str, kind: str, first: int, count: int, *, connections: int, seconds: int) -> Sample:
    """Send requests of `kind` (see `requests.lua`) for jobs `bench-N` from `first` on; exit on any error response."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(_SCRIPT), address, "--"]
    command += [kind, str(first), str(count), AUTHORIZATION["Authorization"]]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(output.splitlines()[-1])
    if result["error_responses"] or result["failed"] or not result["requests"]:
        raise SystemExit(f"{address} {kind}: {output}")
    return Sample(result["requests"] / result["seconds"], result["p50_ms"], result["p99_ms"])
