"""The work itself: simulate a race many times, and find the best line-up of each simulated race."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from lineup_slate import Driver, LineupRequest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

#: The positions of a line-up's drivers in the slate, in rising order.
Lineup: TypeAlias = tuple[int, ...]
#: One row per scenario, one column per driver.
Scores: TypeAlias = NDArray[np.float64]

#: How many scenarios one step solves: a fraction of a second, so that a worker can report and stop.
STEP = 10


class LineupRun:
    """One job's optimization, advanced step by step."""

    def __init__(self, request: LineupRequest) -> None:
        """Draw all scenarios; none is solved yet."""
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
        """Summarise the scenarios solved so far."""
        return {
            "slate_id": self._request.slate_id,
            "scenarios": self.done,
            "seed": self._request.seed,
            "different_lineups": len(self._wins),
            "lineups": top_lineups(self._request, self._scores[: self.done], self._wins),
            "exposures": exposures(self._request.drivers, self._wins),
        }


def simulate(drivers: Sequence[Driver], scenario_count: int, seed: int) -> Scores:
    """Draw every driver's score in every scenario (one row each), independently and normally distributed."""
    projections = [driver.projection for driver in drivers]
    spreads = [driver.spread for driver in drivers]
    draws = np.random.default_rng(seed)
    return draws.normal(projections, spreads, size=(scenario_count, len(drivers)))


def best_lineup(scores: Scores, salaries: Sequence[int], salary_cap: int, roster_size: int) -> Lineup:
    """Find the line-up with the highest score that the cap allows; raise `RuntimeError` if there is none."""
    solution = milp(
        -scores,
        integrality=np.ones(len(scores)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.array(salaries), ub=salary_cap),
            LinearConstraint(np.ones(len(scores)), roster_size, roster_size),
        ],
        # The solver's own default stops at a line-up that may be 0.01 % short of the best.
        options={"mip_rel_gap": 0.0},
    )
    if not solution.success:
        raise RuntimeError(f"no best line-up: {solution.message}")
    return tuple(int(position) for position in np.flatnonzero(solution.x > 0.5))


def top_lineups(request: LineupRequest, scores: Scores, wins: Counter[Lineup]) -> list[dict[str, object]]:
    """List the line-ups that won most scenarios, those with the higher mean score first among equals."""
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
    """Say of every driver in what share of the scenarios the best line-up had them, most first."""
    counts: Counter[int] = Counter()
    for lineup, won in wins.items():
        counts.update(dict.fromkeys(lineup, won))
    return [
        {"driver": drivers[position].name, "share": round(counts[position] / wins.total(), 4)}
        for position in sorted(counts, key=lambda position: (-counts[position], position))
    ]
