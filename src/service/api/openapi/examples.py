"""Examples in the OpenAPI document: one job of the line-up optimizer, from its creation to its final state."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar.openapi.spec import Example
from msgspec import Raw
from msgspec.structs import replace

from service.domain import bulk, errors, jobs
from service.domain.api_keys import Scope
from service.domain.rate_limits import Quota, RateLimit
from service.domain.states import Status

Examples = Mapping[str, Any]

PENDING: Final = jobs.Job(
    job_id="sunday",
    status=Status.PENDING,
    queue="lineups",
    input_params=Raw(b'{"seed": 42, "top": 3}'),
    scenario_count=2000,
    slate_id="pinewood-400",
    correlation_id="sunday-slate-1",
    revision=1,
    attempt=0,
    failures=0,
    max_attempts=1,
    retry_delay_seconds=0,
    stale=False,
    created_at="2026-03-01T16:30:00.000000Z",
    updated_at="2026-03-01T16:30:00.000000Z",
    expires_at="2026-03-08T16:30:00.000000Z",
)
RUNNING: Final = replace(
    PENDING,
    status=Status.RUNNING,
    progress=jobs.Progress(730, 2000, "simulating races"),
    revision=4,
    attempt=1,
    started_at="2026-03-01T16:30:01.204518Z",
    updated_at="2026-03-01T16:30:12.731902Z",
    expires_at="2026-03-08T16:30:12.731000Z",
)
RESULT: Final = {
    "scenarios": 2000,
    "lineups": [{"drivers": ["Rigby Halfmoon", "Bram Copperhill"], "salary": 50000, "share_won": 0.0555}],
}
COMPLETED: Final = replace(
    RUNNING,
    status=Status.COMPLETED,
    result=Raw(msgspec.json.encode(RESULT)),
    progress=jobs.Progress(2000, 2000, "simulating races"),
    revision=5,
    finished_at="2026-03-01T16:30:30.118204Z",
    updated_at="2026-03-01T16:30:30.118204Z",
    expires_at="2026-03-08T16:30:30.118000Z",
)
FAILED: Final = replace(
    RUNNING,
    status=Status.FAILED,
    error_message=Raw(b'{"reason": "no line-up fits the salary cap"}'),
    revision=5,
    finished_at="2026-03-01T16:30:13.000417Z",
    updated_at="2026-03-01T16:30:13.000417Z",
    expires_at="2026-03-08T16:30:13.000000Z",
)
CANCELLED: Final = replace(FAILED, status=Status.CANCELLED, error_message=None)
LEASED: Final = replace(
    RUNNING, worker="optimizer-1", lease_seconds=30, lease_expires_at="2026-03-01T16:30:42.731000Z", progress=None
)
CANCEL_REQUESTED: Final = replace(LEASED, revision=5, cancel_requested_at="2026-03-01T16:30:13.000417Z")
RELEASED: Final = replace(
    PENDING,
    revision=5,
    attempt=1,
    failures=1,
    max_attempts=3,
    started_at=RUNNING.started_at,
    error_message=Raw(b'{"reason": "out of memory"}'),
    updated_at="2026-03-01T16:30:13.000417Z",
)
RETRIED: Final = replace(RELEASED, revision=6, failures=0, error_message=None)
CLAIM: Final = jobs.Claim(LEASED, jobs.Lease("1-mlyqQ9vN2c7XbTdU", "2026-03-01T16:30:42.731000Z"))
HEARTBEAT: Final = jobs.HeartbeatResult("2026-03-01T16:30:52.104000Z", False)
LISTED: Final = replace(RUNNING, input_params=None)

UPDATED: Final[Examples] = {"running": RUNNING, "completed": COMPLETED}
JOB: Final[Examples] = {"pending": PENDING, **UPDATED}
CREATE: Final[Examples] = {
    "lineups": {
        "job_id": "sunday",
        "queue": "lineups",
        "slate_id": "pinewood-400",
        "scenario_count": 2000,
        "input_params": {"seed": 42, "top": 3},
    },
    "minimal": {"input_params": {"seed": 42}},
}
CHANGE: Final[Examples] = {
    "start": {"status": "running"},
    "progress": {"status": "running", "progress": {"current": 730, "total": 2000, "message": "simulating races"}},
    "complete": {"status": "completed", "result": RESULT},
    "fail": {"status": "failed", "error_message": {"reason": "no line-up fits the salary cap"}},
}
CLAIM_JOB: Final[Examples] = {"worker": {"queues": ["lineups"], "worker": "optimizer-1"}}
CLAIM_JOBS: Final[Examples] = {"worker": {"queues": ["lineups"], "worker": "optimizer-1", "max_jobs": 8}}
SEND_HEARTBEAT: Final[Examples] = {
    "extend": {},
    "progress": {"progress": {"current": 730, "total": 2000, "message": "simulating races"}},
}
RETRY_JOB: Final[Examples] = {"same attempts": {}, "one attempt in a minute": {"max_attempts": 1, "delay_seconds": 60}}
RELEASE_JOB: Final[Examples] = {"no failure": {}, "failed attempt": {"error_message": {"reason": "out of memory"}}}
BATCH_GET: Final[Examples] = {"two": {"job_ids": ["sunday", "monday"]}}
BATCH_CREATE: Final[Examples] = {
    "two": {"jobs": [{"queue": "lineups", "input_params": {"seed": seed}} for seed in (42, 43)]},
}
BULK_ACTIONS: Final[Examples] = {
    "retry": {"action": "retry", "filter": {"status": "failed", "queue": "lineups"}, "expect": 120},
    "count": {"action": "delete", "filter": {"created_before": "2026-03-01T00:00:00Z"}, "dry_run": True},
}
BULK_ACTION_ID: Final = "019caa45-6d32-7d01-8000-5f6f6d2f6e01"
BULK_ACTION: Final = bulk.BulkAction(
    action_id=BULK_ACTION_ID,
    kind=bulk.BulkKind.RETRY,
    filters=jobs.JobFilter(status=Status.FAILED, queue="lineups"),
    expect=120,
    state=bulk.BulkState.DONE,
    matched=120,
    done=119,
    refused={errors.IllegalTransition: 1},
    examples=[("sunday", errors.IllegalTransition)],
    by="",
    created_at="2026-03-01T16:30:14.000000Z",
    finished_at="2026-03-01T16:30:14.100000Z",
)
BATCH: Final = jobs.JobBatch([LISTED], ["monday"])
STATS: Final = jobs.Stats(
    at="2026-03-01T16:30:14.000000Z",
    statuses={**dict.fromkeys(Status, 0), Status.PENDING: 1, Status.RUNNING: 1, Status.COMPLETED: 12},
    delayed=0,
    queues={"lineups": {**dict.fromkeys(Status, 0), Status.PENDING: 1, Status.RUNNING: 1, Status.COMPLETED: 12}},
    running=jobs.RunningCount(leased=0, unleased=1),
    oldest_pending=jobs.OldestJob("monday", "lineups", "2026-03-01T16:30:10.000000Z"),
)

METRICS: Final = """\
# HELP jobstate_jobs Jobs by status
# TYPE jobstate_jobs gauge
jobstate_jobs{status="pending"} 1.0
jobstate_jobs{status="running"} 1.0
jobstate_jobs{status="completed"} 12.0
"""

QUEUE: Final = jobs.Queue(
    queue="lineups",
    paused=False,
    max_running=4,
    retention_seconds=jobs.Retention(completed=86400),
    statuses={**dict.fromkeys(Status, 0), Status.PENDING: 3, Status.RUNNING: 1},
    delayed=1,
    leased=1,
    demand=3,
    oldest_due_seconds=12,
)
CONFIGURE_QUEUE: Final[Examples] = {
    "pause": {"paused": True},
    "limit": {"max_running": 4},
    "keep completed jobs for a day": {"retention_seconds": {"completed": 86400}},
    "defaults": {"paused": None, "max_running": None, "retention_seconds": None},
}
START_DRAIN: Final[Examples] = {"ten minutes": {"seconds": 600}}
DRAIN: Final = jobs.DrainStatus(
    draining=True,
    until="2026-03-01T17:30:14.000000Z",
    running=1,
    leased=1,
    oldest=jobs.OldestJob("sunday", "lineups", PENDING.created_at),
    safe_to_stop=False,
)
NO_DRAIN: Final = jobs.DrainStatus(draining=False, running=0, leased=0, safe_to_stop=False)

HISTORY: Final = jobs.History(
    items=[
        jobs.HistoryEntry(at="2026-03-01T16:30:10.000000Z", revision=1, change="created"),
        jobs.HistoryEntry(at="2026-03-01T16:30:12.345000Z", revision=2, change="running"),
        jobs.HistoryEntry(
            at="2026-03-01T16:30:13.000417Z",
            revision=5,
            change="failed",
            attempt=1,
            error='{"reason": "no line-up fits the salary cap"}',
        ),
        jobs.HistoryEntry(at="2026-03-01T16:32:02.113000Z", revision=6, change="retried"),
        jobs.HistoryEntry(at="2026-03-01T16:32:02.720000Z", revision=7, change="running"),
        jobs.HistoryEntry(at="2026-03-01T16:32:20.345000Z", revision=33, change="completed"),
    ],
    complete=True,
)
JOB_EVENTS: Final = """\
retry: 1000

event: changed
id: 1772382610000000-2
data: {"job_id":"sunday","status":"running","revision":2,"queue":"lineups","attempt":1}

event: changed
id: 1772382610000000-3
data: {"job_id":"sunday","status":"completed","revision":3,"queue":"lineups","attempt":1}
"""
EVENTS: Final = """\
retry: 1000

event: hello
id: 1772382610000-0
data: {}

event: changed
id: 1772382612345-0
data: {"job_id":"sunday","status":"pending","revision":1,"queue":"lineups","slate_id":"pinewood-400",\
"at":"2026-03-01T16:30:12.345000Z","created_at":"2026-03-01T16:30:12.345678Z"}

event: changed
id: 1772382613345-0
data: {"job_id":"sunday","status":"running","revision":2,"queue":"lineups","slate_id":"pinewood-400",\
"at":"2026-03-01T16:30:13.345000Z","created_at":"2026-03-01T16:30:12.345678Z"}
"""

#: One instance of every domain error.
ERRORS: Final[tuple[errors.JobStateError, ...]] = (
    errors.Unauthenticated(is_unknown=False),
    errors.InsufficientScope("dashboard", Scope.WRITE, None),
    errors.InvalidValue("scenario_count", "-1 is not allowed", "an integer from 0 to 9007199254740991"),
    errors.JobNotFound("sunday"),
    bulk.BulkActionNotFound("nightly"),
    bulk.UnexpectedCount(100, 120),
    errors.IdempotencyKeyReused(),
    errors.PreconditionFailed(Status.RUNNING, 4),
    errors.RateLimited(Quota(RateLimit(600, 60), remaining=0, reset_seconds=60), retry_after=1),
    errors.JobExists("sunday", Status.RUNNING, 4),
    errors.IllegalTransition(Status.RUNNING, Status.COMPLETED, 5),
    errors.LeaseLost(Status.RUNNING, 6),
    errors.NotLeased(Status.PENDING, 5),
    errors.JobNotFinal(Status.RUNNING, 4),
    errors.ResultNotReady(Status.RUNNING),
    errors.JobFailed(FAILED.error_message),
    errors.JobCancelled(None),
    errors.TooManyWatchers(100),
    errors.Overloaded(
        "The process has reached its limit of 1000 concurrent requests (`MAX_CONCURRENT_REQUESTS`). Retry later."
    ),
    errors.Draining(retry_after=60),
    errors.StoreUnreachable(f"{errors.StoreUnreachable.default_detail} (Connection refused)"),
    errors.StorePartitionUnavailable(
        f"{errors.StorePartitionUnavailable.default_detail} (10.0.0.7:6379 does not answer)"
    ),
    errors.StoreMoving(f"{errors.StoreMoving.default_detail} (TRYAGAIN)"),
    errors.StoreTimeout(f"{errors.StoreTimeout.default_detail} (no answer)"),
    errors.StoreLoading(f"{errors.StoreLoading.default_detail} (LOADING)"),
    errors.StoreReadOnly(f"{errors.StoreReadOnly.default_detail} (MISCONF)"),
    errors.StoreOutOfMemory(f"{errors.StoreOutOfMemory.default_detail} (OOM)"),
    errors.StoreBusy(f"{errors.StoreBusy.default_detail} (BUSY)"),
    errors.StoreAccessDenied(f"{errors.StoreAccessDenied.default_detail} (NOAUTH)"),
    errors.DataVersionUnsupported(3, 2),
    errors.PartitionsMismatch(16, 1),
    errors.StoreCorrupt(f"{errors.StoreCorrupt.default_detail} (WRONGTYPE)"),
)

#: The details of problems that are not domain errors, by HTTP status.
DETAILS: Final[Mapping[int, str]] = {
    403: "Web pages from the origin https://other.example may not change data of this service. Add the origin to "
    "`CORS_ORIGINS` to allow it.",
    406: "`Accept: text/html` does not match. Accept application/json, which this path produces.",
    413: "The body exceeds the limit of 1048576 bytes (`MAX_BODY_BYTES`). Send a smaller one.",
    408: "The request did not arrive within 30 s.",
    415: "`Content-Type: text/plain` is not supported. Send `Content-Type: application/json` in UTF-8.",
    421: "The host 'jobs.example' is not allowed. Use one of localhost, 127.0.0.1, or add it to `ALLOWED_HOSTS`.",
    431: "The request's line and headers take more than 65536 bytes.",
    500: "An unexpected error occurred. The service's log has the details under this `correlation_id`.",
}


def example(value: Any) -> Example:
    """Return a value as an example; structs become their JSON."""
    return Example(value=msgspec.json.decode(msgspec.json.encode(value)))
