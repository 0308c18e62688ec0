"""The walk over all keys and indexes, in small steps."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from service.domain.errors import StoreCorrupt
from service.store import keys, scripts
from service.store.client import Gateway, by
from service.store.doctor import key_names, record_checks
from service.store.doctor.counts import Census, moment
from service.store.doctor.expired import Graves
from service.store.doctor.issues import Drift, Finding, Tally, shown
from service.store.doctor.key_names import Name
from service.store.doctor.throttle import Pace

#: Keys and entries a second, unless somebody says otherwise.
RATE: Final = 2000.0
#: How many of them one script looks at, and how many one step of a scan asks for.
STEP: Final = 25
SCANNED: Final = 100
#: How many entries that may be lost are kept until it is seen whether their jobs have just expired.
SUSPECTS: Final = 1000
#: ms: what a key is given that should be gone after a while and has no time to live; longer than any should live.
FORGOTTEN_AFTER: Final = 24 * 3600 * 1000

_SHARED: Final = tuple(Name(kind) for kind in ("shelves", "tags", "due", "leases"))
_SETTING: Final = (b"0:", b"1:")


class Entry(NamedTuple):
    """An entry that does not belong where it is: its index, itself, the job behind it as far as there is one."""

    place: Name
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


async def examine(
    gateway: Gateway, *, repair: bool = False, rate: float | None = RATE, tally: Tally | None = None
) -> AsyncIterator[Finding]:
    """Yield everything that does not fit together, once; with `repair` after it was put right, where it can be.

    Looks at `rate` keys and entries a second at most (`None`: as many as Redis takes), and notes in `tally` how many
    there were. Raises what `Gateway.run` raises.
    """
    walk, told = _Walk(gateway, repair, Pace(rate), tally or Tally()), set()
    async for finding in walk.findings():
        place = finding.drift, finding.key, finding.member, finding.detail if finding.drift is Drift.RECORD else ""
        if place not in told:
            told.add(place)
            yield finding


class _Walk:
    def __init__(self, gateway: Gateway, repair: bool, pace: Pace, tally: Tally) -> None:
        self._gateway, self._repair, self._pace, self._tally = gateway, repair, pace, tally
        self._graves, self._census = Graves(gateway), Census()
        self._indexes: set[Name] = set(_SHARED)
        self._suspects: list[Entry] = []

    async def findings(self) -> AsyncIterator[Finding]:
        """Jobs first, so that what is missing is there before what is wrong is taken out."""
        before = await moment(self._gateway)
        async for finding in self._keys():
            yield finding
        for index in sorted(self._indexes):
            async for finding in self._entries(index):
                yield finding
        async for finding in self._lost():
            yield finding
        after = await moment(self._gateway)
        self._tally.counted = after is not None and before == after
        if after and self._tally.counted:
            for queue, detail in self._census.differences(after):
                yield _finding(Drift.COUNT, keys.by_expiry(queue, "*"), None, detail)

    async def _keys(self) -> AsyncIterator[Finding]:
        async for found in self._scan():
            ours = [(key, key_names.read(key)) for key in found if key_names.is_ours(key)]
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
            await self._pace.spend(1)
            yield found
            if int(cursor) == 0:
                return

    async def _jobs(self, job_ids: list[str]) -> AsyncIterator[Finding]:
        """Look at jobs: their records by themselves, then each with its places in one moment."""
        rows = await self._gateway.read(*(["HMGET", keys.job(one), *record_checks.READ] for one in job_ids), apart=True)
        for job_id, row in zip(job_ids, rows, strict=True):
            for finding in self._record(job_id, row):
                yield finding
        reply = await self._gateway.run(scripts.EXAMINE, [keys.ROOT], [self._word, *job_ids])
        for what, key, member, there, belongs, repaired in _rows(reply, 6):
            detail = _detail(Drift(what.decode()), there.decode(), belongs.decode())
            yield _finding(Drift(what.decode()), shown(key), shown(member) or None, detail, repaired=bool(repaired))
        self._tally.jobs += len(job_ids)
        await self._pace.spend(len(job_ids))

    def _record(self, job_id: str, row: Any) -> Iterator[Finding]:
        if isinstance(row, StoreCorrupt):
            yield _finding(Drift.TYPE, keys.job(job_id), None, "no hash, where a record belongs")
            return
        held = {name: value for name, value in zip(record_checks.READ, row, strict=True) if value is not None}
        if "status" not in held:  # gone by now, or told of by the script
            return
        self._census.meet(job_id, shown(held.get("queue", b"")), shown(held["status"]))
        for fault in record_checks.faults(job_id, held):
            yield _finding(Drift.RECORD, keys.job(job_id), None, fault)

    async def _others(self, found: Sequence[tuple[bytes, Name | None]]) -> list[Finding]:
        """Look at keys that are no jobs' by name, type and time to live; and take note of the indexes."""
        findings = [
            _finding(Drift.FOREIGN, shown(key), None, "we write no such key") for key, name in found if not name
        ]
        ours = [(key.decode(), name) for key, name in found if name]
        if not ours:
            return findings
        replies = await self._gateway.read(*(command for key, _ in ours for command in (["TYPE", key], ["PTTL", key])))
        for (key, name), kind, lives in zip(ours, replies[::2], replies[1::2], strict=True):
            if kind not in (b"none", name.type.encode()):
                findings.append(_finding(Drift.TYPE, key, None, f"a {shown(kind)}, where a {name.type} belongs"))
            elif name.kind in {"list", "exp"}:
                self._indexes.add(name)
            elif name not in _SHARED:
                findings += await self._lifetime(key, lives)
            if name.kind == "queues" and kind == b"hash":
                findings += await self._settings()
        await self._pace.spend(len(ours))
        return findings

    async def _lifetime(self, key: str, lives: int) -> list[Finding]:
        """Look at the time to live (ms) of a key that no job decides about."""
        redis: Redis = self._gateway.redis
        if key in keys.LASTING and lives >= 0:
            await self._put_right(lambda: redis.persist(key))
            return [_finding(Drift.LIFETIME, key, None, "has a time to live, and must last", repaired=self._repair)]
        if key not in keys.LASTING and lives == -1:
            await self._put_right(lambda: redis.pexpire(key, FORGOTTEN_AFTER, nx=True))
            return [_finding(Drift.LIFETIME, key, None, "has no time to live", repaired=self._repair)]
        return []

    async def _put_right(self, command: Callable[[], Awaitable[Any]]) -> None:
        if self._repair:
            await self._gateway.call("repair", by(command))

    async def _settings(self) -> list[Finding]:
        [held] = await self._gateway.read(["HGETALL", keys.QUEUES], apart=True)
        if isinstance(held, StoreCorrupt):
            return []
        return [
            _finding(Drift.SETTING, keys.QUEUES, shown(queue), f"{shown(value)!r} cannot be read")
            for queue, value in held.items()
            if value[:2] not in _SETTING or not (value[2:] == b"" or value[2:].isdigit())
        ]

    async def _entries(self, index: Name) -> AsyncIterator[Finding]:
        """Look at the entries of an index for those that do not belong there."""
        key, cursor = keys.index(index.kind, *index.of), 0
        while True:
            [reply] = await self._gateway.read(["ZSCAN", key, str(cursor), "COUNT", str(STEP)], apart=True)
            if isinstance(reply, StoreCorrupt):  # told of where the names were read
                return
            cursor, found = int(reply[0]), [member for member, _ in reply[1]]
            for part in _parts(found):
                self._suspects += await self._strays(index, part, "look")
                self._tally.entries += len(part)
                await self._pace.spend(len(part))
            if len(self._suspects) > SUSPECTS:
                async for finding in self._lost():
                    yield finding
            if cursor == 0:
                return

    async def _strays(self, index: Name, members: Sequence[bytes], word: str) -> list[Entry]:
        queue, shelf = index.of or ("", "")
        try:
            reply = await self._gateway.run(scripts.ENTRIES, [keys.ROOT], [word, index.kind, queue, shelf, *members])
        except StoreCorrupt:  # since the names were read
            return []
        return [Entry(index, *row[:4]) for row in _rows(reply, 5)]

    async def _lost(self) -> AsyncIterator[Finding]:
        """Look again at what seemed not to belong where it is, now that it is known which jobs have just expired."""
        suspects, self._suspects = self._suspects, []
        if suspects:
            await self._graves.look()
        lost: dict[Name, list[bytes]] = {}
        for one in suspects:
            if not self._graves.has(one.job_id, one.created):
                lost.setdefault(one.place, []).append(one.member)
        for index, members in lost.items():
            for part in _parts(members):
                for stray in await self._strays(index, part, self._word):
                    detail = _detail(Drift.STRAY, shown(stray.status), "")
                    key = keys.index(index.kind, *index.of)
                    yield _finding(Drift.STRAY, key, shown(stray.member), detail, repaired=self._repair)
                await self._pace.spend(len(part))

    @property
    def _word(self) -> str:
        return "repair" if self._repair else "look"


def _finding(drift: Drift, key: str, member: str | None, detail: str, *, repaired: bool = False) -> Finding:
    return Finding(drift=drift, key=key, member=member, detail=detail, repaired=repaired)


def _detail(drift: Drift, there: str, belongs: str) -> str:
    match drift:
        case Drift.STRAY:
            return f"its job is {there} and belongs elsewhere" if there else "there is no job behind it"
        case Drift.LIFETIME:
            return f"is gone at {there or 'no time'}, and belongs gone at {belongs} (ms)"
        case Drift.RECORD:
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
