from typing import Any

import pytest
from msgspec import UNSET, Raw

from service.domain import validation
from service.domain.errors import InvalidValue
from service.domain.jobs import JobFilter, NewJob, Progress
from service.domain.states import Status

NUMBERS = (
    *("scenario_count", "max_attempts", "retry_delay_seconds", "delay_seconds"),
    *("run_timeout_seconds", "start_timeout_seconds", "retention_seconds", "priority"),
)
GOOD: dict[str, Any] = {
    "input_params": {},
    "queue": "default",
    "slate_id": None,
    "scenario_count": None,
    "correlation_id": None,
    "max_attempts": 1,
    "retry_delay_seconds": 0,
    "delay_seconds": 0,
    "priority": 0,
    "run_timeout_seconds": None,
    "start_timeout_seconds": None,
    "retention_seconds": None,
    "labels": None,
}


def created(**given: Any) -> dict[str, validation.FieldValue]:
    return validation.creation_fields(NewJob(**given))


def present(fields: dict[str, validation.FieldValue]) -> set[str]:
    return {name for name, value in fields.items() if value is not None}


def changed(target: Status, **given: Any) -> dict[str, validation.FieldValue]:
    absent: dict[str, Any] = {"result": None, "error": None, "progress": None, "scenario_count": None}
    return validation.change_fields(target, **absent | given)


def test_a_creation_keeps_given_fields_and_drops_absent_ones() -> None:
    sent = {**GOOD, "input_params": Raw(b'{"b": 1e999}'), "slate_id": "s", "max_attempts": 3}
    fields = created(**sent)
    assert fields == {**sent, "input_params": b'{"b": 1e999}'}
    assert present(fields) == set(sent) - {
        *("scenario_count", "correlation_id", "run_timeout_seconds", "start_timeout_seconds", "retention_seconds"),
        "labels",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_params", None),
        ("input_params", Raw(b"{")),
        ("queue", ""),
        ("queue", "a:b"),
        ("slate_id", ""),
        ("slate_id", "a\n"),
        ("scenario_count", -1),
        ("scenario_count", 2**53),
        ("correlation_id", "\x00"),
        ("max_attempts", 0),
        ("max_attempts", 1001),
        ("retry_delay_seconds", -1),
        ("retry_delay_seconds", 3601),
        ("delay_seconds", -1),
        ("delay_seconds", 365 * 86400 + 1),
        ("run_timeout_seconds", 0),
        ("run_timeout_seconds", 7 * 86400 + 1),
        ("start_timeout_seconds", 0),
        ("start_timeout_seconds", 365 * 86400 + 1),
        ("priority", -86_401),
        ("priority", 86_401),
        ("labels", ["tenant"]),
        ("labels", {"Tenant": "acme"}),
        ("labels", {f"k{number}": "v" for number in range(11)}),
        ("retention_seconds", 59),
        ("retention_seconds", 365 * 86400 + 1),
        *((name, wrong) for name in NUMBERS for wrong in (True, 1.0, "1")),
        *((name, None) for name in ("queue", "max_attempts", "retry_delay_seconds", "delay_seconds", "priority")),
    ],
)
def test_a_creation_that_breaks_a_rule_is_rejected_with_the_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as raised:
        created(**{**GOOD, field: value})
    assert raised.value.field == field
    assert raised.value.allowed


def test_an_absent_field_is_unset_or_none_in_python() -> None:
    expected = created(**GOOD)
    assert created(input_params={}) == expected
    assert created(**{name: UNSET if value is None else value for name, value in GOOD.items()}) == expected


def test_every_field_of_a_creation_is_tested() -> None:
    assert set(GOOD) == set(NewJob.__struct_fields__)


def test_an_unknown_field_of_a_creation_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'quue'"):
        created(**GOOD, quue="a")


def test_null_input_is_not_missing_input() -> None:
    assert created(**{**GOOD, "input_params": Raw(b"null")})["input_params"] == b"null"


@pytest.mark.parametrize("value", [{}, [], 0, False, "", Raw(b"null")])
def test_a_completed_job_keeps_any_result(value: Any) -> None:
    assert changed(Status.COMPLETED, result=value)["result"] is not None


@pytest.mark.parametrize("target", [status for status in Status if status is not Status.COMPLETED])
@pytest.mark.parametrize("value", [{}, 0, Raw(b"null")])
def test_a_result_is_allowed_with_completed_only(target: Status, value: Any) -> None:
    with pytest.raises(InvalidValue) as raised:
        changed(target, result=value)
    assert raised.value.field == "result"
    assert target in raised.value.detail


@pytest.mark.parametrize("target", [Status.FAILED, Status.CANCELLED])
@pytest.mark.parametrize("value", ["", "no fuel", {"code": 7}, False, Raw(b"null")])
def test_a_failed_or_cancelled_job_keeps_any_error(target: Status, value: Any) -> None:
    assert changed(target, error=value)["error_message"] is not None


@pytest.mark.parametrize("target", [Status.PENDING, Status.RUNNING, Status.COMPLETED])
@pytest.mark.parametrize("value", ["", "no fuel", Raw(b"null")])
def test_an_error_is_allowed_with_failed_or_cancelled_only(target: Status, value: Any) -> None:
    with pytest.raises(InvalidValue) as raised:
        changed(target, error=value)
    assert raised.value.field == "error_message"
    assert target in raised.value.detail


@pytest.mark.parametrize(
    ("target", "given", "field"),
    [(Status.COMPLETED, {"result": Raw(b"{")}, "result"), (Status.FAILED, {"error": Raw(b"{")}, "error_message")],
)
def test_an_update_with_invalid_json_is_rejected_with_the_field(
    target: Status, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidValue) as raised:
        changed(target, **given)
    assert raised.value.field == field


def test_an_update_without_fields_sets_none() -> None:
    assert present(changed(Status.RUNNING)) == set()


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(0), b'{"current":0}'),
        (Progress(3, 0), b'{"current":3,"total":0}'),
        (Progress(3, 2, "é"), '{"current":3,"total":2,"message":"é"}'.encode()),
    ],
)
def test_progress_is_stored_without_absent_members(progress: Progress, text: bytes) -> None:
    assert changed(Status.RUNNING, progress=progress)["progress"] == text


@pytest.mark.parametrize(
    ("progress", "field"),
    [
        (Progress(-1), "progress.current"),
        (Progress(2**53), "progress.current"),
        (Progress(True), "progress.current"),
        (Progress(1, -1), "progress.total"),
        (Progress(1, 2, ""), "progress.message"),
        (Progress(1, 2, "a\n"), "progress.message"),
        (Progress(1, 2, "é" * 513), "progress.message"),
    ],
)
def test_progress_that_breaks_a_rule_is_rejected_with_the_member(progress: Progress, field: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        changed(Status.RUNNING, progress=progress)
    assert raised.value.field == field


def test_an_update_may_set_the_scenario_count() -> None:
    assert changed(Status.RUNNING, scenario_count=0)["scenario_count"] == 0
    with pytest.raises(InvalidValue, match=r"^`scenario_count`: "):
        changed(Status.RUNNING, scenario_count=-1)


def test_a_status_is_one_of_five_words() -> None:
    assert [validation.parse_status(word.value) for word in Status] == list(Status)
    with pytest.raises(InvalidValue) as raised:
        validation.parse_status("Running")
    assert raised.value.field == "status"
    assert raised.value.allowed == "pending, running, completed, failed, cancelled"


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        (JobFilter(queue="a b"), "queue"),
        (JobFilter(queue=""), "queue"),
        (JobFilter(slate_id=""), "slate_id"),
        (JobFilter(correlation_id="\x00"), "correlation_id"),
    ],
)
def test_a_filter_that_no_job_can_match_is_rejected(filters: JobFilter, field: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        validation.validate_filter(filters)
    assert raised.value.field == field


def test_a_filter_with_possible_values_passes() -> None:
    validation.validate_filter(JobFilter())
    validation.validate_filter(JobFilter(status=Status.FAILED, queue="q", slate_id="a b", correlation_id="c/d"))
