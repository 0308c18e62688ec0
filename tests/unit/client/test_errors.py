import pickle
import re

import pytest

from jobstate import errors
from jobstate._problems import PROBLEM_ERRORS, error_for, error_for_outcome
from jobstate.errors import JobstateError
from jobstate.models import Problem
from tests.helpers.paths import ROOT
from tests.helpers.records import record

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, JobstateError)]


def documented_problems() -> dict[str, int]:
    """The names of docs/problems.md, which is generated from the service, with their statuses."""
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", (ROOT / "docs" / "problems.md").read_text(), re.MULTILINE)
    return {name: int(status) for status, name in rows}


def test_each_problem_of_the_service_has_its_class() -> None:
    assert set(PROBLEM_ERRORS) == set(documented_problems())


@pytest.mark.parametrize(("name", "status"), documented_problems().items())
def test_a_problem_is_raised_as_its_class(name: str, status: int) -> None:
    error = error_for(Problem(type=f"urn:jobstate:problem:{name}", detail="Why."), status, retry_after=2.0)
    assert type(error) is PROBLEM_ERRORS[name]
    assert type(error).__name__.lower() == name.replace("-", "")
    assert str(error) == f"Why. ({name})"
    is_outage = status in {408, 429} or status >= 500
    assert isinstance(error, errors.ServiceUnavailable) == is_outage
    if isinstance(error, errors.ServiceUnavailable):
        assert error.retry_after == 2.0


UNKNOWN = [
    (400, errors.RequestRejected),
    (401, errors.AccessDenied),
    (403, errors.AccessDenied),
    (404, errors.NotFound),
    (409, errors.Conflict),
    (412, errors.Conflict),
    (418, errors.RequestRejected),
    (429, errors.ServiceUnavailable),
    (500, errors.ServiceUnavailable),
    (503, errors.ServiceUnavailable),
]


@pytest.mark.parametrize(("status", "kind"), UNKNOWN)
def test_an_unknown_problem_is_raised_as_the_base_class_of_its_status(status: int, kind: type[JobstateError]) -> None:
    problem = Problem(type="urn:jobstate:problem:from-the-future", title="New")
    error = error_for(problem, status)
    assert type(error) is kind
    assert error.problem == problem


@pytest.mark.parametrize("name", ["draining", "overloaded", "rate-limited"])
def test_a_request_that_was_not_executed_has_a_known_outcome(name: str) -> None:
    error = error_for(Problem(type=f"urn:jobstate:problem:{name}"), documented_problems()[name])
    assert isinstance(error, errors.ServiceUnavailable)
    assert not error.outcome_unknown


def test_the_outcome_of_a_request_that_timed_out_in_the_store_is_unknown() -> None:
    error = error_for(Problem(type="urn:jobstate:problem:store-timeout"), 503)
    assert isinstance(error, errors.ServiceUnavailable)
    assert error.outcome_unknown


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_can_be_pickled(kind: type[JobstateError]) -> None:
    error = kind("why")
    error.problem = Problem(type="urn:jobstate:problem:job-failed", detail="Why.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.problem) == ("why", error.problem)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_names_each_class(kind: type[JobstateError]) -> None:
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or "")


OUTCOMES = [
    ("failed", {"type": "Boom", "message": "no memory"}, errors.JobFailed, "job j1 failed: Boom: no memory"),
    ("failed", None, errors.JobFailed, "job j1 failed"),
    ("failed", {"code": 7}, errors.JobFailed, 'job j1 failed: {"code":7}'),
    ("cancelled", "no longer needed", errors.JobCancelled, "job j1 was cancelled: no longer needed"),
]


@pytest.mark.parametrize(("status", "error_message", "kind", "text"), OUTCOMES)
def test_a_job_without_a_result_says_why(
    status: str, error_message: object, kind: type[errors.JobUnsuccessful], text: str
) -> None:
    error = error_for_outcome(record(status, error_message=error_message))
    assert type(error) is kind
    assert (str(error), error.job_id, error.error_message) == (text, "j1", error_message)


def test_a_long_error_message_is_cut_in_the_text_only() -> None:
    error = error_for_outcome(record("failed", error_message="x" * 10_000))
    assert len(str(error)) < 600
    assert error.error_message == "x" * 10_000
