import importlib
import re
import subprocess
import sys
from collections import Counter

import pytest

from service.api.problems import HTTP_PROBLEM_TYPES, INTERNAL_ERROR, PROBLEM_TYPES, ProblemType
from service.domain import errors
from service.domain.errors import JobStateError
from service.domain.states import Status
from service.store import redis_errors

#: Prints what clients are answered for each error of the domain and for a failure of Redis.
PRINT_ANSWERS = """
from redis.asyncio import ConnectionPool
from redis.exceptions import BusyLoadingError
from service.api.openapi.examples import ERRORS
from service.store.redis_errors import to_domain_error
print(*ERRORS, to_domain_error(BusyLoadingError("LOADING"), ConnectionPool()), sep="\\n")
"""
EVERY_KIND = (*PROBLEM_TYPES.values(), *HTTP_PROBLEM_TYPES.values(), INTERNAL_ERROR)


def lower(error: type[JobStateError]) -> list[type[JobStateError]]:
    return [one for one in error.__subclasses__() if one.__module__.startswith("service.")]


def tree(error: type[JobStateError], level: int = 0) -> list[tuple[int, str]]:
    return [(level, error.__name__), *(line for one in lower(error) for line in tree(one, level + 1))]


def leaves(error: type[JobStateError]) -> set[type[JobStateError]]:
    return set().union(*map(leaves, lower(error))) if lower(error) else {error}


def test_every_error_that_is_raised_has_one_kind_of_problem() -> None:
    importlib.import_module("service.__main__")  # which loads every other module
    assert set(PROBLEM_TYPES) == leaves(JobStateError)


def test_every_failure_of_redis_means_an_error_that_has_a_kind() -> None:
    meanings = {*(meant for _, meant in redis_errors._ERRORS), *redis_errors._REPLY_ERRORS.values()}
    assert meanings <= set(PROBLEM_TYPES)
    assert {PROBLEM_TYPES[meaning].status for meaning in meanings} == {500, 503}


def test_the_drawing_shows_the_tree_as_it_is() -> None:
    drawn = re.findall(r"^([│├└─ ]*)(\w+)(?: {2,}\S.*)?$", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in drawn] == tree(JobStateError)


def test_one_name_is_one_kind() -> None:
    kinds = Counter(kind.name for kind in set(EVERY_KIND))
    assert [name for name, times in kinds.items() if times > 1] == []


def test_two_errors_never_share_a_name() -> None:
    assert len({kind.name for kind in PROBLEM_TYPES.values()}) == len(PROBLEM_TYPES)


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
def test_a_kind_is_fit_for_people_and_programs(kind: ProblemType) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.name)
    assert kind.title.strip() == kind.title != ""
    assert 400 <= kind.status <= 599


@pytest.mark.parametrize("status", HTTP_PROBLEM_TYPES)
def test_an_error_of_the_framework_keeps_its_status(status: int) -> None:
    assert HTTP_PROBLEM_TYPES[status].status == status


def test_an_invalid_value_says_what_is_wrong_and_what_is_allowed() -> None:
    error = errors.InvalidValue("queue", "'a b' is not allowed", "letters")
    assert str(error) == "`queue`: 'a b' is not allowed; allowed: letters"


@pytest.mark.parametrize("error", PROBLEM_TYPES, ids=lambda error: error.__name__)
def test_every_error_has_a_detail_beside_its_docstring(error: type[JobStateError]) -> None:
    assert error.default_detail.endswith(".")
    assert error.default_detail != error.__doc__


def test_the_answers_do_not_depend_on_docstrings() -> None:
    answers, without_docstrings = (
        subprocess.run([sys.executable, *flags, "-c", PRINT_ANSWERS], capture_output=True, text=True, check=True).stdout
        for flags in ((), ("-OO",))
    )
    assert len(answers.splitlines()) > len(PROBLEM_TYPES)
    assert without_docstrings == answers


def test_a_second_claim_to_run_a_job_is_told_what_would_change_it() -> None:
    assert "progress" in str(errors.IllegalTransition(Status.RUNNING, Status.RUNNING, 2))
    assert "progress" not in str(errors.IllegalTransition(Status.COMPLETED, Status.FAILED, 2))
