"""The input of a line-up job: the drivers of its slate and its parameters, validated."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobstate import Job

COLUMNS = ["name", "salary", "projection", "spread"]
MAX_SCENARIO_COUNT = 100_000
MAX_SALARY_CAP = 10_000_000
MAX_SEED = 2**32 - 1
MAX_TOP = 100


class InvalidInput(ValueError):
    """A field of the job or its slate is invalid."""

    def __init__(self, field: str, problem: str) -> None:
        """`field` is the path of the field, such as `input_params.seed`."""
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True)
class Driver:
    """A driver of a slate."""

    name: str
    salary: int
    #: Expected score, in points.
    projection: float
    #: Standard deviation of the score, in points.
    spread: float


@dataclass(frozen=True)
class LineupRequest:
    """The validated input of one job."""

    slate_id: str
    drivers: tuple[Driver, ...]
    scenario_count: int
    salary_cap: int
    roster_size: int
    seed: int
    #: The maximum number of line-ups in the result.
    top: int


#: The fields of `input_params` and their defaults.
DEFAULTS = {"salary_cap": 50_000, "roster_size": 6, "seed": 1, "top": 5}
DEFAULT_SCENARIO_COUNT = 2000


def read_request(job: Job, slates: Path) -> LineupRequest:
    """Read a job record. Raises `InvalidInput` for the first invalid field."""
    slate_id, path = _find_slate(job.slate_id, slates)
    drivers = read_slate(path)
    params = _read_params(job.input_params if bytes(job.raw_input_params) else {})
    scenario_count = DEFAULT_SCENARIO_COUNT if job.scenario_count is None else job.scenario_count
    request = LineupRequest(
        slate_id=slate_id,
        drivers=drivers,
        scenario_count=_whole("scenario_count", scenario_count, 1, MAX_SCENARIO_COUNT),
        salary_cap=_whole("input_params.salary_cap", params["salary_cap"], 1, MAX_SALARY_CAP),
        roster_size=_whole("input_params.roster_size", params["roster_size"], 1, len(drivers)),
        seed=_whole("input_params.seed", params["seed"], 0, MAX_SEED),
        top=_whole("input_params.top", params["top"], 1, MAX_TOP),
    )
    _require_affordable(request)
    return request


def read_slate(path: Path) -> tuple[Driver, ...]:
    """Read the drivers of a slate. Raises `InvalidInput` with the line number."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if rows.fieldnames != COLUMNS:
            raise InvalidInput(path.name, f"the first line must be {','.join(COLUMNS)}")
        drivers = tuple(_read_driver(row, f"{path.name} line {rows.line_num}") for row in rows)
    if not drivers:
        raise InvalidInput(path.name, "has no drivers")
    _require_unique_names(drivers, path.name)
    return drivers


def _find_slate(slate_id: object, slates: Path) -> tuple[str, Path]:
    """Find the slate among the existing files, so that text from a client never becomes a path."""
    known = {path.stem: path for path in sorted(slates.glob("*.csv"))}
    if isinstance(slate_id, str) and slate_id in known:
        return slate_id, known[slate_id]
    problem = "is missing" if slate_id is None else f"no slate {slate_id!r}"
    raise InvalidInput("slate_id", f"{problem}; there is {', '.join(known) or 'none'}")


def _read_params(params: object) -> dict[str, object]:
    if not isinstance(params, Mapping):
        raise InvalidInput("input_params", "must be an object")
    for name in params:
        if name not in DEFAULTS:
            raise InvalidInput(f"input_params.{name}", f"is unknown; known are {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **params}


def _whole(field: str, value: object, minimum: int, maximum: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
        return value
    raise InvalidInput(field, f"must be a whole number from {minimum} to {maximum}, not {value!r:.80}")


def _require_affordable(request: LineupRequest) -> None:
    salaries = sorted(driver.salary for driver in request.drivers)
    cheapest = sum(salaries[: request.roster_size])
    if request.salary_cap < cheapest:
        raise InvalidInput(
            "input_params.salary_cap",
            f"{request.salary_cap} buys no line-up of {request.roster_size}; the cheapest costs {cheapest}",
        )


def _read_driver(row: Mapping[str, str | None], line: str) -> Driver:
    name = row["name"]
    if not name or None in row:
        raise InvalidInput(line, f"must have {','.join(COLUMNS)}")
    salary = _number(row, "salary", line)
    if not salary.is_integer() or salary < 1:
        raise InvalidInput(line, f"salary must be a whole number above 0, not {row['salary']!r}")
    spread = _number(row, "spread", line)
    if spread < 0:
        raise InvalidInput(line, f"spread must not be negative, but is {row['spread']!r}")
    return Driver(name, int(salary), _number(row, "projection", line), spread)


def _number(row: Mapping[str, str | None], column: str, line: str) -> float:
    try:
        number = float(row[column] or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(line, f"{column} must be a number, not {row[column]!r}")
    return number


def _require_unique_names(drivers: tuple[Driver, ...], slate: str) -> None:
    seen: set[str] = set()
    for driver in drivers:
        if driver.name in seen:
            raise InvalidInput(slate, f"has {driver.name!r} twice")
        seen.add(driver.name)
