"""The worker's decisions: which job to take, what to report, when to stop, and how to sit out an outage."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from lineup_service import Job, JobMoved, JobService, RequestRefused, ServiceAway
from lineup_slate import InvalidInput

QUEUE = "lineups"
POLL_SECONDS = 1.0
REPORT_SECONDS = 1.0
FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 5.0
#: However long the service asks to be left alone, it is asked again after this.
LONGEST_RETRY_AFTER_SECONDS = 30.0

Answer = TypeVar("Answer")
Say = Callable[[str], None]


class Stopped(Exception):
    """The worker was told to end."""


class Run(Protocol):
    """Work that is done step by step."""

    total: int
    done: int

    def advance(self) -> None:
        """Do the next step."""

    def result(self) -> dict[str, object]:
        """Give the result of the steps done."""


class Outage:
    """Knows since when the service has been away, and when to ask it again."""

    def __init__(self, say: Say, clock: Callable[[], float]) -> None:
        """Start with a service that is there."""
        self._say = say
        self._clock = clock
        self._since: float | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS

    def goes_on(self, away: ServiceAway) -> float:
        """Note a failed attempt; return the seconds to wait before the next."""
        if self._since is None:
            self._since = self._clock()
            self._say(f"service away ({away}); trying again until it is back")
        wait = self._retry_seconds
        self._retry_seconds = min(2 * wait, LONGEST_RETRY_SECONDS)
        return max(wait, min(away.retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS))

    def is_over(self) -> None:
        """Note that the service answered, whatever it said."""
        if self._since is not None:
            self._say(f"service back after {self._clock() - self._since:.1f} s")
        self._since = None
        self._retry_seconds = FIRST_RETRY_SECONDS


class Worker:
    """Takes jobs one at a time and sees each of them through."""

    def __init__(
        self,
        service: JobService,
        start: Callable[[Mapping[str, Any]], Run],
        *,
        say: Say,
        pause: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what begins a job's work, and a pause that returns true as soon as the worker has to end."""
        self._service = service
        self._start = start
        self._say = say
        self._pause = pause
        self._clock = clock
        self._outage = Outage(say, clock)

    def work(self, once: bool = False) -> None:
        """Do one job after another (or one only); raise `Stopped` when told to end."""
        self._say(f"waiting for jobs in queue {QUEUE!r}")
        while True:
            if self.work_one() and once:
                return
            self._wait(0)

    def work_one(self) -> bool:
        """Do the oldest pending job; return false, after a moment, if there was none to take."""
        job = self._take_oldest()
        if job is None:
            self._wait(POLL_SECONDS)
            return False
        job_id = job.record["job_id"]
        try:
            self._finish(job_id, self._compute(job))
        except JobMoved as moved:
            self._say(f"dropped {job_id}: it {_what_became(moved)}")
        except RequestRefused as refused:
            self._say(f"dropped {job_id}, which stays running: {refused}")
        except Stopped:
            self._say(f"leaving {job_id} unfinished; the service still shows it as running")
            raise
        return True

    def _take_oldest(self) -> Job | None:
        for job_id in self._insist(lambda: self._service.pending_job_ids(QUEUE)):
            job = self._take(job_id)
            if job is not None:
                return job
        return None

    def _take(self, job_id: str) -> Job | None:
        """Take the job if it is still as it was read, so that of two workers only one gets it."""
        try:
            job = self._insist(lambda: self._service.get(job_id))
            if job.record["status"] != "pending":
                return None
            self._change(job_id, {"status": "running"}, if_match=job.etag)
        except JobMoved:
            self._say(f"{job_id} went to another worker, or is gone")
            return None
        self._say(f"took {job_id}")
        return job

    def _compute(self, job: Job) -> dict[str, Any]:
        """Do the work; return the change that finishes the job."""
        try:
            run = self._start(job.record)
            self._run_to_end(job.record["job_id"], run)
            return {"status": "completed", "result": run.result()}
        except (JobMoved, Stopped):
            raise
        except InvalidInput as error:
            return _failed("invalid-input", str(error), field=error.field)
        except Exception as error:
            traceback.print_exc()
            return _failed("worker-error", f"{type(error).__name__}: {error}")

    def _run_to_end(self, job_id: str, run: Run) -> None:
        report_at = self._clock() + REPORT_SECONDS
        while run.done < run.total:
            self._wait(0)
            run.advance()
            if self._clock() >= report_at and run.done < run.total:
                report_at = self._clock() + self._report(job_id, run)

    def _report(self, job_id: str, run: Run) -> float:
        """Report the progress once, for newer replaces it; return the seconds until the next report."""
        message = f"{run.done:,} of {run.total:,} scenarios"
        progress = {"current": run.done, "total": run.total, "message": message}
        try:
            self._service.change(job_id, {"status": "running", "progress": progress}, key=str(uuid4()))
        except ServiceAway as away:
            wait = self._outage.goes_on(away)
            self._say(f"{job_id}: {message}, not reported")
            return max(REPORT_SECONDS, wait)
        self._outage.is_over()
        self._say(f"{job_id}: {message}")
        return REPORT_SECONDS

    def _finish(self, job_id: str, outcome: dict[str, Any]) -> None:
        try:
            self._change(job_id, outcome)
        except RequestRefused as refused:
            outcome = _failed("outcome-refused", str(refused))
            self._change(job_id, outcome)
        reason = f": {outcome['error_message']['message']}" if "error_message" in outcome else ""
        self._say(f"{outcome['status']} {job_id}{reason}")

    def _change(self, job_id: str, body: Mapping[str, object], if_match: str | None = None) -> None:
        """Send one change, under one key, until the service has answered it."""
        key = str(uuid4())
        self._insist(lambda: self._service.change(job_id, body, key, if_match))

    def _insist(self, call: Callable[[], Answer]) -> Answer:
        """Repeat the call while the service is away."""
        while True:
            try:
                answer = call()
            except ServiceAway as away:
                self._wait(self._outage.goes_on(away))
            except (JobMoved, RequestRefused):
                self._outage.is_over()
                raise
            else:
                self._outage.is_over()
                return answer

    def _wait(self, seconds: float) -> None:
        if self._pause(seconds):
            raise Stopped


def _failed(kind: str, message: str, **more: str) -> dict[str, Any]:
    return {"status": "failed", "error_message": {"type": kind, "message": message, **more}}


def _what_became(moved: JobMoved) -> str:
    if moved.current_status is None:
        return f"is gone ({moved})"
    return f"is {moved.current_status} meanwhile"
