"""The walk over all keys and indexes, in small steps."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from service.domain.errors import StoreCorrupt
from service.store import keys, scripts
from service.store.client import StoreClient, with_timeout
from service.store.doctor import key_names, record_checks
from service.store.doctor.counts import JobCounter, snapshot
from service.store.doctor.expired import ExpiredJobs
from service.store.doctor.issues import CheckStats, Issue, IssueType, printable
from service.store.doctor.key_names import KeyName
from service.store.doctor.throttle import Throttle

#: Keys and entries a second, unless somebody says otherwise.
RATE: Final = 2000.0
#: How many of them one script looks at, and how many one step of a scan asks for.
STEP: Final = 25
SCANNED: Final = 100
#: How many entries that may be lost are kept until it is seen whether their jobs have just expired.
SUSPECTS: Final = 1000
#: ms: what a key is given that should be gone after a while and has no time to live; longer than any should live.
FALLBACK_TTL_MS: Final = 24 * 3600 * 1000

_SHARED: Final = tuple(KeyName(kind) for kind in ("shelves", "tags", "due", "leases"))
_SETTING: Final = (b"0:", b"1:")


class Entry(NamedTuple):
    """An entry that does not belong where it is: its index, itself, the job behind it as far as there is one."""

    place: KeyName
    member: bytes
    score: bytes
    job_id: bytes
    status: bytes

    @property
    def created(self) -> int | None:
        """When the job that the entry is of was created (µs), where it says so."""
        if self.place.kind == "list":
            return int(float(self.score))
        parts = self.member.split({"tags": b":", "exp": b"|"}.get(self.place.kind, b"\n"))
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def check(
    gateway: StoreClient, *, repair: bool = False, rate: float | None = RATE, tally: CheckStats | None = None
) -> AsyncIterator[Issue]:
    """Yield everything that does not fit together, once; with `repair` after it was put right, where it can be.

    Looks at `rate` keys and entries a second at most (`None`: as many as Redis takes), and notes in `tally` how many
    there were. Raises what `StoreClient.run` raises.
    """
    walk, told = _Checker(gateway, repair, Throttle(rate), tally or CheckStats()), set()
    async for finding in walk.findings():
        place = finding.type, finding.key, finding.member, finding.detail if finding.type is IssueType.RECORD else ""
        if place not in told:
            told.add(place)
            yield finding


class _Checker:
    def __init__(self, gateway: StoreClient, repair: bool, pace: Throttle, tally: CheckStats) -> None:
        self._gateway, self._repair, self._pace, self._tally = gateway, repair, pace, tally
        self._graves, self._census = ExpiredJobs(gateway), JobCounter()
        self._indexes: set[KeyName] = set(_SHARED)
        self._suspects: list[Entry] = []

    async def findings(self) -> AsyncIterator[Issue]:
        """Jobs first, so that what is missing is there before what is wrong is taken out."""
        before = await snapshot(self._gateway)
        async for finding in self._keys():
            yield finding
        for index in sorted(self._indexes):
            async for finding in self._entries(index):
                yield finding
        async for finding in self._confirm_orphans():
            yield finding
        after = await snapshot(self._gateway)
        self._tally.counted = after is not None and before == after
        if after and self._tally.counted:
            for queue, detail in self._census.differences(after):
                yield _finding(IssueType.COUNT, keys.by_expiry(queue, "*"), None, detail)

    async def _keys(self) -> AsyncIterator[Issue]:
        async for found in self._scan():
            ours = [(key, key_names.parse(key)) for key in found if key_names.is_ours(key)]
            for part in _parts([name.of[0] for _, name in ours if name and name.kind == "job"]):
                async for finding in self._jobs(part):
                    yield finding
            for finding in await self._others([(key, name) for key, name in ours if not name or name.kind != "job"]):
                yield finding

    async def _scan(self) -> AsyncIterator[list[bytes]]:
        cursor = 0
        while True:
            [(cursor, found)] = await self._gateway.read(
                ["SCAN", str(cursor), "MATCH", key_names.COMMON, "COUNT", str(SCANNED)]
            )
            await self._pace.acquire(1)
            yield found
            if int(cursor) == 0:
                return

    async def _jobs(self, job_ids: list[str]) -> AsyncIterator[Issue]:
        """Look at jobs: their records by themselves, then each with its places in one moment."""
        rows = await self._gateway.read(
            *(["HMGET", keys.job(one), *record_checks.READ] for one in job_ids), isolate_errors=True
        )
        for job_id, row in zip(job_ids, rows, strict=True):
            for finding in self._record(job_id, row):
                yield finding
        reply = await self._gateway.run_script(scripts.EXAMINE, [keys.ROOT], [self._word, *job_ids])
        for what, key, member, there, belongs, repaired in _rows(reply, 6):
            detail = _detail(IssueType(what.decode()), there.decode(), belongs.decode())
            yield _finding(
                IssueType(what.decode()), printable(key), printable(member) or None, detail, repaired=bool(repaired)
            )
        self._tally.jobs += len(job_ids)
        await self._pace.acquire(len(job_ids))

    def _record(self, job_id: str, row: Any) -> Iterator[Issue]:
        if isinstance(row, StoreCorrupt):
            yield _finding(IssueType.TYPE, keys.job(job_id), None, "no hash, where a record belongs")
            return
        held = {name: value for name, value in zip(record_checks.READ, row, strict=True) if value is not None}
        if "status" not in held:  # gone by now, or told of by the script
            return
        self._census.add(job_id, printable(held.get("queue", b"")), printable(held["status"]))
        for fault in record_checks.find_issues(job_id, held):
            yield _finding(IssueType.RECORD, keys.job(job_id), None, fault)

    async def _others(self, found: Sequence[tuple[bytes, KeyName | None]]) -> list[Issue]:
        """Look at keys that are no jobs' by name, type and time to live; and take note of the indexes."""
        findings = [
            _finding(IssueType.FOREIGN, printable(key), None, "we write no such key") for key, name in found if not name
        ]
        ours = [(key.decode(), name) for key, name in found if name]
        if not ours:
            return findings
        replies = await self._gateway.read(*(command for key, _ in ours for command in (["TYPE", key], ["PTTL", key])))
        for (key, name), kind, lives in zip(ours, replies[::2], replies[1::2], strict=True):
            if kind not in (b"none", name.type.encode()):
                findings.append(
                    _finding(IssueType.TYPE, key, None, f"a {printable(kind)}, where a {name.type} belongs")
                )
            elif name.kind in {"list", "exp"}:
                self._indexes.add(name)
            elif name not in _SHARED:
                findings += await self._lifetime(key, lives)
            if name.kind == "queues" and kind == b"hash":
                findings += await self._settings()
        await self._pace.acquire(len(ours))
        return findings

    async def _lifetime(self, key: str, lives: int) -> list[Issue]:
        """Look at the time to live (ms) of a key that no job decides about."""
        redis: Redis = self._gateway.redis
        if key in keys.PERSISTENT and lives >= 0:
            await self._repair_key(lambda: redis.persist(key))
            return [_finding(IssueType.LIFETIME, key, None, "has a time to live, and must last", repaired=self._repair)]
        if key not in keys.PERSISTENT and lives == -1:
            await self._repair_key(lambda: redis.pexpire(key, FALLBACK_TTL_MS, nx=True))
            return [_finding(IssueType.LIFETIME, key, None, "has no time to live", repaired=self._repair)]
        return []

    async def _repair_key(self, command: Callable[[], Awaitable[Any]]) -> None:
        if self._repair:
            await self._gateway.call("repair", with_timeout(command))

    async def _settings(self) -> list[Issue]:
        [held] = await self._gateway.read(["HGETALL", keys.QUEUES], isolate_errors=True)
        if isinstance(held, StoreCorrupt):
            return []
        return [
            _finding(IssueType.SETTING, keys.QUEUES, printable(queue), f"{printable(value)!r} cannot be read")
            for queue, value in held.items()
            if value[:2] not in _SETTING or not (value[2:] == b"" or value[2:].isdigit())
        ]

    async def _entries(self, index: KeyName) -> AsyncIterator[Issue]:
        """Look at the entries of an index for those that do not belong there."""
        key, cursor = keys.index(index.kind, *index.of), 0
        while True:
            [reply] = await self._gateway.read(["ZSCAN", key, str(cursor), "COUNT", str(STEP)], isolate_errors=True)
            if isinstance(reply, StoreCorrupt):  # told of where the names were read
                return
            cursor, found = int(reply[0]), [member for member, _ in reply[1]]
            for part in _parts(found):
                self._suspects += await self._strays(index, part, "look")
                self._tally.entries += len(part)
                await self._pace.acquire(len(part))
            if len(self._suspects) > SUSPECTS:
                async for finding in self._confirm_orphans():
                    yield finding
            if cursor == 0:
                return

    async def _strays(self, index: KeyName, members: Sequence[bytes], word: str) -> list[Entry]:
        queue, shelf = index.of or ("", "")
        try:
            reply = await self._gateway.run_script(
                scripts.ENTRIES, [keys.ROOT], [word, index.kind, queue, shelf, *members]
            )
        except StoreCorrupt:  # since the names were read
            return []
        return [Entry(index, *row[:4]) for row in _rows(reply, 5)]

    async def _confirm_orphans(self) -> AsyncIterator[Issue]:
        """Look again at what seemed not to belong where it is, now that it is known which jobs have just expired."""
        suspects, self._suspects = self._suspects, []
        if suspects:
            await self._graves.look()
        lost: dict[KeyName, list[bytes]] = {}
        for one in suspects:
            if not self._graves.has(one.job_id, one.created):
                lost.setdefault(one.place, []).append(one.member)
        for index, members in lost.items():
            for part in _parts(members):
                for stray in await self._strays(index, part, self._word):
                    detail = _detail(IssueType.STRAY, printable(stray.status), "")
                    key = keys.index(index.kind, *index.of)
                    yield _finding(IssueType.STRAY, key, printable(stray.member), detail, repaired=self._repair)
                await self._pace.acquire(len(part))

    @property
    def _word(self) -> str:
        return "repair" if self._repair else "look"


def _finding(drift: IssueType, key: str, member: str | None, detail: str, *, repaired: bool = False) -> Issue:
    return Issue(type=drift, key=key, member=member, detail=detail, repaired=repaired)


def _detail(drift: IssueType, there: str, belongs: str) -> str:
    match drift:
        case IssueType.STRAY:
            return f"its job is {there} and belongs elsewhere" if there else "there is no job behind it"
        case IssueType.LIFETIME:
            return f"is gone at {there or 'no time'}, and belongs gone at {belongs} (ms)"
        case IssueType.RECORD:
            return there
        case _:
            return f"is {there or 'not there'}, and belongs at {belongs}"


def _rows(reply: Sequence[Any], width: int) -> list[tuple[Any, ...]]:
    """Return what a script has found: behind the word and the time, so many values each."""
    values = reply[2:]
    return [tuple(values[at : at + width]) for at in range(0, len(values), width)]


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(items), STEP):
        yield items[at : at + STEP]
