"""The line-up example without its solver: slates, inputs and the job function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lineup_slate
import msgspec
import pytest
from lineup_slate import InvalidInput, read_request, read_slate
from lineup_worker import optimize
from msgspec.structs import replace

from jobstate import Job, JobContext, PermanentFailure, Progress
from tests.helpers.records import record

SLATES = Path(lineup_slate.__file__).parent / "slates"
SLATE_ID = "pinewood-400"
HEADER = "name,salary,projection,spread\n"


# Slates and inputs


def test_the_example_slate_is_valid() -> None:
    drivers = read_slate(SLATES / f"{SLATE_ID}.csv")
    assert len(drivers) == 36
    assert all(4500 <= driver.salary <= 11_500 for driver in drivers)
    assert all(15 <= driver.projection <= 60 and driver.spread > 0 for driver in drivers)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name,salary\n", "slate.csv: the first line must be"),
        (HEADER, "slate.csv: has no drivers"),
        (HEADER + "Ann,5000,20,2\nAnn,5000,20,2\n", "slate.csv: has 'Ann' twice"),
        (HEADER + "Ann,5000,20,2\nBea,free,20,2\n", "slate.csv line 3: salary must be a number, not 'free'"),
        (HEADER + "Ann,5000.5,20,2\n", "slate.csv line 2: salary must be a whole number"),
        (HEADER + "Ann,5000,nan,2\n", "slate.csv line 2: projection must be a number"),
        (HEADER + "Ann,5000,20,-2\n", "slate.csv line 2: spread must not be negative"),
        (HEADER + "Ann,5000,20\n", "slate.csv line 2: spread must be a number, not None"),
        (HEADER + "Ann,5000,20,2,7\n", "slate.csv line 2: must have name,salary"),
        (HEADER + ",5000,20,2\n", "slate.csv line 2: must have name,salary"),
    ],
)
def test_an_invalid_slate_is_rejected_with_the_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "slate.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as rejected:
        read_slate(path)
    assert str(rejected.value).startswith(problem)


def job(**fields: Any) -> Job:
    """A record whose fields may have invalid types."""
    if "input_params" in fields:
        fields["raw_input_params"] = msgspec.Raw(msgspec.json.encode(fields.pop("input_params")))
    return replace(record(), **fields)


def test_absent_inputs_have_defaults() -> None:
    request = read_request(job(slate_id=SLATE_ID), SLATES)
    assert (request.scenario_count, request.salary_cap, request.roster_size) == (2000, 50_000, 6)
    assert (request.seed, request.top) == (1, 5)


def test_inputs_override_the_defaults() -> None:
    params = {"salary_cap": 40_000, "roster_size": 5, "seed": 7, "top": 1}
    request = read_request(job(slate_id=SLATE_ID, scenario_count=12, input_params=params), SLATES)
    assert {name: getattr(request, name) for name in params} == params
    assert request.scenario_count == 12


@pytest.mark.parametrize("slate_id", [None, 7, "", "nowhere", "../secret", f"{SLATE_ID}.csv", f"./{SLATE_ID}"])
def test_an_unknown_slate_is_rejected(tmp_path: Path, slate_id: object) -> None:
    (tmp_path / "slates").mkdir()
    (tmp_path / "slates" / f"{SLATE_ID}.csv").write_text(HEADER, encoding="utf-8")
    (tmp_path / "secret.csv").write_text(HEADER + "Ann,5000,20,2\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=SLATE_ID) as rejected:
        read_request(job(slate_id=slate_id), tmp_path / "slates")
    assert rejected.value.field == "slate_id"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"scenario_count": 0}, "scenario_count"),
        ({"scenario_count": 100_001}, "scenario_count"),
        ({"input_params": None}, "input_params"),
        ({"input_params": []}, "input_params"),
        ({"input_params": {"sead": 1}}, "input_params.sead"),
        ({"input_params": {"seed": -1}}, "input_params.seed"),
        ({"input_params": {"seed": True}}, "input_params.seed"),
        ({"input_params": {"salary_cap": "50000"}}, "input_params.salary_cap"),
        ({"input_params": {"salary_cap": 28_000}}, "input_params.salary_cap"),
        ({"input_params": {"roster_size": 37}}, "input_params.roster_size"),
        ({"input_params": {"top": 1.5}}, "input_params.top"),
    ],
)
def test_an_invalid_input_is_rejected_by_name(changed: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as rejected:
        read_request(job(slate_id=SLATE_ID, **changed), SLATES)
    assert rejected.value.field == field
    assert str(rejected.value).startswith(f"{field}: ")


# The job function


class FakeRun:
    """Twelve steps; step `stops_at` requests cancellation."""

    total = 12

    def __init__(self, context: JobContext, stops_at: int | None) -> None:
        self.done = 0
        self._context = context
        self._stops_at = stops_at

    def advance(self) -> None:
        self.done += 1
        if self.done == self._stops_at:
            self._context.stop()

    def result(self) -> dict[str, object]:
        return {"steps": self.done}


def optimized(stops_at: int | None = None) -> tuple[dict[str, object] | None, list[Any]]:
    reports: list[Any] = []
    context = JobContext(record(), reports.append)
    return optimize(context, lambda job: FakeRun(context, stops_at)), reports


def test_every_step_of_a_job_is_reported() -> None:
    result, reports = optimized()
    assert result == {"steps": 12}
    assert [report.current for report in reports] == list(range(1, 13))
    assert reports[4] == Progress(5, 12, "5 of 12 scenarios")


def test_a_cancelled_job_stops_after_the_current_step() -> None:
    result, reports = optimized(stops_at=4)
    assert (result, len(reports)) == (None, 4)


def test_an_invalid_input_fails_the_job_with_the_field() -> None:
    def begin(job: Job) -> FakeRun:
        raise InvalidInput("input_params.seed", "is odd")

    with pytest.raises(PermanentFailure) as failure:
        optimize(JobContext(record()), begin)
    assert failure.value.error_message == {
        "type": "invalid-input",
        "message": "input_params.seed: is odd",
        "field": "input_params.seed",
    }
