"""jobstate for Python: submit jobs, wait for them, follow and cancel them, and run them in a worker.

```python
from jobstate import Jobs

jobs = Jobs("https://jobs.internal")  # JOBSTATE_URL, JOBSTATE_API_KEY
job = jobs.submit({"seed": 42}, queue="lineups", id="sunday")
print(job.wait(timeout=600))
```

`AsyncJobs` is the same for asyncio, `Worker` runs jobs, and `jobstate.errors` draws the tree of errors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobstate._bulk_async_client import AsyncBulkActionHandle
    from jobstate._bulk_client import BulkActionHandle
    from jobstate._bulk_models import BulkAction, RefusedJob
    from jobstate._options import JobFilter, JobOptions, NewJob, RetryOptions
    from jobstate._retry import RetryPolicy
    from jobstate.async_client import AsyncJobHandle, AsyncJobs
    from jobstate.client import JobHandle, Jobs
    from jobstate.errors import (
        AccessDenied,
        BulkActionNotFound,
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
        UnexpectedCount,
        WaitTimeout,
    )
    from jobstate.models import History, HistoryEntry, Job, Problem, Progress, Stats
    from jobstate.worker import JobContext, PermanentFailure, Worker

__all__ = [
    "AccessDenied",
    "AsyncBulkActionHandle",
    "AsyncJobHandle",
    "AsyncJobs",
    "BulkAction",
    "BulkActionHandle",
    "BulkActionNotFound",
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
    "NewJob",
    "NotFound",
    "PermanentFailure",
    "Problem",
    "Progress",
    "RefusedJob",
    "RequestRejected",
    "ResultNotReady",
    "RetryOptions",
    "RetryPolicy",
    "ServiceUnavailable",
    "Stats",
    "UnexpectedCount",
    "WaitTimeout",
    "Worker",
]

#: The modules of these names. Each is imported on use, so that a command loads neither both clients nor the worker.
_MODULES: Final = (
    *("errors", "models", "_bulk_models", "_retry", "_options"),
    *("_bulk_client", "client", "_bulk_async_client", "async_client", "worker"),
)


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        found = getattr(import_module(f"jobstate.{module}"), name, None)
        if found is not None:
            globals()[name] = found
            return found
    raise AttributeError(f"module 'jobstate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
