"""Jobs that have expired and were not swept yet. Their index entries are no issues."""

from collections.abc import Sequence
from typing import Any, Final

from service.domain.errors import StoreCorrupt
from service.store.client import StoreClient
from service.store.partition import PARTITION
from service.store.records import time_reply_to_micros

_PAGE: Final = 1000


class ExpiredJobs:
    """The jobs that have expired and were not swept before the first `refresh`, by id and creation time."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self._jobs: set[tuple[bytes, int]] = set()
        self._ids: set[bytes] = set()
        #: The time (ms) up to which the entries of each index were read.
        self._read_until: dict[str, int] = {}

    def has(self, job_id: bytes, created: int | None) -> bool:
        """Return whether this job has expired. `None` matches any creation time."""
        return job_id in self._ids if created is None else (job_id, created) in self._jobs

    async def refresh(self) -> None:
        """Add the jobs that have expired since the last call."""
        [time] = await self._client.read(["TIME"])
        now = time_reply_to_micros(time) // 1000
        await self._collect(PARTITION.by_expiry, now)

    async def _collect(self, index: str, now: int) -> None:
        start, size = self._read_until.get(index, 0), _PAGE
        while True:
            command = ["ZRANGE", index, str(start), f"({now}", "BYSCORE", "LIMIT", "0", str(size), "WITHSCORES"]
            page = await self._read_or_empty(command)
            for member, _ in page:
                self._add(member)
            if len(page) < size:
                self._read_until[index] = now
                return
            last = int(page[-1][1])
            start, size = last, size * 2 if last == start else _PAGE

    def _add(self, member: bytes) -> None:
        job_id, _, rest = member.partition(b"|")
        created = rest.partition(b"|")[0]
        if created.isdigit():
            self._jobs.add((job_id, int(created)))
            self._ids.add(job_id)

    async def _read_or_empty(self, command: Sequence[str]) -> Any:
        """Return the entries of an index; none if its key has an unexpected type."""
        [reply] = await self._client.read(command, isolate_errors=True)
        return [] if isinstance(reply, StoreCorrupt) else reply
