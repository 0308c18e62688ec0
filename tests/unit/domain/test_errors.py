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
EVERY_PROBLEM_TYPE = (*PROBLEM_TYPES.values(), *HTTP_PROBLEM_TYPES.values(), INTERNAL_ERROR)


def subclasses(error: type[JobStateError]) -> list[type[JobStateError]]:
    return [one for one in error.__subclasses__() if one.__module__.startswith("service.")]


def tree(error: type[JobStateError], level: int = 0) -> list[tuple[int, str]]:
    return [(level, error.__name__), *(line for one in subclasses(error) for line in tree(one, level + 1))]


def leaves(error: type[JobStateError]) -> set[type[JobStateError]]:
    return set().union(*map(leaves, subclasses(error))) if subclasses(error) else {error}


def test_every_error_that_is_raised_has_one_problem_type() -> None:
    importlib.import_module("service.cli.serve")  # which loads every other module
    assert set(PROBLEM_TYPES) == leaves(JobStateError)


def test_every_failure_of_redis_maps_to_an_error_with_a_problem_type() -> None:
    mapped = {*(mapped_to for _, mapped_to in redis_errors._ERRORS), *redis_errors._REPLY_ERRORS.values()}
    assert mapped <= set(PROBLEM_TYPES)
    assert {PROBLEM_TYPES[error].status for error in mapped} == {500, 503}


def test_the_docstring_shows_the_tree_of_errors() -> None:
    drawn = re.findall(r"^([│├└─ ]*)(\w+)(?: {2,}\S.*)?$", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in drawn] == tree(JobStateError)


def test_each_name_is_of_one_problem_type() -> None:
    names = Counter(problem_type.name for problem_type in set(EVERY_PROBLEM_TYPE))
    assert [name for name, times in names.items() if times > 1] == []


def test_two_errors_never_share_a_name() -> None:
    assert len({problem_type.name for problem_type in PROBLEM_TYPES.values()}) == len(PROBLEM_TYPES)


@pytest.mark.parametrize("problem_type", EVERY_PROBLEM_TYPE, ids=lambda problem_type: problem_type.name)
def test_a_problem_type_has_a_stable_name_a_title_and_an_error_status(problem_type: ProblemType) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", problem_type.name)
    assert problem_type.title.strip() == problem_type.title != ""
    assert 400 <= problem_type.status <= 599


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


def test_a_transition_from_running_to_running_explains_the_needed_progress() -> None:
    assert "progress" in str(errors.IllegalTransition(Status.RUNNING, Status.RUNNING, 2))
    assert "progress" not in str(errors.IllegalTransition(Status.COMPLETED, Status.FAILED, 2))
