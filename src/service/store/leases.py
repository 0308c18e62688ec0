"""Claims, heartbeats and releases of jobs, and the reaping of expired leases."""

import functools
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from service.domain import constraints, errors, validation
from service.domain.jobs import Claim, HeartbeatResult, Job, Progress
from service.domain.json_text import to_json
from service.domain.states import Status
from service.domain.timestamps import format_timestamp
from service.store import scripts
from service.store.claim_search import ClaimSearch
from service.store.claims import ClaimRequest, ClaimScript
from service.store.client import StoreClient
from service.store.delays import DelaysEnded, end_delays
from service.store.fingerprints import change_id_for, digest
from service.store.look import Looker
from service.store.partition import Partition
from service.store.records import (
    DELETION_RECORD_TTL_MS,
    decode_packed,
    log_skipped,
    parse_status,
    time_reply_to_micros,
    validate_ttl_ms,
)

#: How many expired leases, or time-outs, one run of the reaper's scripts handles.
REAP_BATCH: Final = 200


def _problem(kind: str, title: str, detail: str) -> Raw:
    return Raw(msgspec.json.encode({"type": f"urn:jobstate:problem:{kind}", "title": title, "detail": detail}))


_WILL_RETRY: Final = "The job has attempts left."
_WILL_NOT_RETRY: Final = "The job has no attempts left."
_SILENT: Final = "The worker sent no heartbeat before its lease expired."
_TOO_LONG: Final = "The attempt was not finished within `run_timeout_seconds`."
_NOT_STARTED: Final = "The job was not started within `start_timeout_seconds`."
#: The `error_message` of a job whose lease expired: pending again, or failed.
LEASE_EXPIRED_WILL_RETRY: Final = _problem("lease-expired", "Lease expired", f"{_SILENT} {_WILL_RETRY}")
LEASE_EXPIRED: Final = _problem("lease-expired", "Lease expired", f"{_SILENT} {_WILL_NOT_RETRY}")
#: The `error_message` of a job whose attempt took too long: pending again, or failed.
RUN_TIMEOUT_WILL_RETRY: Final = _problem("run-timeout", "Run timed out", f"{_TOO_LONG} {_WILL_RETRY}")
RUN_TIMEOUT: Final = _problem("run-timeout", "Run timed out", f"{_TOO_LONG} {_WILL_NOT_RETRY}")
#: The `error_message` of a job that no worker started in time.
START_TIMEOUT: Final = _problem("start-timeout", "Start timed out", _NOT_STARTED)


class ReapedJob(NamedTuple):
    """A job whose lease or time-out the reaper ended, and its new status."""

    job_id: str
    #: Why: `lease-expired`, `run-timeout` or `start-timeout`.
    reason: str
    status: Status


class LeaseManager:
    """Gives jobs to workers under a lease; every change is one atomic script in Redis.

    A lease is identified by its token and expires unless heartbeats extend it. Methods raise the same errors as those
    of `JobReader`, and the errors that they name.
    """

    def __init__(self, client: StoreClient, *, ttl: timedelta) -> None:
        """Keep jobs for `ttl` after their last change. Raises `ValueError` for a `ttl` outside 1 ms to 365 days."""
        self._client = client
        self._ttl = validate_ttl_ms(ttl)
        self._script = ClaimScript(client, self._ttl)
        #: Chooses the partitions of claims, and looks for jobs of waiting claims; `None` with one partition.
        self.looker: Final = Looker(client) if len(client.partitions) > 1 else None
        self._search = None if self.looker is None else ClaimSearch(client, self._script, self.looker)

    async def claim_job(
        self,
        queues: Sequence[str],
        worker: str,
        *,
        lease_seconds: int = constraints.DEFAULT_LEASE_SECONDS,
        claim_key: str | None = None,
    ) -> Claim | None:
        """Give the first due job of `queues` (1 to 100) to `worker`, and return it with its lease.

        The first job is that with the smallest `Job.claim_order`. Returns `None` if there is none. A queue that is
        paused, or at its `max_running`, gives no jobs. With several partitions a claim that comes alone gets the first
        job, and each of many at once one near the first.

        A retry with the same `claim_key` gets the same job, as long as its lease has not been reaped. The claim is
        remembered for `lease_seconds` and a minute. Raises `IdempotencyKeyReused` if the key came with another
        `worker`, `lease_seconds` or set of `queues` in that time, and `Draining` during a drain.
        """
        claims, _ = await self.try_claim(queues, worker, lease_seconds=lease_seconds, claim_key=claim_key)
        return claims[0] if claims else None

    async def claim_jobs(
        self,
        queues: Sequence[str],
        worker: str,
        *,
        max_jobs: int,
        lease_seconds: int = constraints.DEFAULT_LEASE_SECONDS,
        claim_key: str | None = None,
    ) -> list[Claim]:
        """Give the first due jobs of `queues` to `worker`, at most `max_jobs` (1 to 100), each under its own lease.

        They come in the order of claims, as `claim_job` has it; the list is empty if there is none. They end before
        `MAX_CLAIM_BYTES` of records; a larger job is claimed alone. With several partitions they are nearly the first.

        A retry with the same `claim_key` gets those of the jobs whose leases are still held. If there are none, it is a
        new claim. Raises the errors of `claim_job`: `IdempotencyKeyReused` also if the key came with another
        `max_jobs`, or to `claim_job`.
        """
        claims, _ = await self.try_claim(
            queues, worker, lease_seconds=lease_seconds, claim_key=claim_key, max_jobs=max_jobs
        )
        return claims

    async def try_claim(
        self,
        queues: Sequence[str],
        worker: str,
        *,
        lease_seconds: int,
        claim_key: str | None,
        max_jobs: int | None = None,
    ) -> tuple[list[Claim], float | None]:
        """Claim jobs like `claim_jobs`, or one like `claim_job` if `max_jobs` is `None`.

        Without a job, also returns the seconds until the next delayed job is due. They are `None` if no job is delayed,
        or if a job was claimed.
        """
        request = ClaimRequest.of(queues, worker, lease_seconds, claim_key, max_jobs)
        if self._search is not None:
            return await self._search.claim(request)
        claims, _, next_due = await self._script.run(request, self._client.partitions.first)
        return claims, next_due

    async def heartbeat(
        self,
        job_id: str,
        lease_token: str | None,
        *,
        lease_seconds: int | None = None,
        progress: Progress | None = None,
    ) -> HeartbeatResult:
        """Extend a lease, store `progress` if given, and return the new expiry and whether cancellation is requested.

        The lease then lasts `lease_seconds` from now; `None` means as many as last time. Raises `JobNotFound` or
        `LeaseLost`.
        """
        if lease_seconds is not None:
            constraints.LEASE_SECONDS.validate("lease_seconds", lease_seconds)
        text = validation.encode_progress(progress)
        args = [validation.validate_lease_token(lease_token), _or_empty(lease_seconds), self._ttl, _or_empty(text)]
        outcome, *reply = await self._client.run_job_script(scripts.HEARTBEAT, job_id, args)
        match outcome:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "LEASE_LOST":
                raise errors.LeaseLost(*parse_status(reply))
        expires, cancel_requested, is_new_progress = map(int, reply[:3])
        if is_new_progress:
            self._client.observer.on_job_change("progress")
        deadline = reply[3].decode() or None
        return HeartbeatResult(format_timestamp(expires * 1000), bool(cancel_requested), deadline)

    async def release_job(
        self,
        job_id: str,
        lease_token: str | None,
        *,
        error: Any = None,
        delay_seconds: int | None = None,
        change_id: str | None = None,
    ) -> Job:
        """End a lease without a result and return the job: pending again, cancelled, or failed.

        Without `error` the job is pending, due after `delay_seconds` (0). With an `error`, any JSON value, the attempt
        counts as failed: the job is pending again, due after `delay_seconds` or else its retry delay, or failed if no
        attempts are left. If cancellation was requested, the job is cancelled. A `change_id` makes a retry safe. Raises
        `JobNotFound`, `LeaseLost`, `NotLeased` or `IdempotencyKeyReused`.
        """
        if delay_seconds is not None:
            constraints.DELAY_SECONDS.validate("delay_seconds", delay_seconds)
        message = to_json("error_message", error)
        request = digest("release", {"error_message": message, "delay_seconds": delay_seconds})
        token = validation.validate_lease_token(lease_token)
        args = [change_id_for(change_id), request, self._ttl, token, _or_empty(delay_seconds), DELETION_RECORD_TTL_MS]
        args += [] if message is None else [message]
        outcome, *reply = await self._client.run_job_script(scripts.RELEASE, job_id, args)
        match outcome:
            case "NOT_FOUND":
                raise errors.JobNotFound(job_id)
            case "LEASE_LOST":
                raise errors.LeaseLost(*parse_status(reply))
            case "NOT_LEASED":
                raise errors.NotLeased(*parse_status(reply))
            case "KEY_REUSED":
                raise errors.IdempotencyKeyReused
        job, _ = decode_packed(job_id, reply[1], int(reply[0]))
        if outcome == "CHANGED":
            self._client.observer.on_job_change(job.status)
        return job

    async def reap(self, partition: Partition | None = None) -> tuple[list[ReapedJob], float | None]:
        """End up to `REAP_BATCH` expired leases in a partition, or in each; their jobs become pending, or final.

        Returns these jobs, and the seconds until the next lease expires: 0 if one has already expired, `None` without
        leases.
        """
        if partition is not None:
            return await self._reap(partition)
        reaped, waits = zip(*await self._client.in_all_partitions(self._reap), strict=True)
        return [job for jobs in reaped for job in jobs], _soonest(waits)

    async def _reap(self, partition: Partition) -> tuple[list[ReapedJob], float | None]:
        args = [REAP_BATCH, self._ttl, bytes(LEASE_EXPIRED_WILL_RETRY), bytes(LEASE_EXPIRED)]
        _, time, next_expiry, skipped, *rows = await self._client.run_script(scripts.REAP, partition, args)
        log_skipped("reap skipped unreadable job", skipped)
        pairs = zip(rows[::2], rows[1::2], strict=True)
        reaped = [ReapedJob(job_id.decode(), "lease-expired", Status(status.decode())) for job_id, status in pairs]
        return self._report(reaped), _seconds_until(next_expiry, time)

    async def time_out(self, partition: Partition | None = None) -> tuple[list[ReapedJob], float | None]:
        """End up to `REAP_BATCH` attempts and waits of a partition, or of each, whose time-outs are over.

        Returns the jobs that are pending again, or final, thereby, and the seconds until the next time-out is over: 0
        if one already is, `None` without time-outs.
        """
        if partition is not None:
            return await self._time_out(partition)
        ended, waits = zip(*await self._client.in_all_partitions(self._time_out), strict=True)
        return [job for jobs in ended for job in jobs], _soonest(waits)

    async def _time_out(self, partition: Partition) -> tuple[list[ReapedJob], float | None]:
        messages = [bytes(message) for message in (RUN_TIMEOUT_WILL_RETRY, RUN_TIMEOUT, START_TIMEOUT)]
        reply = await self._client.run_script(scripts.TIME_OUT, partition, [REAP_BATCH, self._ttl, *messages])
        _, time, following, skipped, *rows = reply
        log_skipped("time-out skipped unreadable job", skipped)
        ended = [
            ReapedJob(job_id.decode(), f"{kind.decode()}-timeout", Status(status.decode()))
            for job_id, kind, status in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        ]
        return self._report(ended), _seconds_until(following, time)

    def _report(self, jobs: list[ReapedJob]) -> list[ReapedJob]:
        for job in jobs:
            self._client.observer.on_job_change(job.reason)
            self._client.observer.on_job_change(job.status)
        return jobs

    async def end_delays(self, partition: Partition | None = None) -> DelaysEnded:
        """Make up to `DELAYS_BATCH` jobs of a partition, or of each, due whose delays are over, and wake claims."""
        if partition is not None:
            return await end_delays(self._client, partition)
        ended = await self._client.in_all_partitions(functools.partial(end_delays, self._client))
        times, delays, timeouts = zip(*ended, strict=True)
        return DelaysEnded(max(times), _soonest(delays), _soonest(timeouts))

    async def get_time(self, partition: Partition | None = None) -> float:
        """Return the time of the Redis with a partition, or with the first one, in seconds since 1970.

        Raises `StoreUnavailable` if Redis refuses writes.
        """
        await self._client.probe()
        [time] = await self._client.read(["TIME"], at=[partition] if partition else ())
        return time_reply_to_micros(time) / 1e6


def _seconds_until(millis: bytes, now: bytes) -> float | None:
    """Return the seconds from `now` (µs since 1970) to a time (ms), or 0 if it is over; `None` for an empty one."""
    return max(0.0, int(millis) / 1e3 - int(now) / 1e6) if millis else None


def _soonest(waits: Iterable[float | None]) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)


def _or_empty(value: Any) -> Any:
    return "" if value is None else value
