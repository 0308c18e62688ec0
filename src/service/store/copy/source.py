"""The database that is copied. It is only read."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

from service.domain.errors import StoreCorrupt
from service.store.client import StoreClient
from service.store.copy.errors import CopyRefused
from service.store.doctor.counts import read_last_events
from service.store.doctor.key_names import KeyName, KeyNames
from service.store.records import LARGE_FIELDS, time_reply_to_micros
from service.store.scan import scan

#: The `COUNT` of one `SCAN`, and how many jobs are read at once at most.
STEP: Final = 200
#: Bytes of large fields that are read at once, unless one job has more.
MAX_BYTES: Final = 1024 * 1024


class Record:
    """The record of a job as Redis has it: its fields, and when it expires (ms since 1970; -1 for never)."""

    def __init__(self, job_id: str, fields: dict[bytes, bytes], expires: int) -> None:
        self.job_id = job_id
        self.fields = fields
        self.expires = expires


async def scan_jobs(client: StoreClient) -> AsyncIterator[list[KeyName]]:
    """Yield the keys of all jobs. A key may come twice. Raises `CopyRefused` if one is not in its partition."""
    names = KeyNames(client.partitions, is_cluster=client.deployment.is_cluster)
    async for _, keys in scan(client, names.pattern, STEP):
        parsed = (names.parse(key) for key in keys)
        jobs = [name for name in parsed if name and name.kind == "job"]
        for name in jobs:
            if client.partitions.of(name.parts[0]) is not name.partition:
                raise CopyRefused(f"`{name.key}` is in another partition than its id. Run `jobstate doctor` on FROM.")
        if jobs:
            yield jobs


async def read_records(client: StoreClient) -> AsyncIterator[list[Record]]:
    """Yield the records of all jobs, in batches of limited size. Raises `CopyRefused` for a key that has none."""
    async for jobs in scan_jobs(client):
        commands = (["HSTRLEN", job.key, field] for job in jobs for field in LARGE_FIELDS)
        sizes = await client.read(*commands, isolate_errors=True)
        width = len(LARGE_FIELDS)
        for batch in _batches(jobs, [sizes[at : at + width] for at in range(0, len(sizes), width)]):
            read = [command for job in batch for command in (["HGETALL", job.key], ["PEXPIRETIME", job.key])]
            replies = await client.read(*read)
            rows = zip(batch, replies[::2], replies[1::2], strict=True)
            yield [Record(job.parts[0], fields, expires) for job, fields, expires in rows if fields]


def _batches(jobs: Sequence[KeyName], sizes: Sequence[Sequence[Any]]) -> Iterator[list[KeyName]]:
    batch: list[KeyName] = []
    size = 0
    for job, lengths in zip(jobs, sizes, strict=True):
        if any(isinstance(length, StoreCorrupt) for length in lengths):
            raise CopyRefused(f"`{job.key}` is not a job: it is no hash. Rename or delete it, and run the copy again.")
        if batch and size + sum(lengths) > MAX_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += sum(lengths)
    if batch:
        yield batch


class Source:
    """The state of a database at the start of a copy, which must still be that at its end."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self._last_events: list[object] = []
        #: The latest creation time (µs) of all partitions.
        self.clock = 0
        #: The settings of queues.
        self.settings: dict[bytes, bytes] = {}

    async def open(self) -> None:
        """Read what is not in records. Raises `CopyRefused` without a drain, or if a bulk action has not ended."""
        await self._require_drain()
        await self._require_no_bulk_action()
        self._last_events = await read_last_events(self._client)
        clocks = await self._client.read(*(["HMGET", one.meta, "clock"] for one in self._client.partitions))
        self.clock = max(int(clock) if (clock or b"").isdigit() else 0 for [clock] in clocks)
        [self.settings] = await self._client.read(["HGETALL", self._client.partitions.first.queues])

    async def require_no_change(self) -> None:
        """Raise `CopyRefused` if a job has changed since, or the drain is over."""
        await self._require_drain()
        if await read_last_events(self._client) != self._last_events:
            raise CopyRefused("Jobs of FROM have changed. Stop its services, and run the copy again: it starts anew.")

    async def _require_no_bulk_action(self) -> None:
        active = await self._client.read(*(["ZRANGE", one.bulk_active, "0", "0"] for one in self._client.partitions))
        if found := next((one for [one] in filter(None, active)), None):
            raise CopyRefused(
                f"The bulk action {found.decode(errors='replace')} of FROM has not ended. Wait for it, or abort it "
                "(`jobstate bulk abort`), and run the copy again."
            )

    async def _require_drain(self) -> None:
        partitions = self._client.partitions
        time, *drains = await self._client.read(["TIME"], *(["HMGET", one.meta, "drain"] for one in partitions))
        now = time_reply_to_micros(time) // 1000
        if not all((ends or b"").isdigit() and int(ends) > now for [ends] in drains):
            raise CopyRefused(
                "FROM is not drained: jobs could be created or claimed meanwhile. Start a drain (`POST /v1/drain`) "
                "that lasts longer than the copy, stop all services of FROM, and run the copy again."
            )
