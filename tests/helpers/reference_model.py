"""A model of the contract: what the service must answer to any call, told from the calls before it."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

FINAL_STATUSES = {"completed", "failed", "cancelled"}
TRANSITIONS = {"pending": {"running", "failed", "cancelled"}, "running": {"running", *FINAL_STATUSES}}


class Expected(NamedTuple):
    """The status of an answer, and the name of its problem or what its record must show (`None`: no record)."""

    status: int
    problem: str = ""
    job: "ModelJob | None" = None


@dataclass
class ModelJob:
    """One job as the contract knows it."""

    job_id: str
    queue: str
    input_params: Any
    max_attempts: int
    #: Jobs are given out in this order.
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
    #: The key of the last change and what it asked for.
    last_change: tuple[str, Any] | None = None

    def differences(self, record: dict[str, Any]) -> list[str]:
        """Return what of a record is not as the contract says."""
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
        }
        wrong += [f"{name} is {record.get(name)!r}" for name, is_there in flags.items() if (name in record) != is_there]
        return wrong

    def apply(self, status: str, **content: Any) -> None:
        """Make an accepted change."""
        if self.status == "pending" and status == "running":
            self.attempt += 1
        self.status = status
        self.revision += 1
        self.is_leased = self.is_leased and status == "running"
        self.has_worker = self.has_worker and status != "pending"
        if status in FINAL_STATUSES:
            self.result, self.error_message = content.get("result"), content.get("error_message")
        self.progress = content.get("progress", self.progress)

    def rejects_token(self, token: str | None) -> bool:
        """Say whether a change must be refused for its lease token."""
        return self.is_leased if token is None else token != self.token


@dataclass
class ReferenceModel:
    """All jobs, and what is remembered besides them."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    deletions: set[tuple[str, str]] = field(default_factory=set)
    #: The last change of each job that was deleted: its key, and the job's id.
    last_changes: set[tuple[str, str]] = field(default_factory=set)
    #: What a claim under a key asked for and was given: its content, job, token.
    claims: dict[str, tuple[Any, str, str]] = field(default_factory=dict)
    #: The settings of each queue that were given and not cleared.
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    _order: Any = field(default_factory=count)

    def create(self, job_id: str, queue: str, input_params: Any, max_attempts: int) -> tuple[Expected, bool]:
        """Create a job; say also whether the answer is a replay."""
        job = self.jobs.get(job_id)
        if job is None:
            job = self.jobs[job_id] = ModelJob(job_id, queue, input_params, max_attempts, next(self._order))
            return Expected(201, job=job), False
        if (job.queue, job.input_params, job.max_attempts) == (queue, input_params, max_attempts):
            return Expected(201, job=job), True
        return Expected(409, "job-exists"), False

    def change(
        self, job_id: str, body: dict[str, Any], key: str | None, token: str | None, if_match: int | None
    ) -> Expected:
        """Move a job, with the checks in the order of the contract."""
        if _is_invalid(body):
            return Expected(400, "invalid-request")
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        if job.rejects_token(token):
            return Expected(409, "lease-lost")
        if again := _replay(job, key, ("change", body)):
            return again
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
        """Cancel a job, or ask the holder of its lease to stop."""
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        asks = token is None and job.is_leased
        if not asks and job.rejects_token(token):
            return Expected(409, "lease-lost")
        if again := _replay(job, key, "cancel"):
            return again._replace(status=_cancel_status(job)) if again.job else again
        if job.status == "cancelled" or (asks and job.cancel_requested):
            return Expected(_cancel_status(job), job=job)
        if if_match not in (None, job.revision):
            return Expected(412, "precondition-failed")
        if job.status in FINAL_STATUSES:
            return Expected(409, "illegal-transition")
        job.last_change = None if key is None else (key, "cancel")
        if asks:
            job.cancel_requested = True
            job.revision += 1
        else:
            job.apply("cancelled")
        return Expected(_cancel_status(job), job=job)

    def delete(self, job_id: str, key: str | None, if_match: int | None) -> Expected:
        """Delete a job that has ended."""
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
        if job.last_change is not None:
            self.last_changes.add((job.last_change[0], job_id))
        if key is not None:
            self.deletions.add((key, job_id))
        return Expected(204)

    def claim(self, queues: tuple[str, ...], lease_seconds: int, key: str | None) -> Expected:
        """Return what a claim gives, 204 for no job; its token is to be told by `claimed`."""
        if known := None if key is None else self.claims.get(key):
            content, job_id, token = known
            if content != ({*queues}, lease_seconds):
                return Expected(422, "idempotency-key-reused")
            if (given := self.jobs.get(job_id)) and given.is_leased and given.token == token:
                return Expected(200, job=given)
        open_queues = set(filter(self.accepts_claims, queues))
        due = [job for job in self.jobs.values() if job.status == "pending" and job.queue in open_queues]
        job = min(due, key=lambda one: one.creation_order, default=None)
        if job is not None:
            job.apply("running")
            job.is_leased = job.has_worker = True
            job.token = None
        return Expected(204 if job is None else 200, job=job)

    def record_claim(
        self, job: ModelJob, token: str, queues: tuple[str, ...], lease_seconds: int, key: str | None
    ) -> None:
        """Take over the token that a claim was given."""
        job.token = token
        if key is not None:
            self.claims[key] = (({*queues}, lease_seconds), job.job_id, token)

    def configure(self, queue: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change the settings of a queue that are given, and return what its record must show."""
        merged = self.settings.get(queue, {}) | body
        self.settings[queue] = {name: value for name, value in merged.items() if value is not None}
        return {"queue": queue, "paused": False} | self.settings[queue]

    def accepts_claims(self, queue: str) -> bool:
        """Say whether a queue is not paused, and has fewer running jobs than it may."""
        settings = self.settings.get(queue, {})
        running = sum(job.queue == queue and job.status == "running" for job in self.jobs.values())
        return not settings.get("paused") and running < settings.get("max_running", running + 1)

    def heartbeat(self, job_id: str, token: str | None, progress: Any) -> Expected:
        """Extend a lease, and take progress."""
        job = self.jobs.get(job_id)
        if job is None:
            return Expected(404, "job-not-found")
        if not job.is_leased or token != job.token:
            return Expected(409, "lease-lost")
        if progress is not None and progress != job.progress:
            job.apply("running", progress=progress)
        return Expected(200)

    def release(self, job_id: str, token: str | None, error: Any, key: str | None) -> Expected:
        """Give a job back; with an error its attempt has failed."""
        job = self.jobs.get(job_id)
        if job is None or (key, job_id) in self.last_changes:
            return Expected(404, "job-not-found")
        if job.rejects_token(token):
            return Expected(409, "lease-lost")
        if again := _replay(job, key, ("release", error)):
            return again
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


def _replay(job: ModelJob, key: str | None, asked: Any) -> Expected | None:
    if key is None or job.last_change is None or job.last_change[0] != key:
        return None
    return Expected(200, job=job) if job.last_change[1] == asked else Expected(422, "idempotency-key-reused")


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
