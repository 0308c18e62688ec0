"""The solver: simulate a race many times, and find the best line-up of each simulated race."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from lineup_slate import Driver, LineupRequest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

#: The drivers' indexes in the slate, in ascending order.
Lineup: TypeAlias = tuple[int, ...]
#: One row per scenario, one column per driver.
Scores: TypeAlias = NDArray[np.float64]

#: Scenarios per step. A step takes a fraction of a second, so that the worker can report progress and stop.
STEP = 10


class LineupRun:
    """The optimization of one job, in steps."""

    def __init__(self, request: LineupRequest) -> None:
        """Draw all scenarios."""
        self.total = request.scenario_count
        self.done = 0
        self._request = request
        self._scores = simulate(request.drivers, request.scenario_count, request.seed)
        self._wins: Counter[Lineup] = Counter()

    def advance(self) -> None:
        """Solve the next few scenarios."""
        salaries = [driver.salary for driver in self._request.drivers]
        for scores in self._scores[self.done : self.done + STEP]:
            lineup = best_lineup(scores, salaries, self._request.salary_cap, self._request.roster_size)
            self._wins[lineup] += 1
            self.done += 1

    def result(self) -> dict[str, object]:
        """Return the result of the scenarios solved so far."""
        return {
            "slate_id": self._request.slate_id,
            "scenarios": self.done,
            "seed": self._request.seed,
            "different_lineups": len(self._wins),
            "lineups": top_lineups(self._request, self._scores[: self.done], self._wins),
            "exposures": exposures(self._request.drivers, self._wins),
        }


def simulate(drivers: Sequence[Driver], scenario_count: int, seed: int) -> Scores:
    """Draw the score of every driver in every scenario (a row each), independently from normal distributions."""
    projections = [driver.projection for driver in drivers]
    spreads = [driver.spread for driver in drivers]
    draws = np.random.default_rng(seed)
    return draws.normal(projections, spreads, size=(scenario_count, len(drivers)))


def best_lineup(scores: Scores, salaries: Sequence[int], salary_cap: int, roster_size: int) -> Lineup:
    """Return the line-up with the highest score within the salary cap. Raises `RuntimeError` if there is none."""
    solution = milp(
        -scores,
        integrality=np.ones(len(scores)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.array(salaries), ub=salary_cap),
            LinearConstraint(np.ones(len(scores)), roster_size, roster_size),
        ],
        # By default the solver accepts a line-up up to 0.01 % below the best.
        options={"mip_rel_gap": 0.0},
    )
    if not solution.success:
        raise RuntimeError(f"no best line-up: {solution.message}")
    return tuple(int(position) for position in np.flatnonzero(solution.x > 0.5))


def top_lineups(request: LineupRequest, scores: Scores, wins: Counter[Lineup]) -> list[dict[str, object]]:
    """Return the line-ups that won most scenarios; ties are ordered by mean score."""
    means = scores.mean(axis=0)

    def rank(lineup: Lineup) -> tuple[float, ...]:
        return (-wins[lineup], -means[list(lineup)].sum(), *lineup)

    return [
        {
            "drivers": [request.drivers[position].name for position in lineup],
            "salary": sum(request.drivers[position].salary for position in lineup),
            "mean_score": round(float(means[list(lineup)].sum()), 2),
            "share_won": round(wins[lineup] / wins.total(), 4),
        }
        for lineup in sorted(wins, key=rank)[: request.top]
    ]


def exposures(drivers: Sequence[Driver], wins: Counter[Lineup]) -> list[dict[str, object]]:
    """Return for each driver the share of scenarios whose best line-up has the driver, in descending order."""
    counts: Counter[int] = Counter()
    for lineup, won in wins.items():
        counts.update(dict.fromkeys(lineup, won))
    return [
        {"driver": drivers[position].name, "share": round(counts[position] / wins.total(), 4)}
        for position in sorted(counts, key=lambda position: (-counts[position], position))
    ]
