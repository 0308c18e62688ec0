"""Run the jobs of queue `lineups` one after another until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from lineup_slate import read_request
from lineup_solver import LineupRun
from lineup_worker import optimize

from jobstate import Job, JobContext, RequestRejected, Worker

QUEUE = "lineups"
SLATES = Path(__file__).parent / "slates"


def main() -> None:
    """Run the worker until it is stopped."""
    options = read_options()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("jobstate").setLevel(logging.INFO)

    def do(context: JobContext) -> object:
        try:
            return optimize(context, start)
        finally:
            if options.once:
                worker.stop()

    worker = Worker(options.url, [QUEUE], do, drain_seconds=options.drain_seconds)
    try:
        worker.run()
    except RequestRejected as error:
        sys.exit(f"{options.url} rejected the request: {error}")


def start(job: Job) -> LineupRun:
    """Start the computation of a job record."""
    return LineupRun(read_request(job, SLATES))


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=http_url, default="http://127.0.0.1:8000", help="URL of the service")
    parser.add_argument("--once", action="store_true", help="exit after one job")
    parser.add_argument(
        "--drain-seconds", type=float, default=60.0, help="seconds that a job may continue after Ctrl-C"
    )
    return parser.parse_args()


def http_url(text: str) -> str:
    """Return an http(s) URL; any other text is a usage error, so that a typo does not look like an outage."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not start with http:// or https://")
    return text


if __name__ == "__main__":
    main()
