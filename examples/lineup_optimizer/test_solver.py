"""Tests of the solver, also against an exhaustive search."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from lineup_slate import Driver, LineupRequest, read_request
from lineup_solver import Lineup, LineupRun, best_lineup, exposures, simulate, top_lineups

from tests.helpers.records import record

SLATES = Path(__file__).parent / "slates"


@pytest.fixture
def small_job() -> LineupRequest:
    return read_request(record(slate_id="pinewood-400", scenario_count=25), SLATES)


def solved(request: LineupRequest) -> LineupRun:
    run = LineupRun(request)
    while run.done < run.total:
        run.advance()
    return run


def test_a_line_up_obeys_the_cap_and_the_size(small_job: LineupRequest) -> None:
    salaries = [driver.salary for driver in small_job.drivers]
    for scores in simulate(small_job.drivers, 25, seed=3):
        lineup = best_lineup(scores, salaries, 50_000, 6)
        assert len(set(lineup)) == 6
        assert sum(salaries[position] for position in lineup) <= 50_000


@pytest.mark.parametrize("seed", range(20))
def test_the_solver_agrees_with_an_exhaustive_search(seed: int) -> None:
    draws = random.Random(seed)
    salaries = [draws.randrange(4500, 11_600, 100) for _ in range(12)]
    scores = np.array([draws.uniform(15, 60) for _ in range(12)])
    cap = draws.randrange(sum(sorted(salaries)[:4]), 40_000)
    allowed = [lineup for lineup in combinations(range(12), 4) if sum(salaries[position] for position in lineup) <= cap]
    best = max(allowed, key=lambda lineup: scores[list(lineup)].sum())
    assert best_lineup(scores, salaries, cap, 4) == best


def test_a_cap_that_buys_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no best line-up"):
        best_lineup(np.array([1.0, 2.0]), [5000, 6000], 4000, 1)


def test_the_same_seed_gives_the_same_result(small_job: LineupRequest) -> None:
    assert solved(small_job).result() == solved(small_job).result()


def test_another_seed_draws_other_scores(small_job: LineupRequest) -> None:
    assert (simulate(small_job.drivers, 5, seed=1) != simulate(small_job.drivers, 5, seed=2)).all()


def test_scores_follow_projection_and_spread() -> None:
    scores = simulate([Driver("Ann", 5000, 40.0, 4.0), Driver("Bea", 5000, 20.0, 0.0)], 20_000, seed=1)
    assert scores.mean(axis=0) == pytest.approx([40, 20], abs=0.2)
    assert scores.std(axis=0) == pytest.approx([4, 0], abs=0.2)


def test_a_run_ends_at_its_scenario_count(small_job: LineupRequest) -> None:
    run = solved(small_job)
    assert (run.done, run.result()["scenarios"]) == (25, 25)


def test_a_result_counts_wins_and_exposures() -> None:
    drivers = tuple(Driver(name, 5000 + number, 20.0, 2.0) for number, name in enumerate("ABCD"))
    request = LineupRequest("small", drivers, 4, 50_000, 2, seed=1, top=2)
    scores = np.array([[30.0, 10.0, 20.0, 40.0]] * 4)
    wins: Counter[Lineup] = Counter({(0, 1): 1, (0, 3): 1, (0, 2): 2})
    assert top_lineups(request, scores, wins) == [
        {"drivers": ["A", "C"], "salary": 10_002, "mean_score": 50.0, "share_won": 0.5},
        {"drivers": ["A", "D"], "salary": 10_003, "mean_score": 70.0, "share_won": 0.25},
    ]
    assert exposures(drivers, wins) == [
        {"driver": "A", "share": 1.0},
        {"driver": "C", "share": 0.5},
        {"driver": "B", "share": 0.25},
        {"driver": "D", "share": 0.25},
    ]
