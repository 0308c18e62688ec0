"""Jobs that have expired and were not swept yet. Their index entries are no issues."""

from typing import Any, Final

from service.domain.errors import StoreCorrupt
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import time_reply_to_micros

_PAGE: Final = 1000


class ExpiredJobs:
    """The jobs of a partition that have expired and were not swept before the first `refresh`."""

    def __init__(self, client: StoreClient, partition: Partition) -> None:
        self._client, self._partition, self._key = client, partition, partition.by_expiry
        #: Ids and creation times.
        self._jobs: set[tuple[bytes, int]] = set()
        self._ids: set[bytes] = set()
        #: The time (ms) up to which the index was read.
        self._read_until = 0

    def has(self, job_id: bytes, created: int | None) -> bool:
        """Return whether this job has expired. `None` matches any creation time."""
        return job_id in self._ids if created is None else (job_id, created) in self._jobs

    async def refresh(self) -> None:
        """Add the jobs that have expired since the last call."""
        [time] = await self._client.read(["TIME"], at=[self._partition])
        now, start, size = time_reply_to_micros(time) // 1000, self._read_until, _PAGE
        while True:
            page = await self._read_page(start, now, size)
            for member, _ in page:
                job_id, _, rest = member.partition(b"|")
                created = rest.partition(b"|")[0]
                if created.isdigit():
                    self._jobs.add((job_id, int(created)))
                    self._ids.add(job_id)
            if len(page) < size:
                self._read_until = now
                return
            last = int(page[-1][1])
            start, size = last, size * 2 if last == start else _PAGE

    async def _read_page(self, start: int, now: int, size: int) -> Any:
        """Return expiry entries from `start` to before `now` (ms); none if the key has an unexpected type."""
        bounds = [str(start), f"({now}", "BYSCORE", "LIMIT", "0", str(size)]
        command = ["ZRANGE", self._key, *bounds, "WITHSCORES"]
        [reply] = await self._client.read(command, isolate_errors=True)
        return [] if isinstance(reply, StoreCorrupt) else reply
