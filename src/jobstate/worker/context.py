"""The job as its function sees it, and what the function may report as progress."""

import contextlib
import functools
import operator
import threading
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from jobstate._flow import log
from jobstate.models import Job, Progress
from jobstate.worker.encoding import repaired, text_of

MESSAGE_BYTES: Final = 1024
#: The largest integer that an IEEE 754 double represents exactly (RFC 8259, section 6).
MAX_SAFE_INTEGER: Final = 2**53 - 1
_CUT: Final = "…"


class JobContext:
    """One job, as its function sees it. All methods are thread-safe."""

    #: The record at the time of the claim.
    job: Job
    #: The latest progress; `None` before the first report.
    latest: Progress | None = None

    def __init__(self, job: Job, report: Callable[[Progress], None] = lambda progress: None) -> None:
        """Call `report` with each valid progress."""
        self.job = job
        self._report = report
        self._stop = threading.Event()
        self._warned = False

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.job.job_id

    @functools.cached_property
    def input_params(self) -> Any:
        """The input of the job: any JSON as Python objects, or `None`."""
        return self.job.input_params

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1 for the first."""
        return self.job.attempt

    @property
    def correlation_id(self) -> str | None:
        """The correlation id that the client gave, or `None`."""
        return self.job.correlation_id

    @property
    def cancel_requested(self) -> bool:
        """Whether to stop: cancellation was requested, the lease is lost, or the worker shuts down."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Set `cancel_requested`."""
        self._stop.set()

    def progress(self, current: int, total: int | None = None, message: str | None = None) -> None:
        """Report progress in units of your choice. Calls are cheap: the latest report is sent at most once a second.

        Invalid values do not fail the attempt. The first one is logged. `current` and `total` must be integers from 0
        to 2**53 - 1. An invalid `current` omits the report, an invalid `total` only the total. Control characters in
        `message` become spaces, and it is cut to 1,024 bytes.
        """
        count = self._count(current)
        if count is None:
            return
        report = Progress(count, None if total is None else self._count(total), _message(message))
        self.latest = report
        self._report(report)

    def _count(self, value: object) -> int | None:
        with contextlib.suppress(Exception):
            count = operator.index(value)  # type: ignore[arg-type]
            if 0 <= count <= MAX_SAFE_INTEGER:
                return count
        if not self._warned:
            self._warned = True
            shown = text_of(lambda: ascii(value))[:80]
            log.warning(
                "job %s: invalid progress omitted: %s is not an integer from 0 to %d",
                self.job_id,
                shown,
                MAX_SAFE_INTEGER,
            )
        return None


def _message(message: object) -> str | None:
    """Return `message` as valid Unicode without control characters, cut to `MESSAGE_BYTES`; `None` if it is empty."""
    if message is None:
        return None
    text = repaired(text_of(lambda: message)[: MESSAGE_BYTES + 1])
    text = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    if len(text.encode()) > MESSAGE_BYTES:
        text = text.encode()[: MESSAGE_BYTES - len(_CUT.encode())].decode(errors="ignore") + _CUT
    return text or None
