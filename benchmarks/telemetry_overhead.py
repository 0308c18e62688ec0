"""The cost of the access log, the metrics and the limits, in requests per second.

Each variant is a process of its own, all with one Redis; `wrk` (Debian's package) measures them in turn.
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
from benchmarks.fixtures import API_KEYS, AUTHORIZATION, server
from service.app import create_app, create_asgi_app
from service.domain.shutdown import Shutdown
from service.observability import logs, metrics
from service.observability.metrics import Metrics
from service.server.listener import bind
from service.server.server import Server
from service.settings import Settings

CONNECTIONS: Final = 64
SECONDS: Final = 2
ROUNDS: Final = 9


def bare(settings: Settings, url: str) -> uvicorn.Server:
    """Return the application on uvicorn without access log and limits; Redis commands are still counted."""
    app = create_app(settings, url)
    return uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))


def uvicorn_log(settings: Settings, url: str) -> uvicorn.Server:
    """Return the application with uvicorn's access log."""
    app = create_app(settings, url)
    return uvicorn.Server(uvicorn.Config(app, access_log=True, log_config=None, server_header=False))


def with_middleware(settings: Settings, url: str) -> uvicorn.Server:
    """Return the application with all middleware, on uvicorn's own protocol."""
    app, _ = create_asgi_app(settings, url, Metrics(), Shutdown())
    return uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, server_header=False))  # type: ignore[arg-type]


def production(settings: Settings, url: str) -> uvicorn.Server:
    """Return the server that `jobstate` runs."""
    return Server(settings, url, started=lambda: None)


#: Each variant and its log level.
VARIANTS: Final[dict[str, tuple[Callable[[Settings, str], uvicorn.Server], str]]] = {
    "bare": (bare, "warning"),
    "uvicorn's access log": (uvicorn_log, "info"),
    "metrics, no access log": (with_middleware, "warning"),
    "metrics and access log": (with_middleware, "info"),
    "jobstate": (production, "info"),
}


def serve(variant: str, port: int, url: str) -> None:
    """Run a variant."""
    make, level = VARIANTS[variant]
    logs.configure(level, "json")
    metrics.configure()
    with bind("127.0.0.1", port) as listener:
        make(Settings.from_environment({"MAX_WATCHERS_PER_CLIENT": "1000", "API_KEYS": API_KEYS}), url).run([listener])


def running(variant: str, port: int, url: str, folder: str) -> AbstractContextManager[str]:
    """Run a variant in a process and yield its URL."""
    python = (sys.executable, "-m", "benchmarks.telemetry_overhead")
    return http_throughput.running((*python, "--serve", variant, "--port", str(port), "--redis", url), port, folder)


def requests_per_second(url: str, connections: int = CONNECTIONS) -> float:
    """Return the rate of get requests to `url`, measured with `wrk`."""
    headers = [f"-H{name}: {value}" for name, value in AUTHORIZATION.items()]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", *headers, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise SystemExit(output)
    match = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert match
    return float(match[1])


def main() -> None:
    """Measure all variants and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=VARIANTS)
    parser.add_argument("--port", type=int)
    parser.add_argument("--redis")
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.port, args.redis)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("`wrk` is missing; install it (apt-get install wrk)")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(server())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        addresses = {
            variant: stack.enter_context(running(variant, 8900 + number, url, folder))
            for number, variant in enumerate(VARIANTS)
        }
        first = next(iter(addresses.values()))
        job = {"job_id": "j", "input_params": {"text": "x" * 89}}
        httpx.post(f"{first}/v1/jobs", json=job, headers=AUTHORIZATION).raise_for_status()
        rounds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(ROUNDS):
            for variant, address in addresses.items():
                rounds[variant].append(requests_per_second(f"{address}/v1/jobs/j"))
    medians = {variant: median(rates) for variant, rates in rounds.items()}
    print(f"get, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s each, interleaved")
    for variant, rate in medians.items():
        print(f"  {variant:26} {rate:7.0f}/s  x{rate / medians['bare']:.2f}")


if __name__ == "__main__":
    main()
