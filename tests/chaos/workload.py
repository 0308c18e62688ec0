"""Many clients at once: some own jobs, some work on them under leases, some meddle with those of others."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from tests.chaos.caller import PATIENCE, Caller
from tests.chaos.history import FORGED, Call, Kind, Outcome
from tests.chaos.http import connected

QUEUES: Final = ("a", "b")
#: Seconds of a lease: longer than any round but those that let leases run out.
LEASE: Final = 60
#: How often a call of unknown outcome is sent again under its key.
TRIES: Final = 4
#: The most seconds that a client rests between two things that it does.
REST: Final = 0.05


class Client:
    """Does one thing after another until it is told to stop."""

    def __init__(self, name: str, role: int, board: deque[str], calls: list[Call], choose: random.Random) -> None:
        """Know others' jobs from `board` and put up its own there; choose what to do by `choose`."""
        self._name = name
        self._role = (self._own, self._own, self._work, self._meddle)[role % 4]
        self._board = board
        self._calls = calls
        self._choose = choose
        self._count = 0

    async def run(self, url: str, stop: asyncio.Event) -> None:
        """Go on until `stop`."""
        async with connected(url, timeout=PATIENCE) as http:
            self._caller = Caller(http, self._calls)
            while not stop.is_set():
                await self._role()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._choose.uniform(0, REST)):
                        await stop.wait()

    def _new(self, what: str) -> str:
        self._count += 1
        return f"{self._name}-{what}{self._count}"

    async def _say(self, kind: Kind, method: str, path: str, body: Any = None, **more: Any) -> tuple[Call, Any]:
        """Send a call, again under its key where its outcome is unknown; half of the calls have no key."""
        key = self._new("k") if self._choose.random() < 0.5 else ""
        for number in range(TRIES):
            call, found = await self._caller.call(kind, method, path, body, key=key, **more)
            if call.is_unsent:  # nobody is there, and comes the later the more ask for it
                await asyncio.sleep(self._choose.uniform(0.2, 0.6))
            elif call.outcome is Outcome.UNKNOWN:
                await asyncio.sleep(self._choose.uniform(0.05, 0.3) * (number + 1))
            if not key or call.outcome is not Outcome.UNKNOWN:
                break
        return call, found

    async def _change(self, kind: Kind, job_id: str, body: dict[str, Any] | None, **more: Any) -> Call:
        """Change a job; say which content it must have then."""
        sent = None if body is None else body.get("result", body.get("error_message"))
        content = "" if sent is None else msgspec.json.encode(sent).decode()
        path = f"/v1/jobs/{job_id}"
        method, path = {
            Kind.DELETE: ("DELETE", path),
            Kind.CANCEL: ("POST", f"{path}/cancel"),
            Kind.RELEASE: ("POST", f"{path}/release"),
        }.get(kind, ("PATCH", path))
        more.setdefault("target", "" if body is None else body.get("status", ""))
        call, _ = await self._say(kind, method, path, body, job_id=job_id, content=content, **more)
        return call

    def _end(self) -> dict[str, Any]:
        """Choose an end that no other call brings."""
        status = self._choose.choice(["completed", "completed", "failed", "cancelled"])
        return {"status": status, "result" if status == "completed" else "error_message": {"by": self._new("e")}}

    async def _create(self, job_id: str) -> Call:
        body: dict[str, Any] = {
            "job_id": job_id,
            "input_params": {"of": job_id},
            "queue": self._choose.choice(QUEUES),
            "max_attempts": self._choose.choice([1, 3]),
        }
        if self._choose.random() < 0.3:
            body["slate_id"] = f"s{self._choose.randrange(5)}"
        call, _ = await self._say(Kind.CREATE, "POST", "/v1/jobs", body, job_id=job_id)
        if call.outcome is not Outcome.REFUSED:
            self._board.append(job_id)
        return call

    async def _own(self) -> None:
        """Take a job of its own through its life, without a lease, or leave it to the workers."""
        job_id = self._new("j")
        await self._create(job_id)
        if self._choose.random() < 0.4:
            return
        await self._change(Kind.START, job_id, {"status": "running"})
        for current in range(self._choose.randrange(3)):
            body = {"status": "running", "progress": {"current": current}}
            await self._change(Kind.PROGRESS, job_id, body)
        await self._read(job_id)
        await self._change(Kind.END, job_id, self._end())
        await self._read(job_id)
        if self._choose.random() < 0.5:
            await self._change(Kind.DELETE, job_id, None)
            if self._choose.random() < 0.5:
                await self._create(job_id)

    async def _work(self) -> None:
        """Claim a job and take it to an end, or give it back."""
        body = {"queues": list(QUEUES), "worker": self._name, "lease_seconds": LEASE}
        if self._choose.random() < 0.3:
            body["wait_seconds"] = 1
        call, found = await self._say(Kind.CLAIM, "POST", "/v1/claims", body)
        if call.status != 200:
            return
        job_id, token = found["job"]["job_id"], call.token
        for current in range(self._choose.randrange(3)):
            await self._beat(job_id, token, current)
        if self._choose.random() < 0.3:
            error = {"error_message": {"by": self._new("r")}} if self._choose.random() < 0.5 else {}
            await self._change(Kind.RELEASE, job_id, error, token=token)
        else:
            await self._change(Kind.END, job_id, self._end(), token=token)

    async def _beat(self, job_id: str, token: str, current: int) -> None:
        """Extend a lease, with or without progress; it has no key, since it is harmless to send again."""
        has_progress = self._choose.random() < 0.5
        body = {"progress": {"current": current, "message": self._new("p")}} if has_progress else {}
        path = f"/v1/jobs/{job_id}/heartbeat"
        await self._caller.call(Kind.BEAT, "POST", path, body, job_id=job_id, token=token, has_progress=has_progress)

    async def _read(self, job_id: str) -> Call:
        path = f"/v1/jobs/{job_id}"
        call, _ = await self._caller.call(Kind.READ, "GET", path, job_id=job_id)
        return call

    async def _meddle(self) -> None:
        """Do to a job of another what may or may not be done."""
        if not self._board:
            return
        job_id = self._choose.choice(self._board)
        doings: list[Callable[[], Awaitable[Any]]] = [
            lambda: self._read(job_id),
            lambda: self._look(),
            lambda: self._change(Kind.START, job_id, {"status": "running"}),
            lambda: self._change(Kind.END, job_id, self._end()),
            lambda: self._change(Kind.END, job_id, self._end(), token=FORGED),
            lambda: self._change(Kind.END, job_id, self._end(), if_match=FORGED),
            lambda: self._change(Kind.CANCEL, job_id, None),
            lambda: self._change(Kind.DELETE, job_id, None),
            lambda: self._change(Kind.RELEASE, job_id, {}),
            lambda: self._beat(job_id, FORGED, 1),
            lambda: self._collide(job_id),
        ]
        await self._choose.choice(doings)()

    async def _look(self) -> None:
        """Look at many jobs."""
        match self._choose.randrange(3):
            case 0:
                query = self._choose.choice(["", "?status=running", "?queue=a", "?slate_id=s1&include=result"])
                await self._caller.call(Kind.READ, "GET", f"/v1/jobs{query}")
            case 1:
                ids = self._choose.sample(list(self._board), min(20, len(self._board)))
                await self._caller.call(Kind.READ, "POST", "/v1/batch-get", {"job_ids": sorted(set(ids))})
            case 2:
                await self._caller.call(Kind.READ, "GET", "/v1/stats")

    async def _collide(self, job_id: str) -> None:
        """Create another job under an id that is taken."""
        body = {"job_id": job_id, "input_params": self._new("other")}
        await self._say(Kind.CREATE, "POST", "/v1/jobs", body, job_id=job_id)
