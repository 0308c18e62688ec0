"""The jobs that have expired without the sweep having been there: their entries are no drift."""

from collections.abc import Sequence
from typing import Any, Final

from service.domain.errors import StoreCorrupt
from service.store import keys
from service.store.client import StoreClient
from service.store.records import time_reply_to_micros

_PAGE: Final = 1000


class ExpiredJobs:
    """Every job that has expired unswept since the first look, by id and creation, and by id alone."""

    def __init__(self, gateway: StoreClient) -> None:
        self._gateway = gateway
        self._jobs: set[tuple[bytes, int]] = set()
        self._ids: set[bytes] = set()
        #: Up to which moment (ms) of which index they have been collected.
        self._read: dict[str, int] = {}

    def has(self, job_id: bytes, created: int | None) -> bool:
        """Say whether a job has expired unswept; `None` is any creation."""
        return job_id in self._ids if created is None else (job_id, created) in self._jobs

    async def look(self) -> None:
        """Collect those that have expired since the last look."""
        [time] = await self._gateway.read(["TIME"])
        now = time_reply_to_micros(time) // 1000
        shelves = await self._some(["ZRANGE", keys.SHELVES, "-inf", f"({now}", "BYSCORE"])
        for member in shelves:
            queue, _, shelf = member.decode(errors="replace").rpartition(":")
            await self._collect(keys.by_expiry(queue, shelf), now)

    async def _collect(self, name: str, now: int) -> None:
        start, size = self._read.get(name, 0), _PAGE
        while True:
            read = ["ZRANGE", name, str(start), f"({now}", "BYSCORE", "LIMIT", "0", str(size), "WITHSCORES"]
            page = await self._some(read)
            for member, _ in page:
                self._add(member)
            if len(page) < size:
                self._read[name] = now
                return
            last = int(page[-1][1])
            start, size = last, size * 2 if last == start else _PAGE

    def _add(self, member: bytes) -> None:
        job_id, _, rest = member.partition(b"|")
        created = rest.partition(b"|")[0]
        if created.isdigit():
            self._jobs.add((job_id, int(created)))
            self._ids.add(job_id)

    async def _some(self, command: Sequence[str]) -> Any:
        """Return what an index has; nothing where the key is not ours."""
        [reply] = await self._gateway.read(command, isolate_errors=True)
        return [] if isinstance(reply, StoreCorrupt) else reply
