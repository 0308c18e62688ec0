"""The problems that the API document lists for an operation are those that its code can raise.

The tests read the code: a handler and, by name, all that it calls in the modules below.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import service
from service.api import rate_limit
from service.api.openapi.operations import AUTH_ERRORS, LIMIT_ERRORS
from service.api.problems import MEDIA_TYPE, PROBLEM_TYPES
from service.domain import errors
from service.store import scripts
from tests.unit.api.openapi.test_document import DOCUMENT, OPERATIONS

Function = ast.FunctionDef | ast.AsyncFunctionDef

ROOT = Path(service.__file__).parent
MODULES = sorted((ROOT / "api" / "controllers").glob("*.py"))
CALLED = [
    ROOT / "api" / "middleware" / "concurrency.py",
    *(
        ROOT / "store" / f"{name}.py"
        for name in (
            *(
                "jobs",
                "leases",
                "claims",
                "claim_search",
                "look",
                "gates",
                "delays",
                "queues",
                "queries",
                "health",
                "listing",
                "rows",
                "job_counts",
                "creation",
                "batch_creation",
                "queue_figures",
                "bulk_actions",
                "bulk_records",
            ),
            *("events/job_watcher", "events/stream"),
        )
    ),
]
FUNCTIONS: list[Function] = [
    node for file in (*MODULES, *CALLED) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, Function)
]
#: Calls of Redis. `call`, `probe` and `read_from`, for `INFO`, read no keys of jobstate.
STORE_CALLS = {"run_script", "run_job_script", "read", "read_from", "call", "probe"}
#: Errors that code raises by name. The others come from the store's table of errors.
BY_NAME = {error.__name__: error for error in PROBLEM_TYPES if not issubclass(error, errors.StoreUnavailable)}


def reached(start: Function) -> list[Function]:
    """Return a function and all that it calls."""
    found, waiting = [start], [start]
    while waiting:
        called = {_last(node.func) for node in _nodes(waiting.pop()) if isinstance(node, ast.Call)}
        new = [one for one in FUNCTIONS if one.name in called and not operation_of(one) and one not in found]
        found += new
        waiting += new
    return found


def _nodes(function: Function) -> Iterator[ast.AST]:
    for statement in function.body:
        yield from _walk(statement)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all below it, except calls whose errors are suppressed."""
    if isinstance(node, ast.Call) and _last(node.func) in {"_or_none", "_ping", "_release_unclaimed", "_result"}:
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _last(node: ast.AST) -> str | None:
    """Return the name that an expression ends with."""
    return getattr(node, "attr", None) or getattr(node, "id", None)


def words(function: Function) -> set[str | None]:
    return {_last(node) for node in _nodes(function)}


def _raised(function: Function) -> Iterator[type[errors.JobStateError]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and node.exc:
            names = [part for part in re.findall(r"\w+", ast.unparse(node.exc)) if part in BY_NAME]
            yield from (BY_NAME[name] for name in names)


def operation_of(function: Function) -> str | None:
    for decorator in function.decorator_list:
        for keyword in getattr(decorator, "keywords", ()):
            if keyword.arg == "operation_id":
                return str(ast.literal_eval(keyword.value))
    return None


HANDLERS = {name: function for function in FUNCTIONS if (name := operation_of(function))}
METHODS = {one["operationId"]: method for item in DOCUMENT["paths"].values() for method, one in item.items()}
PATHS = {one["operationId"]: path for path, item in DOCUMENT["paths"].items() for one in item.values()}
every_operation = pytest.mark.parametrize("name", OPERATIONS)


def listed(name: str) -> set[str]:
    return {
        problem
        for response in OPERATIONS[name]["responses"].values()
        for problem in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    }


def names_of(*found: type[errors.JobStateError]) -> set[str]:
    return {PROBLEM_TYPES[error].name for error in found}


def test_every_operation_has_its_handler() -> None:
    assert HANDLERS.keys() == OPERATIONS.keys()


@every_operation
def test_the_listed_problems_are_those_that_the_code_raises(name: str) -> None:
    raised = {error for function in reached(HANDLERS[name]) for error in _raised(function)}

    excluded = names_of(errors.InvalidValue, errors.StoreCorrupt, errors.RateLimited, errors.Overloaded)
    excluded |= names_of(errors.Unauthenticated, errors.InsufficientScope)
    assert listed(name) & names_of(*BY_NAME.values()) - excluded == names_of(*raised) - excluded
    assert "invalid-request" in listed(name)


@every_operation
def test_store_problems_are_listed_for_operations_that_call_redis(name: str) -> None:
    names = {word for function in reached(HANDLERS[name]) for word in words(function)}
    calls = {_last(node.func) for one in reached(HANDLERS[name]) for node in _nodes(one) if isinstance(node, ast.Call)}
    calls &= STORE_CALLS
    unavailable = names_of(*(error for error in PROBLEM_TYPES if issubclass(error, errors.StoreUnavailable)))
    run = [source for source in scripts.ALL if source.name.upper() in names]
    fills = any("flags=" not in source.text.split("\n", 1)[0] for source in run)

    assert listed(name) & unavailable == (
        unavailable - (set() if fills else {"store-out-of-memory"}) if calls else set()
    )
    assert ("store-corrupt" in listed(name)) == bool(calls - {"call", "probe", "read_from"})


@every_operation
def test_admission_problems_are_listed_for_operations_under_v1(name: str) -> None:
    limited = PATHS[name].startswith(rate_limit.RATE_LIMITED_PREFIX)

    assert listed(name) & {kind.name for kind in LIMIT_ERRORS} == (
        {kind.name for kind in LIMIT_ERRORS} if limited else set()
    )
    assert ("origin-not-allowed" in listed(name)) == (limited and METHODS[name] != "get")
    assert all(("RateLimit" in response["headers"]) == limited for response in OPERATIONS[name]["responses"].values())


@every_operation
def test_auth_problems_are_listed_for_operations_with_a_scope(name: str) -> None:
    auth_problems = {kind.name for kind in AUTH_ERRORS}

    assert listed(name) & auth_problems == (auth_problems if OPERATIONS[name]["security"] else set())


@every_operation
def test_body_problems_are_listed_for_operations_with_a_body(name: str) -> None:
    handler: Any = HANDLERS[name]
    data = "data" in {argument.arg for argument in handler.args.args}

    assert data == ("requestBody" in OPERATIONS[name])
    reads_body = data or "body" in words(handler)
    assert ("unsupported-media-type" in listed(name)) == reads_body  # for its type or its coding
    assert ("content-too-large" in listed(name)) == reads_body
