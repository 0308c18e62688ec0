import json
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from litestar import Litestar, get
from litestar.exceptions import HTTPException
from litestar.testing import TestClient
from msgspec import Raw
from structlog.testing import capture_logs

from service.api import problems
from service.api.problems import EXCEPTION_HANDLERS, MEDIA_TYPE, PROBLEM_TYPES
from service.domain import bulk, errors
from service.domain.api_keys import Scope
from service.domain.rate_limits import Quota, RateLimit
from service.domain.states import Status

RUNNING = Status.RUNNING
DOMAIN: list[errors.JobStateError] = [
    errors.Unauthenticated(is_unknown=True),
    errors.InsufficientScope("ci", Scope.WORK, None),
    errors.InvalidValue("queue", "it is odd", "letters"),
    errors.JobNotFound("j"),
    errors.IdempotencyKeyReused(),
    errors.PreconditionFailed(RUNNING, 3),
    errors.RateLimited(Quota(RateLimit(600, 60), 0, 60), 7),
    errors.JobExists("j", RUNNING, 3),
    errors.IllegalTransition(Status.COMPLETED, RUNNING, 3),
    errors.LeaseLost(RUNNING, 3),
    errors.NotLeased(RUNNING, 3),
    errors.JobNotFinal(RUNNING, 3),
    errors.ResultNotReady(RUNNING),
    errors.JobFailed(Raw(b'{"b": 1e2}')),
    errors.JobCancelled(None),
    errors.TooManyWatchers(100),
    errors.Overloaded("many"),
    errors.Draining(60),
    errors.StoreUnreachable("gone"),
    errors.StorePartitionUnavailable("away"),
    errors.StoreMoving("moving"),
    errors.StoreTimeout("slow"),
    errors.StoreLoading("loading"),
    errors.StoreReadOnly("replica"),
    errors.StoreOutOfMemory("full"),
    errors.StoreBusy("busy"),
    errors.StoreAccessDenied("refused"),
    errors.DataVersionUnsupported(2, 1),
    errors.PartitionsMismatch(16, 1),
    errors.StoreCorrupt("foreign"),
    bulk.BulkActionNotFound("nightly"),
    bulk.UnexpectedCount(1, 2),
]
every_error = pytest.mark.parametrize("error", DOMAIN, ids=lambda error: type(error).__name__)


class Raiser:
    """Holds the error that the handler raises."""

    error: BaseException


@get("/", sync_to_thread=False)
def fail() -> None:
    raise Raiser.error


Lines = list[Any]


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The log lines, through a new logger, because a used one keeps its configuration."""
    monkeypatch.setattr(problems, "_log", structlog.stdlib.get_logger())
    with capture_logs() as captured:
        yield captured


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    app = Litestar([fail], exception_handlers=EXCEPTION_HANDLERS, logging_config=None)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def respond(client: TestClient[Litestar], error: BaseException) -> tuple[Any, dict[str, Any]]:
    Raiser.error = error
    response = client.get("/", headers={"X-Correlation-ID": "c-1"})
    assert response.headers["content-type"] == MEDIA_TYPE
    return response, response.json()


def test_every_domain_error_is_tested() -> None:
    assert {type(error) for error in DOMAIN} == set(PROBLEM_TYPES)


@every_error
def test_a_domain_error_becomes_its_problem(client: TestClient[Litestar], error: errors.JobStateError) -> None:
    problem_type = PROBLEM_TYPES[type(error)]
    response, problem = respond(client, error)
    assert response.status_code == problem["status"] == problem_type.status
    assert (problem["type"], problem["title"]) == (f"urn:jobstate:problem:{problem_type.name}", problem_type.title)
    assert (problem["detail"], problem["correlation_id"]) == (str(error), "c-1")


@every_error
def test_a_problem_has_the_status_and_revision_of_its_error(
    client: TestClient[Litestar], error: errors.JobStateError
) -> None:
    problem = respond(client, error)[1]
    for member in ("current_status", "revision"):
        assert problem.get(member) == getattr(error, member, None)


@every_error
def test_only_retryable_problems_have_retry_after(client: TestClient[Litestar], error: errors.JobStateError) -> None:
    response = respond(client, error)[0]
    is_retryable = response.status_code in (429, 503) or isinstance(error, errors.ResultNotReady)
    own = getattr(error, "retry_after", None)
    expected = str(own) if own else "1" if is_retryable else None
    assert response.headers.get("retry-after") == expected


@every_error
def test_server_errors_are_logged(client: TestClient[Litestar], lines: Lines, error: errors.JobStateError) -> None:
    status = respond(client, error)[0].status_code
    logged = [(line["log_level"], line["problem"]) for line in lines]
    level = "warning" if status == 503 else "error"
    is_expected = isinstance(error, errors.Draining | errors.Overloaded)
    assert logged == ([(level, PROBLEM_TYPES[type(error)].name)] if status >= 500 and not is_expected else [])


def test_a_problem_names_the_invalid_value(client: TestClient[Litestar]) -> None:
    problem = respond(client, errors.InvalidValue("progress.current", "it is odd", "even numbers"))[1]
    assert problem["errors"] == [{"field": "progress.current", "detail": "it is odd", "allowed": "even numbers"}]


def test_the_error_message_of_a_failed_job_passes_through(client: TestClient[Litestar]) -> None:
    response, problem = respond(client, errors.JobFailed(Raw(b'{"b": 1e2}')))
    assert '"error_message":{"b": 1e2}' in response.text
    assert "error_message" not in respond(client, errors.JobFailed(None))[1]
    assert respond(client, errors.JobFailed(Raw(b"null")))[1].keys() == problem.keys()


def test_store_unavailable_is_logged_without_a_traceback(client: TestClient[Litestar], lines: Lines) -> None:
    respond(client, errors.StoreUnreachable("no connection to redis"))
    assert lines[0]["detail"] == "no connection to redis"
    assert "exc_info" not in lines[0]


def test_store_corrupt_is_logged_with_the_traceback_of_its_cause(client: TestClient[Litestar], lines: Lines) -> None:
    error = errors.StoreCorrupt("a key of ours is foreign")
    respond(client, error)
    error.__cause__ = TypeError("the key holds a list")
    response = respond(client, error)[0]
    assert [line["exc_info"] for line in lines] == [error, error.__cause__]
    assert "holds a list" not in response.text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a secret"),
        KeyError("a secret"),
        RecursionError("a secret"),
        HTTPException(detail="a secret", status_code=502),
        ExceptionGroup("a secret", [ValueError("inner secret")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unexpected_error_is_logged_and_not_disclosed(
    client: TestClient[Litestar], lines: Lines, error: Exception
) -> None:
    response, problem = respond(client, error)
    assert response.status_code == problem["status"] == 500
    assert (problem["type"], problem["correlation_id"]) == ("urn:jobstate:problem:internal-error", "c-1")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    [line] = lines
    assert (line["log_level"], line["correlation_id"], line["exc_info"]) == ("error", "c-1", error)
    stack = traceback.format_exception(line["exc_info"])
    assert any("in fail" in frame for frame in stack)


@pytest.mark.parametrize(
    ("status", "name"),
    [(404, "unknown-route"), (405, "method-not-allowed"), (406, "not-acceptable"), (415, "unsupported-media-type")],
)
def test_an_error_of_litestar_is_a_problem(client: TestClient[Litestar], status: int, name: str) -> None:
    response, problem = respond(client, HTTPException(detail="as it is", status_code=status, headers={"X-Kept": "1"}))
    assert (response.status_code, problem["type"]) == (status, f"urn:jobstate:problem:{name}")
    assert problem["detail"]
    assert response.headers["x-kept"] == "1"


def test_an_unknown_path_and_a_wrong_method_are_problems(client: TestClient[Litestar]) -> None:
    for response, name in ((client.get("/nowhere"), "unknown-route"), (client.put("/"), "method-not-allowed")):
        assert response.headers["content-type"] == MEDIA_TYPE
        assert json.loads(response.text)["type"].endswith(name)
        assert response.json()["correlation_id"]
