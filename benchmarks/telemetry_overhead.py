"""What the access line, the metrics and the limits cost: requests per second with and without, side by side.

Each variant is a process of its own on one Redis; `wrk` (Debian's package) asks them in turn, in short rounds.
"""

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median
from typing import Final

import httpx
import uvicorn

from benchmarks import http_throughput
from benchmarks.fixtures import server
from service.app import create_app, create_asgi_app
from service.observability import logs
from service.observability.metrics import Metrics
from service.server.listener import bind
from service.server.server import Server
from service.settings import Settings

CONNECTIONS: Final = 64
SECONDS: Final = 2
ROUNDS: Final = 9


def bare(settings: Settings, url: str) -> uvicorn.Server:
    """The application alone on uvicorn: no access line, no limits; calls of Redis are counted all the same."""
    app = create_app(settings, url)
    return uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))


def uvicorn_log(settings: Settings, url: str) -> uvicorn.Server:
    """The application alone with uvicorn's own access log."""
    app = create_app(settings, url)
    return uvicorn.Server(uvicorn.Config(app, access_log=True, log_config=None, server_header=False))


def measured(settings: Settings, url: str) -> uvicorn.Server:
    """All that stands around the application, on uvicorn's own connections."""
    app, _ = create_asgi_app(settings, url, Metrics())
    return uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))  # type: ignore[arg-type]


def production(settings: Settings, url: str) -> uvicorn.Server:
    """What `jobstate` serves."""
    return Server(settings, url, started=lambda: None)


#: Each variant with the least level that it logs.
VARIANTS: Final[dict[str, tuple[Callable[[Settings, str], uvicorn.Server], str]]] = {
    "bare": (bare, "warning"),
    "uvicorn's access log": (uvicorn_log, "info"),
    "metrics, no access line": (measured, "warning"),
    "metrics and access line": (measured, "info"),
    "jobstate, limits and all": (production, "info"),
}


def serve(variant: str, port: int, url: str) -> None:
    """Serve as one of the variants."""
    make, level = VARIANTS[variant]
    logs.configure(level, "json")
    with bind("127.0.0.1", port) as listener:
        make(Settings.from_environment({"MAX_WATCHERS_PER_CLIENT": "1000"}), url).run([listener])


def running(variant: str, port: int, url: str, folder: str) -> AbstractContextManager[str]:
    """Run a variant and yield its address."""
    python = (sys.executable, "-m", "benchmarks.telemetry_overhead")
    return http_throughput.running((*python, "--serve", variant, "--port", str(port), "--redis", url), port, folder)


def requests_per_second(address: str) -> float:
    """Ask for a job as often as goes for a round."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"{address}/v1/jobs/j"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(said)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found
    return float(found[1])


def main() -> None:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=VARIANTS)
    parser.add_argument("--port", type=int)
    parser.add_argument("--redis")
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.port, given.redis)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing (apt-get install wrk)")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(server())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        addresses = {
            variant: stack.enter_context(running(variant, 8900 + number, url, folder))
            for number, variant in enumerate(VARIANTS)
        }
        first = next(iter(addresses.values()))
        httpx.post(f"{first}/v1/jobs", json={"job_id": "j", "input_params": {"text": "x" * 89}}).raise_for_status()
        rounds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(ROUNDS):
            for variant, address in addresses.items():
                rounds[variant].append(requests_per_second(address))
    medians = {variant: median(found) for variant, found in rounds.items()}
    print(f"get, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s each, interleaved")
    for variant, found in medians.items():
        print(f"  {variant:26} {found:7.0f}/s  x{found / medians['bare']:.2f}")


if __name__ == "__main__":
    main()
