import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job, Progress
from service.domain.states import Status
from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.records import (
    FIELDS,
    LARGE_FIELDS,
    decode_hash,
    decode_job,
    decode_packed,
    field_args,
    time_reply_to_micros,
)

CREATED = "2026-02-28T23:59:59.999999Z"
MINIMAL = {
    "status": b"pending",
    "queue": b"default",
    "input_params": b'{"b": 1e999}',
    "revision": b"1",
    "created_at": CREATED.encode(),
    "updated_at": CREATED.encode(),
    "expires_at": b"2026-03-07T23:59:59.999000Z",
}
FULL = MINIMAL | {
    "status": b"running",
    "result": b"null",
    "error_message": b'"\xc3\xa9"',
    "progress": b'{"current":3,"total":7,"message":"lap"}',
    "scenario_count": b"0",
    "slate_id": "daytona é".encode(),
    "correlation_id": b"c",
    "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "revision": b"12",
    "attempt": b"2",
    "failures": b"1",
    "max_attempts": b"3",
    "retry_delay_seconds": b"60",
    "priority": b"-5",
    "available_at": CREATED.encode(),
    "run_timeout_seconds": b"90",
    "run_deadline_at": b"2026-03-01T00:01:30.000000Z",
    "start_timeout_seconds": b"60",
    "start_deadline_at": CREATED.encode(),
    "retention_seconds": b"3600",
    "labels": b'{"tenant":"acme"}',
    "worker": b"w",
    "lease_seconds": b"30",
    "lease_expires_at": b"2026-03-01T00:00:30.000000Z",
    "cancel_requested_at": CREATED.encode(),
    "started_at": CREATED.encode(),
    "finished_at": CREATED.encode(),
}
#: The values of numbers that a hash does not store.
DEFAULTS = {"attempt": 0, "failures": 0, "max_attempts": 1, "retry_delay_seconds": 0, "priority": 0}
NUMBERS = {
    *(*DEFAULTS, "revision", "scenario_count", "lease_seconds"),
    *("run_timeout_seconds", "start_timeout_seconds", "retention_seconds"),
}
NOW = parse_timestamp("2026-03-01T00:00:00.000000Z")


def plain(job: Job) -> dict[str, Any]:
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    return {name: bytes(value) if isinstance(value, msgspec.Raw) else value for name, value in fields.items()}


def test_a_hash_with_all_fields_is_decoded() -> None:
    record = plain(decode_job("j", FULL, NOW))
    assert record.pop("progress") == Progress(3, 7, "lap")
    assert record.pop("labels") == {"tenant": "acme"}
    raw = {"input_params", "result", "error_message"}
    for name, value in record.items():
        if name in {"job_id", "stale"}:
            continue
        text = FULL[name]
        assert value == (int(text) if name in NUMBERS else text if name in raw else text.decode()), name
    assert (record["job_id"], record["stale"]) == ("j", False)
    assert record["status"] is Status.RUNNING


def test_the_test_data_has_every_field() -> None:
    assert set(FULL) == set(Job.__struct_fields__) - {"job_id", "stale"} == {*FIELDS, *LARGE_FIELDS}
    assert len(FIELDS) + len(LARGE_FIELDS) == len(FULL)


def test_a_minimal_hash_is_decoded_with_defaults() -> None:
    record = plain(decode_job("j", MINIMAL, NOW))
    absent = {name for name, value in record.items() if value is None}
    assert absent == set(FULL) - set(MINIMAL) - set(DEFAULTS)
    assert {name: record[name] for name in DEFAULTS} == DEFAULTS
    assert record["stale"] is False


def test_private_and_unknown_fields_are_not_shown() -> None:
    extra = {
        "_creation": b"digest",
        "_change": b"\xff",
        "_progress_event": b"7",
        "stale": b"1",
        "job_id": b"x",
        "": b"",
    }
    assert plain(decode_job("j", MINIMAL | extra, NOW)) == plain(decode_job("j", MINIMAL, NOW))


def test_json_is_returned_as_stored() -> None:
    answer = msgspec.json.encode(decode_job("j", FULL, NOW))
    assert b'"input_params":{"b": 1e999},"result":null,"error_message":"\xc3\xa9"' in answer


def test_an_absent_field_is_omitted_from_the_json() -> None:
    answer = msgspec.json.decode(msgspec.json.encode(decode_job("j", MINIMAL, NOW)).replace(b"1e999", b"1"))
    assert set(answer) == {"job_id", "stale", *MINIMAL, *DEFAULTS} - {"priority"}


@pytest.mark.parametrize(("later", "stale"), [(-1, False), (0, False), (1, True)])
def test_a_job_is_stale_once_its_lease_has_expired(later: int, stale: bool) -> None:
    ends = parse_timestamp(FULL["lease_expires_at"].decode())
    job = decode_job("j", FULL, ends + later)
    assert job.stale is stale
    assert job.version == f"{parse_timestamp(CREATED)}-12" + ("-stale" if stale else "")


@pytest.mark.parametrize("status", list(Status))
def test_is_final_follows_the_status(status: Status) -> None:
    ended = decode_job("j", MINIMAL | {"status": status.value.encode()}, NOW).is_final
    assert ended is (status in {"completed", "failed", "cancelled"})


def test_arguments_omit_defaults_and_absent_fields() -> None:
    fields = {"queue": "default", "input_params": b"{}", "slate_id": None, "scenario_count": 0, "max_attempts": 1}
    more = {"retry_delay_seconds": 0, "attempt": 2, "failures": 0}
    expected = ["queue", "default", "input_params", b"{}", "scenario_count", 0, "attempt", 2]
    assert field_args(fields | more) == expected
    assert field_args(dict.fromkeys(DEFAULTS)) == []


def test_omitted_defaults_are_decoded() -> None:
    assert field_args(DEFAULTS) == []
    job = decode_job("j", MINIMAL, NOW)
    assert {name: getattr(job, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("value", [b"{}", b"0", b"[]", b"false", b'""', b"null"])
def test_every_json_value_is_an_argument(value: bytes) -> None:
    assert field_args({"result": value}) == ["result", value]


def packed(fields: Mapping[str, bytes | str]) -> bytes:
    """Return a record as scripts pack it: all names and values are strings."""
    return msgspec.msgpack.encode({name: v if isinstance(v, str) else v.decode() for name, v in fields.items()})


@pytest.mark.parametrize("fields", [FULL, MINIMAL, FULL | {"made_elsewhere": b"1"}], ids=["full", "minimal", "more"])
@pytest.mark.parametrize("later", [0, 3_600_000_000])
def test_a_packed_record_and_a_hash_are_decoded_alike(fields: dict[str, bytes], later: int) -> None:
    expected = plain(decode_job("j", {name.encode(): value for name, value in fields.items()}, NOW + later))
    assert plain(decode_job("j", fields, NOW + later)) == expected
    job, token = decode_packed("j", packed(fields | {"_token": b"2-secret"}), NOW + later)
    assert (plain(job), token) == (expected, "2-secret")
    assert decode_packed("j", packed(fields), NOW + later)[1] == ""


def test_the_names_of_a_hash_are_decoded() -> None:
    assert decode_hash({b"a": b"1", b"b\xff": b"\xff"}) == {"a": b"1", "b\ufffd": b"\xff"}


def test_the_reply_to_time_is_converted_to_microseconds() -> None:
    assert time_reply_to_micros((1, 5)) == 1_000_005
    assert time_reply_to_micros([b"1700000000", b"999999"]) == 1_700_000_000_999_999


EDGES = [
    (0, "1970-01-01T00:00:00.000000Z"),
    (1, "1970-01-01T00:00:00.000001Z"),
    (999_999, "1970-01-01T00:00:00.999999Z"),
    (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
    (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
    (951_868_800_000_000, "2000-03-01T00:00:00.000000Z"),
    (1_709_164_800_000_000, "2024-02-29T00:00:00.000000Z"),
    (1_735_689_599_999_999, "2024-12-31T23:59:59.999999Z"),
    (1_735_689_600_000_000, "2025-01-01T00:00:00.000000Z"),
    (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
]


@pytest.mark.parametrize(("number", "text"), EDGES)
def test_timestamps_have_microseconds(number: int, text: str) -> None:
    assert format_timestamp(number) == text
    assert parse_timestamp(text) == number


@pytest.mark.parametrize("seed", range(5))
def test_random_timestamps_round_trip_and_sort_as_text(seed: int) -> None:
    source = random.Random(seed)
    end = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    numbers = sorted(source.randrange(end) for _ in range(1000))
    texts = [format_timestamp(number) for number in numbers]
    assert [parse_timestamp(text) for text in texts] == numbers
    assert texts == sorted(texts)


@pytest.mark.parametrize(
    "damage",
    [{"revision": b"x"}, {"status": b"odd"}, {"progress": b"{}"}, {"worker": b"\xff"}, {"queue": None}],
    ids=str,
)
def test_an_unreadable_hash_raises_store_corrupt(damage: dict[str, bytes | None]) -> None:
    valid: dict[str, bytes | None] = {
        "status": b"pending",
        "queue": b"q",
        "revision": b"1",
        "created_at": b"2026-01-01T00:00:00.000000Z",
        "updated_at": b"2026-01-01T00:00:00.000000Z",
        "expires_at": b"2026-01-01T00:00:00.000000Z",
    }
    fields = {name: value for name, value in {**valid, **damage}.items() if value is not None}
    with pytest.raises(StoreCorrupt, match="job:j"):
        decode_job("j", fields, 0)
    texts = {name: value.decode("latin-1") for name, value in fields.items()}
    record = msgspec.msgpack.encode(texts).replace("\xff".encode(), b"\xff\xff")
    with pytest.raises(StoreCorrupt, match="job:j"):
        decode_packed("j", record, 0)
