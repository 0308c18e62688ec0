"""Do the jobs of queue `lineups`, one after another, until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lineup_slate import read_request
from lineup_solver import LineupRun
from lineup_worker import optimize

from jobstate_worker import JobWorker, RequestRefused, Work

QUEUE = "lineups"
SLATES = Path(__file__).parent / "slates"


def main() -> None:
    """Run the worker until it is told to end."""
    options = read_options()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("jobstate_worker").setLevel(logging.INFO)

    def do(work: Work) -> object:
        try:
            return optimize(work, start)
        finally:
            if options.once:
                worker.stop()

    worker = JobWorker(options.url, [QUEUE], do, drain_seconds=options.drain_seconds)
    try:
        worker.run()
    except RequestRefused as refused:
        sys.exit(f"{options.url} refused: {refused}")


def start(job: Mapping[str, Any]) -> LineupRun:
    """Begin a job's work from its record."""
    return LineupRun(read_request(job, SLATES))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=http_url, default="http://127.0.0.1:8000", help="where the service is")
    parser.add_argument("--once", action="store_true", help="end after one job")
    parser.add_argument("--drain-seconds", type=float, default=60.0, help="how long a job may go on after Ctrl-C")
    return parser.parse_args()


def http_url(text: str) -> str:
    """Accept an http(s) address only: a typing error must not look like an outage."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not start with http:// or https://")
    return text


if __name__ == "__main__":
    main()
