"""jobstate for Python: submit jobs, wait for them, follow and cancel them, and run them in a worker.

```python
from jobstate import Jobs

jobs = Jobs("https://jobs.internal")  # JOBSTATE_URL, JOBSTATE_API_KEY
job = jobs.submit({"seed": 42}, queue="lineups", id="sunday")
print(job.wait(timeout=600))
```

`AsyncJobs` is the same for asyncio. `jobstate.errors` draws the tree of errors. `Worker` runs jobs; its modules are
imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

from jobstate._requests import JobFilter, JobOptions
from jobstate._retry import RetryPolicy
from jobstate.async_client import AsyncJobHandle, AsyncJobs
from jobstate.client import JobHandle, Jobs
from jobstate.errors import (
    AccessDenied,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    InvalidResult,
    JobCancelled,
    JobDeleted,
    JobExists,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobstateError,
    JobUnsuccessful,
    NotFound,
    RequestRejected,
    ResultNotReady,
    ServiceUnavailable,
    WaitTimeout,
)
from jobstate.models import History, HistoryEntry, Job, Problem, Progress, Stats

if TYPE_CHECKING:
    from jobstate.worker import JobContext, PermanentFailure, Worker

__all__ = [
    "AccessDenied",
    "AsyncJobHandle",
    "AsyncJobs",
    "ConfigurationError",
    "Conflict",
    "History",
    "HistoryEntry",
    "InvalidRequest",
    "InvalidResult",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobDeleted",
    "JobExists",
    "JobExpired",
    "JobFailed",
    "JobFilter",
    "JobHandle",
    "JobNotFound",
    "JobOptions",
    "JobUnsuccessful",
    "Jobs",
    "JobstateError",
    "NotFound",
    "PermanentFailure",
    "Problem",
    "Progress",
    "RequestRejected",
    "ResultNotReady",
    "RetryPolicy",
    "ServiceUnavailable",
    "Stats",
    "WaitTimeout",
    "Worker",
]


def __getattr__(name: str) -> Any:
    """Return a name of `jobstate.worker`, which only workers import."""
    if name in {"JobContext", "PermanentFailure", "Worker"}:
        import jobstate.worker

        return getattr(jobstate.worker, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
