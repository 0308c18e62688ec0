"""The workload: clients that run jobs of their own, claim jobs under leases, and interfere with other clients' jobs."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from tests.chaos.history import FORGED, TIMEOUT, Call, Kind, Outcome, has_timeouts
from tests.chaos.http import open_client
from tests.chaos.recording_client import REQUEST_TIMEOUT, RecordingClient

QUEUES: Final = ("a", "b")
#: Seconds of seniority of jobs that have a priority.
PRIORITIES: Final = (-600, 0, 1, 600)
#: Seconds for which a job is kept that says so: longer than a round.
RETENTION: Final = 3600
#: Lease duration in seconds: no lease expires by itself within a round.
LEASE: Final = 60
#: How often a call with an idempotency key is sent while its outcome is unknown.
MAX_SENDS: Final = 4
#: Maximum seconds that a client pauses between two actions.
MAX_PAUSE: Final = 0.05


class WorkloadClient:
    """Performs random actions of one role until it is stopped."""

    def __init__(self, name: str, role: int, known_jobs: deque[str], calls: list[Call], rng: random.Random) -> None:
        """Share job ids with other clients through `known_jobs`, record calls in `calls`, decide by `rng`."""
        self._name = name
        self._role = (self._run_own_job, self._run_own_job, self._claim_and_work, self._interfere)[role % 4]
        self._known_jobs = known_jobs
        self._calls = calls
        self._rng = rng
        self._count = 0

    async def run(self, url: str, stop: asyncio.Event) -> None:
        """Act until `stop` is set."""
        async with open_client(url, timeout=REQUEST_TIMEOUT) as http:
            self._client = RecordingClient(http, self._calls)
            while not stop.is_set():
                await self._role()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._rng.uniform(0, MAX_PAUSE)):
                        await stop.wait()

    def _new_name(self, prefix: str) -> str:
        self._count += 1
        return f"{self._name}-{prefix}{self._count}"

    async def _send(self, kind: Kind, method: str, path: str, body: Any = None, **more: Any) -> tuple[Call, Any]:
        """Send a call, half of the time with a key; repeat it under its key while its outcome is unknown."""
        key = self._new_name("k") if self._rng.random() < 0.5 else ""
        for number in range(MAX_SENDS):
            call, response = await self._client.call(kind, method, path, body, key=key, **more)
            if call.is_unsent:  # reconnecting at once would slow down the service's start
                await asyncio.sleep(self._rng.uniform(0.2, 0.6))
            elif call.outcome is Outcome.INFO:
                await asyncio.sleep(self._rng.uniform(0.05, 0.3) * (number + 1))
            if not key or call.outcome is not Outcome.INFO:
                break
        return call, response

    async def _change(self, kind: Kind, job_id: str, body: dict[str, Any] | None, **more: Any) -> Call:
        """Change a job, and record the content that it must have afterwards."""
        value = None if body is None else body.get("result", body.get("error_message"))
        content = "" if value is None else msgspec.json.encode(value).decode()
        path = f"/v1/jobs/{job_id}"
        method, path = {
            Kind.DELETE: ("DELETE", path),
            Kind.CANCEL: ("POST", f"{path}/cancel"),
            Kind.RETRY: ("POST", f"{path}/retry"),
            Kind.RELEASE: ("POST", f"{path}/release"),
        }.get(kind, ("PATCH", path))
        more.setdefault("target_status", "" if body is None else body.get("status", ""))
        call, _ = await self._send(kind, method, path, body, job_id=job_id, content=content, **more)
        return call

    def _final_update(self) -> dict[str, Any]:
        """Return an update to a random final status, with a unique result or error."""
        status = self._rng.choice(["completed", "completed", "failed", "cancelled"])
        return {"status": status, "result" if status == "completed" else "error_message": {"by": self._new_name("e")}}

    async def _create(self, job_id: str) -> Call:
        body: dict[str, Any] = {
            "job_id": job_id,
            "input_params": {"of": job_id},
            "queue": self._rng.choice(QUEUES),
            "max_attempts": self._rng.choice([1, 3]),
        }
        if has_timeouts(job_id):
            body |= {"start_timeout_seconds": TIMEOUT, "run_timeout_seconds": TIMEOUT}
        if self._rng.random() < 0.3:
            body |= {"slate_id": f"s{self._rng.randrange(5)}", "labels": {"team": f"t{self._rng.randrange(3)}"}}
        if self._rng.random() < 0.3:
            body |= {"priority": self._rng.choice(PRIORITIES), "retention_seconds": RETENTION}
        call, _ = await self._send(Kind.CREATE, "POST", "/v1/jobs", body, job_id=job_id)
        if call.outcome is not Outcome.FAIL:
            self._known_jobs.append(job_id)
        return call

    async def _run_own_job(self) -> None:
        """Create a job and finish it without a lease, or leave it to the workers."""
        job_id = self._new_name("j")
        await self._create(job_id)
        if self._rng.random() < 0.4:
            return
        await self._change(Kind.START, job_id, {"status": "running"})
        for current in range(self._rng.randrange(3)):
            body = {"status": "running", "progress": {"current": current}}
            await self._change(Kind.PROGRESS, job_id, body)
        await self._read(job_id)
        await self._change(Kind.FINISH, job_id, self._final_update())
        await self._read(job_id)
        if self._rng.random() < 0.3:
            await self._change(Kind.RETRY, job_id, {})
            if self._rng.random() < 0.5:
                await self._change(Kind.FINISH, job_id, self._final_update())
        if self._rng.random() < 0.5:
            await self._change(Kind.DELETE, job_id, None)
            if self._rng.random() < 0.5:
                await self._create(job_id)

    async def _claim_and_work(self) -> None:
        """Claim a job, or up to three at once, and finish or release each."""
        body = {"queues": list(QUEUES), "worker": self._name, "lease_seconds": LEASE}
        if self._rng.random() < 0.3:
            body["wait_seconds"] = 1
        if self._rng.random() < 0.5:
            _, response = await self._send(Kind.CLAIM, "POST", "/v1/claims", body)
            claims = [response] if response and "lease" in response else []
        else:
            body["max_jobs"] = 3
            _, response = await self._send(Kind.CLAIM, "POST", "/v1/batch-claim", body, claims=3)
            claims = response.get("items", []) if response else []
        for claim in claims:
            await self._work(claim["job"]["job_id"], claim["lease"]["token"])

    async def _work(self, job_id: str, token: str) -> None:
        """Send heartbeats for a claimed job, and finish or release it, or leave it to its time-out."""
        if has_timeouts(job_id) and self._rng.random() < 0.5:
            return await self._heartbeat(job_id, token, 1)
        for current in range(self._rng.randrange(3)):
            await self._heartbeat(job_id, token, current)
        if self._rng.random() < 0.3:
            error = {"error_message": {"by": self._new_name("r")}} if self._rng.random() < 0.5 else {}
            await self._change(Kind.RELEASE, job_id, error, token=token)
        else:
            await self._change(Kind.FINISH, job_id, self._final_update(), token=token)
        return None

    async def _heartbeat(self, job_id: str, token: str, current: int) -> None:
        """Extend a lease, with or without progress. It has no key, since it is safe to repeat."""
        has_progress = self._rng.random() < 0.5
        body = {"progress": {"current": current, "message": self._new_name("p")}} if has_progress else {}
        path = f"/v1/jobs/{job_id}/heartbeat"
        await self._client.call(
            Kind.HEARTBEAT, "POST", path, body, job_id=job_id, token=token, has_progress=has_progress
        )

    async def _read(self, job_id: str) -> Call:
        path = f"/v1/jobs/{job_id}"
        call, _ = await self._client.call(Kind.READ, "GET", path, job_id=job_id)
        return call

    async def _interfere(self) -> None:
        """Send a random request, allowed or not, for another client's job."""
        if not self._known_jobs:
            return
        job_id = self._rng.choice(self._known_jobs)
        actions: list[Callable[[], Awaitable[Any]]] = [
            lambda: self._read(job_id),
            lambda: self._read_many(),
            lambda: self._change(Kind.START, job_id, {"status": "running"}),
            lambda: self._change(Kind.FINISH, job_id, self._final_update()),
            lambda: self._change(Kind.FINISH, job_id, self._final_update(), token=FORGED),
            lambda: self._change(Kind.FINISH, job_id, self._final_update(), if_match=FORGED),
            lambda: self._change(Kind.CANCEL, job_id, None),
            lambda: self._change(Kind.RETRY, job_id, self._retry()),
            lambda: self._change(Kind.DELETE, job_id, None),
            lambda: self._change(Kind.RELEASE, job_id, {}),
            lambda: self._heartbeat(job_id, FORGED, 1),
            lambda: self._create_duplicate(job_id),
        ]
        await self._rng.choice(actions)()

    def _retry(self) -> dict[str, Any]:
        """Return a retry with other attempts, and perhaps another priority."""
        priority = {"priority": self._rng.choice(PRIORITIES)} if self._rng.random() < 0.5 else {}
        return {"max_attempts": self._rng.randrange(1, 4)} | priority

    async def _read_many(self) -> None:
        """Send a list, a batch read, or a request for the counts or for a queue."""
        match self._rng.randrange(4):
            case 0:
                filters = ["", "?status=running", "?queue=a", "?slate_id=s1&include=result", "?label=team:t1"]
                query = self._rng.choice(filters)
                await self._client.call(Kind.READ, "GET", f"/v1/jobs{query}")
            case 1:
                ids = self._rng.sample(list(self._known_jobs), min(20, len(self._known_jobs)))
                await self._client.call(Kind.READ, "POST", "/v1/batch-get", {"job_ids": sorted(set(ids))})
            case 2:
                await self._client.call(Kind.READ, "GET", "/v1/stats")
            case 3:
                await self._client.call(Kind.READ, "GET", f"/v1/queues/{self._rng.choice(QUEUES)}")

    async def _create_duplicate(self, job_id: str) -> None:
        """Create a different job under an id that exists."""
        body = {"job_id": job_id, "input_params": self._new_name("other")}
        await self._send(Kind.CREATE, "POST", "/v1/jobs", body, job_id=job_id)
