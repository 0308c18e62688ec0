"""A client of jobstate for Python: submit jobs, wait for them, follow and cancel them.

```python
from jobstate import Jobs

jobs = Jobs("https://jobs.internal")  # JOBSTATE_URL, JOBSTATE_API_KEY
job = jobs.submit({"seed": 42}, queue="lineups", id="sunday")
print(job.wait(timeout=600))
```

`AsyncJobs` is the same for asyncio. `jobstate.errors` draws the tree of errors.
"""

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
    "Problem",
    "Progress",
    "RequestRejected",
    "ResultNotReady",
    "RetryPolicy",
    "ServiceUnavailable",
    "Stats",
    "WaitTimeout",
]
