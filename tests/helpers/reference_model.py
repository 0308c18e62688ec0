"""A reference model of the API contract: the expected response to any call, given all earlier calls."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

#: Seconds for which the service keeps a job after its last change, by default.
SERVICE_RETENTION = 7 * 86400
FINAL_STATUSES = {"completed", "failed", "cancelled"}
STATUSES = {"pending", "running", *FINAL_STATUSES}
TRANSITIONS = {"pending": {"running", "failed", "cancelled"}, "running": {"running", *FINAL_STATUSES}}


class Expected(NamedTuple):
    """The expected HTTP status, and the problem's name or the job that the response must show (`None` for none)."""

    status: int
    problem: str = ""
    job: "ModelJob | None" = None


@dataclass
class ModelJob:
    """The state of one job in the model."""

    job_id: str
    queue: str
    input_params: Any
    max_attempts: int
    #: Claims take jobs of equal priority in this order.
    creation_order: int
    status: str = "pending"
    revision: int = 1
    attempt: int = 0
    failures: int = 0
    result: Any = None
    error_message: Any = None
    progress: Any = None
    token: str | None = None
    is_leased: bool = False
    has_worker: bool = False
    cancel_requested: bool = False
    #: The other fields of its creation: labels, priority, retention, time-outs.
    options: dict[str, Any] = field(default_factory=dict)
    #: The settings of its queue.
    settings: dict[str, Any] = field(default_factory=dict)
    #: For how many seconds it is kept after its end.
    kept_seconds: int | None = None
    #: Whether it has been running since its creation or its last retry.
    has_started: bool = False
    #: The idempotency key of the last change, and its request; the same of the last retry.
    last_change: tuple[str, Any] | None = None
    last_retry: tuple[str, Any] | None = None
    #: The keys of the last changes before the retries.
    before_retries: set[str] = field(default_factory=set)
    #: The content of the creation.
    created_with: Any = None

    @property
    def claim_order(self) -> tuple[int, int]:
        """Claims give the job with the smallest one first: a priority counts hours, and all jobs are younger."""
        return -self.options.get("priority", 0), self.creation_order

    def differences(self, record: dict[str, Any]) -> list[str]:
        """Return the fields of a record that differ from this job."""
        expected = {
            "job_id": self.job_id,
            "queue": self.queue,
            "input_params": self.input_params,
            "status": self.status,
            "revision": self.revision,
            "attempt": self.attempt,
            "failures": self.failures,
            "max_attempts": self.max_attempts,
            "result": self.result,
            "error_message": self.error_message,
            "progress": self.progress,
            "labels": self.options.get("labels"),
            "retention_seconds": self.options.get("retention_seconds"),
            "priority": self.options.get("priority") or None,
        }
        wrong = [
            f"{name} is {record.get(name)!r}, not {value!r}"
            for name, value in expected.items()
            if record.get(name) != value
        ]
        flags = {
            "lease_expires_at": self.is_leased,
            "finished_at": self.status in FINAL_STATUSES,
            "worker": self.has_worker,
            "start_deadline_at": "start_timeout_seconds" in self.options
            and self.status == "pending"
            and not self.has_started,
            "run_deadline_at": "run_timeout_seconds" in self.options and self.status == "running",
        }
        wrong += [f"{name} is {record.get(name)!r}" for name, is_there in flags.items() if (name in record) != is_there]
        if self.status in FINAL_STATUSES and abs(_seconds_kept(record) - (self.kept_seconds or 0)) > 1:
            wrong.append(f"it is kept for {_seconds_kept(record)} s, not {self.kept_seconds} s")
        return wrong

    def apply(self, status: str, **content: Any) -> None:
        """Apply a change that the contract allows."""
        if self.status == "pending" and status == "running":
            self.attempt += 1
            self.has_started = True
        self.status = status
        self.revision += 1
        self.is_leased = self.is_leased and status == "running"
        self.has_worker = self.has_worker and status != "pending"
        if status in FINAL_STATUSES:
            self.result, self.error_message = content.get("result"), content.get("error_message")
            of_queue = self.settings.get("retention_seconds", {}).get(status)
            self.kept_seconds = self.options.get("retention_seconds") or of_queue or SERVICE_RETENTION
        self.progress = content.get("progress", self.progress)

    def rejects_token(self, token: str | None) -> bool:
        """Return whether a change must be rejected because of its lease token."""
        return self.is_leased if token is None else token != self.token


@dataclass
class ReferenceModel:
    """All jobs, deletions, idempotency keys and queue settings."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    deletions: set[tuple[str, str]] = field(default_factory=set)
    #: The last change of each deleted job: its idempotency key and the job's id.
    last_changes: set[tuple[str, str]] = field(default_factory=set)
    #: By idempotency key, the request of a claim, the claimed job's id and the token.
    claims: dict[str, tuple[Any, str, str]] = field(default_factory=dict)
    #: The settings of each queue that are set.
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    _order: Any = field(default_factory=count)

    def create(
        self, job_id: str, queue: str, input_params: Any, max_attempts: int, options: dict[str, Any]
    ) -> tuple[Expected, bool]:
        """Create a job; return also whether the response is a replay."""
        job = self.jobs.get(job_id)
        if job is None:
            job = self.jobs[job_id] = ModelJob(job_id, queue, input_params, max_attempts, next(self._order))
            job.created_with = (queue, input_params, max_attempts, options)
            job.options, job.settings = options, self.settings.setdefault(queue, {})
            return Expected(201, job=job), False
        if job.created_with == (queue, input_params, max_attempts, options):
            return Expected(201, job=job), True
        return Expected(409, "job-exists"), False

    def change(
        self, job_id: str, body: dict[str, Any], key: str | None, token: str | None, if_match: int | None
    ) -> Expected:
        """Update a job, with the checks in the order of the contract."""
        if _is_invalid(body):
            return Expected(400, "invalid-request")
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        if job.rejects_token(token):
            return Expected(409, "lease-lost")
        if replay := _replay(job, key, ("change", body)):
            return replay
        if job.status == body["status"] and job.status in FINAL_STATUSES and _same_content(job, body):
            return Expected(200, job=job)
        if if_match not in (None, job.revision):
            return Expected(412, "precondition-failed")
        if not _is_legal(job, body):
            return Expected(409, "illegal-transition")
        job.apply(**body)
        job.last_change = None if key is None else (key, ("change", body))
        return Expected(200, job=job)

    def cancel(self, job_id: str, key: str | None, token: str | None, if_match: int | None) -> Expected:
        """Cancel a job, or request its cancellation while it is leased."""
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        is_request = token is None and job.is_leased
        if not is_request and job.rejects_token(token):
            return Expected(409, "lease-lost")
        if replay := _replay(job, key, "cancel"):
            return replay._replace(status=_cancel_status(job)) if replay.job else replay
        if job.status == "cancelled" or (is_request and job.cancel_requested):
            return Expected(_cancel_status(job), job=job)
        if if_match not in (None, job.revision):
            return Expected(412, "precondition-failed")
        if job.status in FINAL_STATUSES:
            return Expected(409, "illegal-transition")
        job.last_change = None if key is None else (key, "cancel")
        if is_request:
            job.cancel_requested = True
            job.revision += 1
        else:
            job.apply("cancelled")
        return Expected(_cancel_status(job), job=job)

    def retry(self, job_id: str, body: dict[str, Any], key: str | None, if_match: int | None) -> Expected:
        """Make a failed or cancelled job pending again."""
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        request = ("retry", body)
        if replay := _replay(job, key, request):
            return replay
        if if_match not in (None, job.revision):
            return Expected(412, "precondition-failed")
        if job.status not in {"failed", "cancelled"}:
            return Expected(409, "illegal-transition")
        if job.last_change is not None:
            job.before_retries.add(job.last_change[0])
        job.apply("pending", progress=None)
        job.failures, job.error_message, job.token, job.cancel_requested = 0, None, None, False
        job.has_started = False
        job.max_attempts = body.get("max_attempts", job.max_attempts)
        if "priority" in body:
            job.options = job.options | {"priority": body["priority"]}
        job.last_change = job.last_retry = None if key is None else (key, request)
        return Expected(200, job=job)

    def delete(self, job_id: str, key: str | None, if_match: int | None) -> Expected:
        """Delete a finished job."""
        if key is not None and (key, job_id) in self.deletions:
            return Expected(204)
        job = self.jobs.get(job_id)
        if job is None:
            return Expected(404, "job-not-found")
        if if_match not in (None, job.revision):
            return Expected(412, "precondition-failed")
        if job.status not in FINAL_STATUSES:
            return Expected(409, "job-not-final")
        del self.jobs[job_id]
        keys = {made[0] for made in (job.last_change, job.last_retry) if made is not None}
        self.last_changes |= {(made, job_id) for made in keys | job.before_retries}
        if key is not None:
            self.deletions.add((key, job_id))
        return Expected(204)

    def claim(self, queues: tuple[str, ...], lease_seconds: int, key: str | None) -> Expected:
        """Claim the oldest pending job; 204 for none. `record_claim` adds the token."""
        if earlier := None if key is None else self.claims.get(key):
            content, job_id, token = earlier
            if content != ({*queues}, lease_seconds):
                return Expected(422, "idempotency-key-reused")
            if (claimed := self.jobs.get(job_id)) and claimed.is_leased and claimed.token == token:
                return Expected(200, job=claimed)
        open_queues = set(filter(self.accepts_claims, queues))
        due = [job for job in self.jobs.values() if job.status == "pending" and job.queue in open_queues]
        job = min(due, key=lambda job: job.claim_order, default=None)
        if job is not None:
            job.apply("running")
            job.is_leased = job.has_worker = True
            job.token = None
        return Expected(204 if job is None else 200, job=job)

    def record_claim(
        self, job: ModelJob, token: str, queues: tuple[str, ...], lease_seconds: int, key: str | None
    ) -> None:
        """Record the token that a claim returned."""
        job.token = token
        if key is not None:
            self.claims[key] = (({*queues}, lease_seconds), job.job_id, token)

    def configure(self, queue: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change settings of a queue, and return its expected record."""
        settings = self.settings.setdefault(queue, {})
        for name, value in body.items():
            given = _merged(settings.get(name, {}), value) if isinstance(value, dict) else value
            settings[name] = given
            if given in (None, {}):
                del settings[name]
        return self.queue(queue)

    def queue(self, queue: str) -> dict[str, Any]:
        """Return the expected record of a queue."""
        settings, jobs = self.settings.get(queue, {}), [job for job in self.jobs.values() if job.queue == queue]
        statuses = {status: [job.status for job in jobs].count(status) for status in STATUSES}
        due = 0 if settings.get("paused") else statuses["pending"]
        leased = sum(job.is_leased for job in jobs)
        figures = {"delayed": 0, "leased": leased, "demand": due + statuses["running"]}
        return {"queue": queue, "paused": False, "statuses": statuses} | settings | figures

    def accepts_claims(self, queue: str) -> bool:
        """Return whether a queue is not paused and is below its maximum of running jobs."""
        settings = self.settings.get(queue, {})
        running = sum(job.queue == queue and job.status == "running" for job in self.jobs.values())
        return not settings.get("paused") and running < settings.get("max_running", running + 1)

    def heartbeat(self, job_id: str, token: str | None, progress: Any) -> Expected:
        """Extend a lease and store progress."""
        job = self.jobs.get(job_id)
        if job is None:
            return Expected(404, "job-not-found")
        if not job.is_leased or token != job.token:
            return Expected(409, "lease-lost")
        if progress is not None and progress != job.progress:
            job.apply("running", progress=progress)
        return Expected(200)

    def release(self, job_id: str, token: str | None, error: Any, key: str | None) -> Expected:
        """Release a job; with an error its attempt has failed."""
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        if job.rejects_token(token):
            return Expected(409, "lease-lost")
        if replay := _replay(job, key, ("release", error)):
            return replay
        if not job.is_leased:
            return Expected(409, "not-leased")
        job.failures += error is not None and not job.cancel_requested
        exhausted = error is not None and job.failures >= job.max_attempts
        status = "cancelled" if job.cancel_requested else "failed" if exhausted else "pending"
        job.apply(status, error_message=error)
        if error is not None:
            job.error_message = error
        job.last_change = None if key is None else (key, ("release", error))
        return Expected(200, job=job)


def _is_invalid(body: dict[str, Any]) -> bool:
    has_stray_result = "result" in body and body["status"] != "completed"
    has_stray_error = "error_message" in body and body["status"] not in {"failed", "cancelled"}
    return bool(has_stray_result or has_stray_error)


def _replay(job: ModelJob, key: str | None, request: Any) -> Expected | None:
    for made in (job.last_change, job.last_retry):
        if key is not None and made is not None and made[0] == key:
            return Expected(200, job=job) if made[1] == request else Expected(422, "idempotency-key-reused")
    if key in job.before_retries and request[0] not in {"retry", "release"}:
        return Expected(409, "illegal-transition")
    return None


def _same_content(job: ModelJob, body: dict[str, Any]) -> bool:
    return bool(
        body.get("result") == job.result
        and body.get("error_message") == job.error_message
        and body.get("progress", job.progress) == job.progress
    )


def _is_legal(job: ModelJob, body: dict[str, Any]) -> bool:
    if body["status"] not in TRANSITIONS.get(job.status, set()):
        return False
    is_new = bool(body.get("progress", job.progress) != job.progress)
    return is_new or (job.status, body["status"]) != ("running", "running")


def _cancel_status(job: ModelJob) -> int:
    return 200 if job.status == "cancelled" else 202


def _merged(held: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (held | given).items() if value is not None}


def _seconds_kept(record: dict[str, Any]) -> float:
    ended, expires = (datetime.fromisoformat(record[name]) for name in ("finished_at", "expires_at"))
    return (expires - ended).total_seconds()
