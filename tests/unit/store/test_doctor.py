"""The checks, throttle and report of the doctor, without Redis."""

import asyncio
from typing import Any

import msgspec
import pytest

from service.cli.doctor import MAX_PRINTED, Report
from service.domain.tags import correlation_tag, slate_tag
from service.store.doctor import Issue, IssueType
from service.store.doctor.counts import CountSnapshot, JobCounter, differences
from service.store.doctor.key_names import KeyName, KeyNames
from service.store.doctor.record_checks import find_issues
from service.store.doctor.throttle import Throttle
from service.store.partition import EXPIRING, PARTITION, TYPES
from service.store.partitions import Partitions

NAMES = KeyNames(Partitions())
NAMES_OF_16 = KeyNames(Partitions(16))
P60, P0 = Partitions(16)[0], Partitions(16)[15]
TIMESTAMP = b"2026-11-25T12:00:00.000000Z"
LATER = b"2026-11-25T12:00:01.000000Z"
PENDING = {
    "status": b"pending",
    "queue": b"q",
    "revision": b"1",
    "created_at": TIMESTAMP,
    "updated_at": TIMESTAMP,
    "expires_at": LATER,
    "_creation": b"d",
    "_change": b"r",
}
LEASED = {
    **PENDING,
    **{"status": b"running", "worker": b"w", "lease_seconds": b"30", "lease_expires_at": LATER, "_token": b"1-s"},
    **{"attempt": b"1", "started_at": TIMESTAMP, "progress": b'{"current":1}', "_progress_event": b"17"},
    "_history": b"5:2:r",
}
TAGGED = {
    **PENDING,
    **{"slate_id": b"s", "correlation_id": b"c", "_tags": f"{slate_tag('s')},{correlation_tag('c')}".encode()},
}
ENDED = {**PENDING, "status": b"failed", "finished_at": LATER, "updated_at": LATER}


@pytest.mark.parametrize("fields", [PENDING, TAGGED, LEASED, ENDED, {**PENDING, "odd": b"\xff"}])
def test_a_valid_record_has_no_issues(fields: dict[str, bytes]) -> None:
    assert find_issues("j", fields) == []


@pytest.mark.parametrize("name", PENDING)
def test_a_missing_required_field_is_an_issue(name: str) -> None:
    assert find_issues("j", {one: value for one, value in PENDING.items() if one != name}) == [f"no {name}"]


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (PENDING, "status", b"odd"),
        (PENDING, "queue", b"a b"),
        (PENDING, "revision", b"one"),
        (PENDING, "revision", b"0"),
        (PENDING, "created_at", b"2026-11-25T12:00:00Z"),
        (PENDING, "expires_at", b"2026-13-25T12:00:00.000000Z"),
        (PENDING, "updated_at", b"2026-11-25T11:00:00.000000Z"),
        (PENDING, "available_at", b"soon"),
        (PENDING, "max_attempts", b"0"),
        (PENDING, "max_attempts", b"1001"),
        (PENDING, "retry_delay_seconds", b"-1"),
        (PENDING, "scenario_count", b"-1"),
        (PENDING, "attempt", b"-1"),
        (PENDING, "lease_seconds", b"0"),
        (PENDING, "worker", b"a\n"),
        (PENDING, "failures", b"-1"),
        (PENDING, "slate_id", b"a\x00"),
        (PENDING, "correlation_id", b"\xff"),
        (PENDING, "traceparent", b"00-1"),
        (PENDING, "finished_at", LATER),
        (PENDING, "lease_expires_at", LATER),
        (LEASED, "progress", b"{}"),
        (LEASED, "_history", b"5:2:?"),
        (LEASED, "_progress_event", b"-"),
        (LEASED, "worker", None),
        (LEASED, "lease_seconds", None),
        (LEASED, "_token", None),
        (ENDED, "finished_at", None),
        (PENDING, "_tags", b"s00"),
        (TAGGED, "_tags", None),
        (TAGGED, "_tags", b"\xff"),
        (TAGGED, "slate_id", None),
        (TAGGED, "correlation_id", b"d"),
    ],
)
def test_an_invalid_field_is_an_issue(record: dict[str, bytes], field: str, value: bytes | None) -> None:
    fields = {**record, field: value}
    assert find_issues("j", {name: one for name, one in fields.items() if one is not None})


#: Kinds of keys whose name goes on.
NAMED = {"by_created", "by_priority", "claim", "aim", "gate", "rate_limit", "bulk"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (PARTITION.job("a~b"), KeyName("job", ("a~b",))),
        (PARTITION.by_created("q.1", "delayed"), KeyName("by_created", ("q.1", "delayed"))),
        (PARTITION.by_priority("q.1"), KeyName("by_priority", ("q.1",))),
        (PARTITION.claim("d_-"), KeyName("claim", ("d_-",))),
        (PARTITION.rate_limit("d"), KeyName("rate_limit", ("d",))),
        (PARTITION.aim("d"), KeyName("aim", ("d",))),
        (PARTITION.gate("q.1"), KeyName("gate", ("q.1",))),
        (PARTITION.bulk("a"), KeyName("bulk", ("a",))),
        *((PARTITION.key(one), KeyName(one)) for one in sorted({*TYPES} - NAMED)),
        *((one, None) for one in ("job:", "job:a b", "jobs:", "jobs:odd", "jobs:tags:x", "jobs:claim", "jobs:meta:")),
        *(
            (one, None)
            for one in ("jobs:by_created:q", "jobs:by_created:q:odd", "jobs:by_created::pending", "jobs:by_priority")
        ),
        *((one, None) for one in ("jobs:clock", "jobs:list:q:pending", "jobs:by_created:q:pending:x")),
    ],
)
def test_a_key_name_is_parsed(key: str, name: KeyName | None) -> None:
    assert NAMES.is_managed(key.encode())
    assert NAMES.parse(key.encode()) == name
    assert name is None or name.key == key


def test_other_keys_are_not_managed() -> None:
    others = (b"jobless", b"job", b"jobs", b"x:job:a", b"{p0}:leases")
    assert [name for name in others if NAMES.is_managed(name)] == []
    others = (b"jobless", b"{p0}leases", b"{p}:leases", b"{px}:job:a", b"p0:leases")
    assert [name for name in others if NAMES_OF_16.is_managed(name)] == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (P60.job("a"), KeyName("job", ("a",), P60)),
        (P0.job("a"), KeyName("job", ("a",), P0)),
        (P0.by_created("q", "running"), KeyName("by_created", ("q", "running"), P0)),
        (P60.rate_limit("d"), KeyName("rate_limit", ("d",), P60)),
        ("{p0}:partitions", KeyName("partitions", (), P0)),
        ("jobs:version", KeyName("version")),
        ("jobs:fsync", KeyName("fsync")),
        *((one, None) for one in ("job:a", "jobs:leases", "jobs:partitions", "jobs:version:x", "{p4}:leases")),
        *((one, None) for one in ("{p0}:job:a b", "{p0}:odd", "{p0}:job", "{p0}:")),
    ],
)
def test_a_key_name_of_several_partitions_is_parsed(key: str, name: KeyName | None) -> None:
    assert NAMES_OF_16.is_managed(key.encode())
    assert NAMES_OF_16.parse(key.encode()) == name
    assert name is None or name.key == key


def test_every_key_has_a_type() -> None:
    assert set(TYPES) >= EXPIRING
    assert {KeyName(kind).type for kind in TYPES} == {"zset", "set", "string", "hash", "stream"}
    assert KeyName("job", ("a",)).type == "hash"


@pytest.mark.parametrize(
    ("key", "is_old"),
    [
        *((key, True) for key in ("jobs:list:q:pending", "jobs:exp:q:failed", "jobs:clock", "jobs:limit:d")),
        *((key, False) for key in ("jobs:odd", "job:a b", "job:list x")),
    ],
)
def test_a_key_of_version_1_is_named_as_such(key: str, is_old: bool) -> None:
    assert ("data version 1" in NAMES.foreign_detail(key.encode())) is is_old


async def test_the_throttle_limits_from_the_first_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    throttle = Throttle(50)
    for count in (25, 25, 5):
        await throttle.acquire(count)
    await Throttle(None).acquire(1000)

    assert slept == pytest.approx([0.5, 1.0, 1.1])


def test_different_counts_are_described_and_a_job_is_counted_once() -> None:
    counter = JobCounter[str]()
    for job_id in ("a", "b", "a"):
        counter.add(job_id, PARTITION.by_created("q", "pending"))
    counts = {PARTITION.by_created("q", "pending"): 2, PARTITION.by_created("z", "failed"): 1}
    counted = CountSnapshot(last_events=[b"1-1"], counts=counts)

    [(key, detail)] = differences(counter.counts, counted)
    assert key == PARTITION.by_created("z", "failed")
    assert detail == "the indexes count 1 failed jobs, but there are 0"


def found(number: int, *, repaired: bool = False) -> Issue:
    return Issue(type=IssueType.STRAY, key="jobs:\x1b[2J", member=str(number), detail="why", repaired=repaired)


def test_a_json_report_has_every_issue(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("here", as_json=True)
    for number in range(MAX_PRINTED + 10):
        report.add(found(number, repaired=number > 0))
    report.end()

    document: Any = msgspec.json.decode(capsys.readouterr().out)
    assert (document["found"], document["repaired"], document["left"]) == (MAX_PRINTED + 10, MAX_PRINTED + 9, 1)
    first = {"type": "stray", "key": "jobs:\x1b[2J", "member": "0", "detail": "why", "repaired": False}
    assert document["findings"][0] == first
    assert len(document["findings"]) == MAX_PRINTED + 10


def test_a_text_report_is_short_and_escapes_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    report = Report("here", as_json=False)
    for number in range(MAX_PRINTED + 10):
        report.add(found(number))
    report.end()

    out = capsys.readouterr().out
    assert out.count("why") == MAX_PRINTED
    assert "… and 10 more, which --json shows" in out
    assert "\x1b[2J" not in out
    assert "60 found, 0 repaired, 60 left" in out
