"""Checks all keys and all index entries, in small steps."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from service.domain.errors import StoreCorrupt
from service.store import scripts
from service.store.client import StoreClient
from service.store.doctor import partition_checks, record_checks
from service.store.doctor.counts import JobCounter, differences, take_snapshot
from service.store.doctor.expired import ExpiredJobs
from service.store.doctor.issues import CheckStats, Issue, IssueType, printable
from service.store.doctor.key_names import KeyName, KeyNames
from service.store.doctor.throttle import Throttle
from service.store.partition import EXPIRING, Partition
from service.store.queue_settings import is_usable
from service.store.scan import scan

#: The default number of keys and entries that are checked per second.
RATE: Final = 2000.0
#: How many keys or entries one script checks.
STEP: Final = 25
#: The `COUNT` of one `SCAN` with one partition. With more, each has some of the keys that it returns.
SCANNED: Final = 100
#: How many entries without a job are collected before the doctor checks which of these jobs have just expired.
MAX_CANDIDATES: Final = 1000
#: The time to live (ms) that a repair gives to a temporary key without one; longer than such keys normally live.
FALLBACK_TTL_MS: Final = 24 * 3600 * 1000

#: The kinds of indexes that a partition has for each queue.
_LISTS: Final = frozenset({"by_created", "by_priority"})
#: The kinds of indexes that a partition has only one of.
_INDEXES: Final = ("by_expiry", "tags", "delays", "timers", "leases")
#: Whether a field and its value in a hash of settings are right, by the kind of the key. The script checks the clock.
_SETTINGS: Final[Mapping[str, Callable[[bytes, bytes], bool]]] = {
    "queues": lambda _, value: is_usable(value),
    "meta": lambda name, value: name != b"drain" or value.isdigit(),
}


class Entry(NamedTuple):
    """An index entry that does not match a job there; `job_id` and `status` are empty if there is no job."""

    index_name: KeyName
    member: bytes
    score: bytes
    job_id: bytes
    status: bytes

    @property
    def created(self) -> int | None:
        """The creation time (µs) of the job, if the entry contains it."""
        if self.index_name.kind == "by_created":
            return int(float(self.score))
        parts = self.member.split({"tags": b":", "by_expiry": b"|"}.get(self.index_name.kind, b"\n"))
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def check(
    client: StoreClient, *, repair: bool = False, rate: float | None = RATE, stats: CheckStats | None = None
) -> AsyncIterator[Issue]:
    """Yield every issue once. With `repair`, issues that can be repaired are repaired first.

    Checks at most `rate` keys and entries per second (`None`: no limit) and counts them in `stats`. Raises what
    `StoreClient.run_script` raises.
    """
    checker, reported = _Checker(client, repair, Throttle(rate), stats or CheckStats()), set()
    async for issue in checker.issues():
        identity = issue.type, issue.key, issue.member, issue.detail if issue.type is IssueType.RECORD else ""
        if identity not in reported:
            reported.add(identity)
            yield issue


async def build_indexes(client: StoreClient, stats: CheckStats) -> None:
    """Build all indexes from the records of the jobs. Raises like `check`."""
    async for _ in _Checker(client, True, Throttle(None), stats).keys():
        pass


class _Checker:
    def __init__(self, client: StoreClient, repair: bool, throttle: Throttle, stats: CheckStats) -> None:
        self._client, self._repair, self._throttle, self._stats = client, repair, throttle, stats
        self._mode = "repair" if repair else "check"
        self._names = KeyNames(client.partitions, is_cluster=client.deployment.is_cluster)
        self._expired = {partition: ExpiredJobs(client, partition) for partition in client.partitions}
        self._counter = JobCounter[str]()
        self._lists: set[KeyName] = set()
        self._candidates: list[Entry] = []

    async def issues(self) -> AsyncIterator[Issue]:
        """Yield issues of jobs, then of index entries: missing entries are added before others are removed."""
        if unusable := await partition_checks.find_unusable(self._client):
            for issue in unusable:
                yield issue
            return
        for issue in await partition_checks.find_issues(self._client, repair=self._repair):
            yield issue
        before = await take_snapshot(self._client)
        async for issue in self.keys():
            yield issue
        async for issue in self._indexes():
            yield issue
        after = await take_snapshot(self._client)
        self._stats.counted = after is not None and before == after
        if after and self._stats.counted:
            for key, detail in differences(self._counter.counts, after):
                yield Issue(IssueType.COUNT, key, None, detail)

    async def keys(self) -> AsyncIterator[Issue]:
        """Yield issues of all keys, and of missing index entries."""
        count = SCANNED * min(self._client.partitions.size, 16)
        async for _, scanned in scan(self._client, self._names.pattern, count):
            await self._throttle.acquire(1)
            managed = [(key, self._names.parse(key)) for key in scanned if self._names.is_managed(key)]
            jobs: dict[Partition, list[str]] = {}
            for _, name in managed:
                if name and name.kind == "job":
                    jobs.setdefault(name.partition, []).append(name.parts[0])
            for partition, job_ids in jobs.items():
                for part in _parts(job_ids):
                    async for issue in self._jobs(partition, part):
                        yield issue
            for issue in await self._others([(key, name) for key, name in managed if not name or name.kind != "job"]):
                yield issue

    async def _jobs(self, partition: Partition, job_ids: list[str]) -> AsyncIterator[Issue]:
        """Check the records of jobs of a partition, and then their index entries, atomically."""
        rows = await self._client.read(
            *(["HMGET", partition.job(job_id), *record_checks.CHECKED_FIELDS] for job_id in job_ids),
            isolate_errors=True,
        )
        for job_id, row in zip(job_ids, rows, strict=True):
            for issue in self._record(partition, job_id, row):
                yield issue
        # The service does not find a job in another partition, so its index entries are not repaired there.
        belonging = [job_id for job_id in job_ids if self._client.partitions.of(job_id) is partition]
        for job_id in sorted({*job_ids}.difference(belonging)):
            right = self._client.partitions.of(job_id).job(job_id)
            yield Issue(IssueType.PARTITION, partition.job(job_id), None, f"its id belongs in another one, as {right}")
        reply = await self._client.run_script(scripts.CHECK_JOBS, partition, [self._mode, *belonging])
        for kind, key, member, actual, expected, repaired in _rows(reply, 6):
            issue_type = IssueType(kind.decode())
            detail = _detail(issue_type, printable(actual), expected.decode())
            yield Issue(issue_type, printable(key), printable(member) or None, detail, repaired=bool(repaired))
        self._stats.jobs += len(job_ids)
        await self._throttle.acquire(len(job_ids))

    def _record(self, partition: Partition, job_id: str, row: Any) -> Iterator[Issue]:
        key = partition.job(job_id)
        if isinstance(row, StoreCorrupt):
            yield Issue(IssueType.TYPE, key, None, "is not a hash, as a job record must be")
            return
        names = record_checks.CHECKED_FIELDS
        fields = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        if "status" not in fields:  # deleted since, or reported by the script
            return
        queue, status = printable(fields.get("queue", b"")), printable(fields["status"])
        self._counter.add(key, partition.by_created(queue, status))
        for problem in record_checks.find_issues(job_id, fields):
            yield Issue(IssueType.RECORD, key, None, problem)

    async def _others(self, others: Sequence[tuple[bytes, KeyName | None]]) -> list[Issue]:
        """Check the name, type and time to live of keys that are not jobs, and collect the indexes among them."""
        issues = [
            Issue(IssueType.FOREIGN, printable(key), None, self._names.foreign_detail(key))
            for key, name in others
            if not name
        ]
        known = [(key.decode(), name) for key, name in others if name]
        if not known:
            return issues
        replies = await self._client.read(*(command for key, _ in known for command in (["TYPE", key], ["PTTL", key])))
        for (key, name), actual, ttl in zip(known, replies[::2], replies[1::2], strict=True):
            if actual not in (b"none", name.type.encode()):
                issues.append(Issue(IssueType.TYPE, key, None, f"has type {printable(actual)} instead of {name.type}"))
                continue
            issues += await self._lifetime(key, name, ttl)
            if name.kind in _LISTS:
                self._lists.add(name)
            if is_right := _SETTINGS.get(name.kind):
                issues += await self._settings(key, is_right)
        await self._throttle.acquire(len(known))
        return issues

    async def _lifetime(self, key: str, name: KeyName, ttl: int) -> list[Issue]:
        """Check the time to live (ms) of a key that is not a job."""
        if name.kind not in EXPIRING and ttl >= 0:
            detail, repair = "expires, but must not", ["PERSIST", key]
        elif name.kind in EXPIRING and ttl == -1:
            detail, repair = "has no time to live", ["PEXPIRE", key, str(FALLBACK_TTL_MS), "NX"]
        else:
            return []
        if self._repair:
            await self._client.read(repair)  # like a read it may run twice
        return [Issue(IssueType.LIFETIME, key, None, detail, repaired=self._repair)]

    async def _settings(self, key: str, is_right: Callable[[bytes, bytes], bool]) -> list[Issue]:
        """Check the values of a hash of settings."""
        [settings] = await self._client.read(["HGETALL", key], isolate_errors=True)
        if isinstance(settings, StoreCorrupt):
            return []
        return [
            Issue(IssueType.SETTING, key, printable(name), f"{printable(value)!r} cannot be used")
            for name, value in settings.items()
            if not is_right(name, value)
        ]

    async def _indexes(self) -> AsyncIterator[Issue]:
        partitions = self._client.partitions
        lists = sorted(self._lists, key=lambda index: index.key)
        indexes = [KeyName(kind, (), partition) for partition in partitions for kind in _INDEXES]
        queue_names = [KeyName("queue_names", (), partition) for partition in partitions]
        for part in ((*lists, *indexes), queue_names):  # repairs of the former may empty a queue
            for index in part:
                async for issue in self._entries(index):
                    yield issue
            async for issue in self._confirm_orphans():
                yield issue

    async def _entries(self, index: KeyName) -> AsyncIterator[Issue]:
        """Check the entries of an index for those without a matching job."""
        cursor = 0
        command = "SSCAN" if index.type == "set" else "ZSCAN"
        while True:
            step = [command, index.key, str(cursor), "COUNT", str(STEP)]
            [reply] = await self._client.read(step, isolate_errors=True)
            if isinstance(reply, StoreCorrupt):  # reported with the keys
                return
            cursor, members = int(reply[0]), [one if index.type == "set" else one[0] for one in reply[1]]
            for part in _parts(members):
                self._candidates += await self._orphans(index, part, "check")
                self._stats.entries += len(part)
                await self._throttle.acquire(len(part))
            if len(self._candidates) > MAX_CANDIDATES:
                async for issue in self._confirm_orphans():
                    yield issue
            if cursor == 0:
                return

    async def _orphans(self, index: KeyName, members: Sequence[bytes], mode: str) -> list[Entry]:
        queue, state = (*index.parts, "", "")[:2]
        try:
            args = [mode, index.kind, queue, state, *members]
            reply = await self._client.run_script(scripts.CHECK_ENTRIES, index.partition, args)
        except StoreCorrupt:  # the key has changed its type since
            return []
        return [Entry(index, *row) for row in _rows(reply, 4)]

    async def _confirm_orphans(self) -> AsyncIterator[Issue]:
        """Check the candidates again, without those whose jobs have expired, and yield the remaining ones."""
        candidates, self._candidates = self._candidates, []
        for partition in {entry.index_name.partition for entry in candidates}:
            await self._expired[partition].refresh()
        orphans: dict[KeyName, list[bytes]] = {}
        for entry in candidates:
            if not self._expired[entry.index_name.partition].has(entry.job_id, entry.created):
                orphans.setdefault(entry.index_name, []).append(entry.member)
        for index, members in orphans.items():
            for part in _parts(members):
                for orphan in await self._orphans(index, part, self._mode):
                    detail = _detail(IssueType.STRAY, printable(orphan.status), "")
                    yield Issue(IssueType.STRAY, index.key, printable(orphan.member), detail, repaired=self._repair)
                await self._throttle.acquire(len(part))


def _detail(issue_type: IssueType, actual: str, expected: str) -> str:
    match issue_type:
        case IssueType.STRAY:
            return f"its job is {actual} and does not belong there" if actual else "there is no job for it"
        case IssueType.LIFETIME:
            return f"expires at {actual or 'no time'} instead of {expected} (ms)"
        case IssueType.RECORD:
            return actual
        case _:
            return f"is {actual or 'missing'}, must be {expected}"


def _rows(reply: Sequence[Any], width: int) -> list[tuple[Any, ...]]:
    """Return the rows of `width` values that follow the word in the reply of a check script."""
    values = reply[1:]
    return [tuple(values[at : at + width]) for at in range(0, len(values), width)]


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(items), STEP):
        yield items[at : at + STEP]
