import pytest

from service.domain.states import FINAL_STATUSES, STATUSES_WITH_ERROR, TRANSITIONS, Status, sources_of


def test_final_statuses_have_no_transitions() -> None:
    assert {Status.COMPLETED, Status.FAILED, Status.CANCELLED} == FINAL_STATUSES


def test_every_status_has_its_row_in_the_table() -> None:
    assert list(TRANSITIONS) == list(Status)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("pending", []),
        ("running", ["pending", "running"]),
        ("completed", ["running"]),
        ("failed", ["pending", "running"]),
        ("cancelled", ["pending", "running"]),
    ],
)
def test_a_status_is_reached_from_its_sources_only(target: str, expected: list[str]) -> None:
    assert list(sources_of(Status(target))) == expected


def test_an_error_is_allowed_with_the_final_statuses_without_result() -> None:
    assert FINAL_STATUSES - {Status.COMPLETED} == STATUSES_WITH_ERROR
