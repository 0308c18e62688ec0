import re
import time
import uuid

import pytest

from service.domain import constraints
from service.domain.constraints import Pattern
from service.domain.errors import InvalidValue
from service.domain.timestamps import parse_rfc3339

WRONG_EVERYWHERE = [
    "",
    "-a",
    ".a",
    "_a",
    "~a",
    "a b",
    " a",
    "a ",
    "a/b",
    "a:b",
    "a\n",
    "\na",
    "a\r\n",
    "a\x00",
    "\x00",
    "ä",
    "٣",
    "a*",
]
EVERY_PATTERN = [constraints.JOB_ID, constraints.QUEUE, constraints.IDEMPOTENCY_KEY, constraints.TRACEPARENT]


@pytest.mark.parametrize("rule", [constraints.JOB_ID, constraints.QUEUE])
@pytest.mark.parametrize("value", ["a", "Z", "0", "a.b_c~d-e", "a..", "0-"])
def test_ids_and_queues_allow_few_characters(rule: Pattern, value: str) -> None:
    assert rule.validate("field", value) == value


@pytest.mark.parametrize("rule", [constraints.JOB_ID, constraints.QUEUE])
@pytest.mark.parametrize("value", WRONG_EVERYWHERE)
def test_any_other_character_is_rejected_with_the_field_and_what_is_allowed(rule: Pattern, value: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        rule.validate("some_field", value)
    assert raised.value.field == "some_field"
    assert raised.value.detail == f"{value!r} is not allowed"
    assert raised.value.allowed == rule.allowed


@pytest.mark.parametrize(
    ("rule", "maximum"), [(constraints.JOB_ID, 128), (constraints.QUEUE, 64), (constraints.IDEMPOTENCY_KEY, 255)]
)
def test_a_name_has_a_maximum_length(rule: Pattern, maximum: int) -> None:
    assert rule.is_valid("a" * maximum)
    assert not rule.is_valid("a" * (maximum + 1))
    assert f"1 to {maximum} " in rule.allowed


@pytest.mark.parametrize("rule", EVERY_PATTERN)
def test_a_pattern_for_the_api_document_is_anchored_at_both_ends(rule: Pattern) -> None:
    assert rule.regex.startswith("^")
    assert rule.regex.endswith("$")
    assert re.compile(rule.regex)


@pytest.mark.parametrize("key", ["!", "~", '"a,b"', "a" * 255])
def test_an_idempotency_key_is_visible_ascii(key: str) -> None:
    assert constraints.IDEMPOTENCY_KEY.is_valid(key)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "\x7f", "\x00", "ä"])
def test_an_idempotency_key_of_other_characters_is_rejected(key: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`Idempotency-Key`: "):
        constraints.job_id_for_key(key)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n", False),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", False),
    ],
)
def test_a_trace_context_is_of_version_00(value: str, accepted: bool) -> None:
    assert constraints.TRACEPARENT.is_valid(value) is accepted


@pytest.mark.parametrize(
    "value", ["a", " ", "two words", "a" * 128, "é" * 64, "🏁" * 32, "\u2028", '"', "\\", "a|b:c,d"]
)
def test_a_text_is_free(value: str) -> None:
    assert constraints.TEXT.validate("slate_id", value) == value


@pytest.mark.parametrize("value", ["", "\x00", "a\x00b", "\n", "a\n", "\t", "\x1f", "\x7f", "\x85", "\x9f", "\ud800"])
def test_a_text_has_no_control_characters_and_is_not_empty(value: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`slate_id`: "):
        constraints.TEXT.validate("slate_id", value)


@pytest.mark.parametrize("value", ["a" * 129, "é" * 64 + "a", "🏁" * 32 + "a"])
def test_the_length_of_a_text_is_counted_in_bytes(value: str) -> None:
    assert not constraints.TEXT.is_valid(value)
    assert constraints.TEXT.is_valid(value[:-1])


def test_a_progress_message_may_be_longer_than_other_texts() -> None:
    assert constraints.PROGRESS_MESSAGE.is_valid("a" * 1024)
    assert not constraints.PROGRESS_MESSAGE.is_valid("a" * 1025)


@pytest.mark.parametrize(
    ("rule", "minimum", "maximum"),
    [
        (constraints.COUNT, 0, 2**53 - 1),
        (constraints.MAX_ATTEMPTS, 1, 1000),
        (constraints.RETRY_DELAY_SECONDS, 0, 3600),
        (constraints.DELAY_SECONDS, 0, 31_536_000),
        (constraints.PAGE_LIMIT, 1, 200),
        (constraints.BATCH_SIZE, 1, 1000),
    ],
)
def test_a_number_is_between_its_limits(rule: constraints.Range, minimum: int, maximum: int) -> None:
    assert (rule.validate("n", minimum), rule.validate("n", maximum)) == (minimum, maximum)
    for value in (minimum - 1, maximum + 1):
        with pytest.raises(InvalidValue) as raised:
            rule.validate("n", value)
        assert raised.value.allowed == f"an integer from {minimum} to {maximum}"


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None])
def test_only_an_integer_is_a_number(value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^`n`: "):
        constraints.COUNT.validate("n", value)


@pytest.mark.parametrize("text", ["1", "7", "200"])
def test_an_integer_as_text_is_plain_decimal_digits(text: str) -> None:
    assert constraints.PAGE_LIMIT.parse("limit", text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "5.0", "1e2", "-0", "05", "+5", " 5", "5 ", "5\n", "1_0", "0x5", "null", "true", "\uff15", "9" * 5000]
)
def test_any_other_format_of_an_integer_is_rejected(text: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`limit`: .*plain decimal digits"):
        constraints.PAGE_LIMIT.parse("limit", text)


@pytest.mark.parametrize("text", ["0", "201", "9007199254740992"])
def test_an_integer_as_text_is_between_its_limits(text: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`limit`: .*1 to 200"):
        constraints.PAGE_LIMIT.parse("limit", text)


def test_a_long_value_is_truncated_in_a_message() -> None:
    assert constraints.truncated_repr("a" * 70) == repr("a" * 70)
    assert constraints.truncated_repr("a" * 71) == "'" + "a" * 67 + "...'"


def test_a_new_id_is_a_uuid_of_version_7_with_its_creation_time() -> None:
    before = time.time_ns() // 1_000_000
    job_id = uuid.UUID(constraints.new_job_id())
    after = time.time_ns() // 1_000_000
    assert (job_id.version, job_id.variant) == (7, uuid.RFC_4122)
    assert before <= job_id.int >> 80 <= after


def test_new_ids_sort_by_creation_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def made_at(millis: int) -> str:
        monkeypatch.setattr(time, "time_ns", lambda: millis * 1_000_000)
        return constraints.new_job_id()

    ids = [made_at(millis) for millis in (1, 255, 256, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1)]
    assert ids == sorted(ids)


def test_new_ids_are_unique() -> None:
    ids = [uuid.UUID(constraints.new_job_id()) for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {job_id.version for job_id in ids} == {7}
    assert {job_id.variant for job_id in ids} == {uuid.RFC_4122}
    assert all(constraints.JOB_ID.is_valid(str(job_id)) for job_id in ids)


def test_the_job_id_of_an_idempotency_key_never_changes() -> None:
    # A change breaks the retry of a request across an upgrade: records of earlier releases are found by this id.
    assert constraints.job_id_for_key("key-1") == "be297454-6978-8373-9e6d-6da85c4be9f3"


def test_the_job_id_of_an_idempotency_key_is_a_uuid_of_version_8() -> None:
    ids = [uuid.UUID(constraints.job_id_for_key(f"key-{number}")) for number in range(2000)]
    assert len(set(ids)) == 2000
    assert {job_id.version for job_id in ids} == {8}
    assert {job_id.variant for job_id in ids} == {uuid.RFC_4122}


def test_idempotency_keys_that_differ_in_case_have_different_job_ids() -> None:
    assert constraints.job_id_for_key("key") != constraints.job_id_for_key("KEY")


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01.5z", 1_500_000),
        ("1970-01-01T01:00:00.0000019+01:00", 1),
        ("1969-12-31T23:59:59-00:01", 59_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000_000),
    ],
)
def test_a_time_is_one_of_rfc_3339(text: str, micros: int) -> None:
    assert constraints.TIME.validate("f", text) == text
    assert parse_rfc3339(text) == micros


@pytest.mark.parametrize(
    "value",
    [
        *("", "now", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00:00Z", "1970-W01-1T00:00:00Z"),
        *("0000-01-01T00:00:00Z", "1970-02-30T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01T00:00:00+24:00"),
        *("1970-01-01T00:00:00Z\n", "19700101T000000Z", "1970-01-01T00:00:61Z", 0, None),
    ],
)
def test_what_is_no_time_of_rfc_3339_is_rejected(value: object) -> None:
    with pytest.raises(InvalidValue, match="RFC 3339"):
        constraints.TIME.validate("f", value)
