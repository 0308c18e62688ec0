"""Do the jobs of queue `lineups`, one after another, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from lineup_service import JobService, RequestRefused
from lineup_slate import read_request
from lineup_solver import LineupRun
from lineup_worker import Stopped, Worker

SLATES = Path(__file__).parent / "slates"
#: Longer than the service's own deadline, so that a slow Redis is told from a dead service.
TIMEOUT_SECONDS = 5.0


class Stop:
    """Turns SIGTERM and Ctrl-C into a flag, so that they never cut a request or a step in two."""

    def __init__(self) -> None:
        """Start to listen for the signals."""
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def pause(self, seconds: float) -> bool:
        """Wait; return true, and early, when a signal came."""
        end = time.monotonic() + seconds
        while not self._asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self._asked

    def _ask(self, *_: object) -> None:
        self._asked = True


def main() -> None:
    """Run the worker until it is told to end."""
    options = read_options()
    stop = Stop()
    with httpx.Client(base_url=options.url, timeout=TIMEOUT_SECONDS) as http:
        worker = Worker(JobService(http), start, say=say, pause=stop.pause)
        try:
            worker.work(options.once)
        except Stopped:
            say("ended, as asked")
        except RequestRefused as refused:
            sys.exit(f"{options.url} refused: {refused}")


def start(job: Mapping[str, Any]) -> LineupRun:
    """Begin a job's work from its record."""
    return LineupRun(read_request(job, SLATES))


def say(text: str) -> None:
    """Print a line with the time of day, at once."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=http_url, default="http://127.0.0.1:8000", help="where the service is")
    parser.add_argument("--once", action="store_true", help="end after one job")
    return parser.parse_args()


def http_url(text: str) -> str:
    """Accept an http(s) address only: a typing error must not look like an outage."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not start with http:// or https://")
    return text


if __name__ == "__main__":
    main()
