import ast
import inspect
import re
import subprocess
import sys
from typing import Any

import jobstate
from tests.helpers.paths import ROOT

PROGRAM = ROOT / "tests" / "unit" / "client" / "consumer" / "program.py"


def test_a_program_that_uses_every_name_is_typed_strictly() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", str(PROGRAM)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout


def test_the_program_uses_every_name() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(jobstate.__all__) <= used
    kinds = (jobstate.Jobs, jobstate.JobHandle, jobstate.BulkActionHandle, jobstate.Worker, jobstate.JobContext)
    methods = {name for kind in kinds for name in dir(kind) if not name.startswith("_")}
    assert methods <= used


def public_functions() -> list[Any]:
    kinds = [getattr(jobstate, name) for name in jobstate.__all__]
    return [value for kind in kinds for name, value in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"]


def test_no_signature_names_a_type_of_httpx() -> None:
    functions = [*public_functions(), jobstate.Jobs.__init__, jobstate.AsyncJobs.__init__, jobstate.Worker.__init__]
    assert [function for function in functions if "httpx" in str(inspect.signature(function))] == []


def test_both_clients_have_the_same_methods() -> None:
    pairs = (
        (jobstate.Jobs, jobstate.AsyncJobs),
        (jobstate.JobHandle, jobstate.AsyncJobHandle),
        (jobstate.BulkActionHandle, jobstate.AsyncBulkActionHandle),
    )
    for sync, asynchronous in pairs:
        names = {name for name in dir(sync) if not name.startswith("_")} - {"close"}
        assert names == {name for name in dir(asynchronous) if not name.startswith("_")} - {"aclose"}
        for name in names:
            ours, theirs = getattr(sync, name), getattr(asynchronous, name)
            if inspect.isfunction(ours):
                assert parameters(ours) == parameters(theirs), name


def parameters(function: Any) -> list[str]:
    return [re.sub("Async|[\"']", "", str(value)) for value in inspect.signature(function).parameters.values()]
