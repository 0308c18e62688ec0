"""The differences between two API documents, as readable lines."""

from collections.abc import Iterator
from typing import Any

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
SINGULAR = {"parameters": "parameter", "properties": "property", "responses": "response", "schemas": "schema"}

Json = dict[str, Any]


def changes(before: Json, after: Json) -> list[str]:
    """Return lines such as `GET /v1/jobs: response 409 removed`."""
    return [*_between("", _operations(before), _operations(after)), *_between("", _rest(before), _rest(after))]


def _operations(document: Json) -> Json:
    return {
        f"{method.upper()} {path}:": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def _rest(document: Json) -> Json:
    return {name: part for name, part in document.items() if name != "paths"}


def _between(where: str, before: Any, after: Any) -> Iterator[str]:
    before, after = _by_name(before), _by_name(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from _at(f"{where} {SINGULAR.get(name, name)}".strip(), name, before, after)
    elif before != after:
        yield f"{where}: {before!r} became {after!r}"


def _at(where: str, name: str, before: Json, after: Json) -> Iterator[str]:
    if name not in after:
        yield f"{where.rstrip(':')} removed"
    elif name not in before:
        yield f"{where.rstrip(':')} added"
    else:
        yield from _between(where, before[name], after[name])


def _by_name(value: Any) -> Any:
    """Return a list of named items as a mapping, so that an inserted item is one difference."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {item.get("name") or item.get("$ref") or str(number): item for number, item in enumerate(value)}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return dict.fromkeys(value, True)
    return value
