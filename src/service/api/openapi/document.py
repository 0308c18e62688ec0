"""The document that clients get: Litestar's, with what client generators need, and its twin in OpenAPI 3.0."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from service.domain import constraints
from service.domain.states import Status

Json = dict[str, Any]

#: The largest integer that a generated client can keep in 32 bits.
_MAX_INT32: Final = 2**31 - 1
_SCHEMAS: Final = "#/components/schemas/"


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", **more, "description": description}


def _object(description: str, required: list[str], properties: Json) -> Json:
    return {"type": "object", "description": description, "required": required, "properties": properties}


_SCHEMAS_BY_NAME: Final[Mapping[str, Json]] = {
    "Json": {"description": "Any JSON value: an object, an array, a string, a number, a boolean or null."},
    "JobId": _text(f"The id of a job: {constraints.JOB_ID.allowed}", pattern=constraints.JOB_ID.regex),
    "QueueName": _text(f"The name of a queue: {constraints.QUEUE.allowed}", pattern=constraints.QUEUE.regex),
    "JobEvent": _object(
        "The data of `changed`, `deleted` and `expired` in a stream of events.",
        ["job_id", "status", "queue"],
        {
            "job_id": _text("The id of the job"),
            "status": _text(
                "The status after the change, or the last one; more may be added", **{"x-extensible-enum": list(Status)}
            ),
            "revision": {
                "type": "integer",
                "format": "int64",
                "description": "The revision after the change; absent in `expired`",
            },
            "queue": _text("The queue of the job"),
            "slate_id": _text("The slate of the job, where it has one; may be absent in `expired`"),
            "at": _text("When it happened", format="date-time"),
            "created_at": _text("When the job was created", format="date-time"),
        },
    ),
    "StreamEnd": _object(
        "The data of `bye`: why the stream ends although more events may follow.",
        ["reason"],
        {"reason": _text("`shutdown`, `slow` (the client reads too slowly), or the name of a problem")},
    ),
}
#: Schemas that no struct of the service stands for.
COMPONENTS: Final = {name: {"title": name, **schema} for name, schema in _SCHEMAS_BY_NAME.items()}
_ALL_EVENTS: Final = {"changed": "JobEvent", "deleted": "JobEvent", "expired": "JobEvent", "bye": "StreamEnd"}
#: The schema of each event's data, by operation and by the name of the event; the data of other events is `{}`.
EVENT_DATA: Final[Mapping[str, Mapping[str, str]]] = {
    "streamJobEvents": {**_ALL_EVENTS, "changed": "Job"},
    "streamEvents": _ALL_EVENTS,
}


def complete(document: Json) -> Json:
    """Return Litestar's document with formats of integers, named schemas and the data of events.

    Inline schemas of lists and queries become components: generators make up names for what has none.
    """
    done: Json = _rewritten(document, _complete_schema)
    schemas = done["components"]["schemas"] | COMPONENTS
    done["components"]["schemas"] = dict(sorted(schemas.items()))
    for operation in _operations(done):
        if data := EVENT_DATA.get(operation["operationId"]):
            listed = ", ".join(f"`{event}` `{name}`" for event, name in data.items())
            content = operation["responses"]["200"]["content"]["text/event-stream"]
            content["schema"] = {
                "type": "string",
                "description": f"A stream of events (HTML Standard, section 9.2) with this data: {listed}",
                "x-event-data": {event: {"$ref": _SCHEMAS + name} for event, name in data.items()},
            }
    return done


def _operations(document: Json) -> list[Json]:
    return [one for item in document["paths"].values() for one in item.values() if "operationId" in one]


def _rewritten(part: Any, rewrite: Callable[[Json], Json]) -> Any:
    """Return a copy of a part of the document with `rewrite` applied to each object in it, but not to examples."""
    if isinstance(part, list):
        return [_rewritten(one, rewrite) for one in part]
    if not isinstance(part, dict):
        return part
    return rewrite(
        {name: one if name in {"example", "examples"} else _rewritten(one, rewrite) for name, one in part.items()}
    )


def _complete_schema(part: Json) -> Json:
    kind = part.get("type")
    if part.get("title") == "Json":
        return {"$ref": f"{_SCHEMAS}Json"} | {name: part[name] for name in ("description",) if name in part}
    if "format" not in part and (kind == "integer" or (isinstance(kind, list) and "integer" in kind)):
        return part | {"format": "int32" if part.get("maximum", _MAX_INT32 + 1) <= _MAX_INT32 else "int64"}
    if kind == "array":
        patterns = {COMPONENTS[name]["pattern"]: name for name in ("JobId", "QueueName")}
        if name := patterns.get(part["items"].get("pattern")):
            return part | {"items": {"$ref": _SCHEMAS + name}}
    if part.get("in") == "query" and part["schema"].get("enum") == list(Status):
        return part | {"schema": {"$ref": f"{_SCHEMAS}Status"}}
    return part


def to_openapi_30(document: Json) -> Json:
    """Return a document of OpenAPI 3.1 in version 3.0, for generators that do not read 3.1 well.

    What 3.0 cannot say is left out: which fields go with which status, and descriptions beside a `$ref`.
    """
    done: Json = _rewritten(copy.deepcopy(document), _to_30)
    done["openapi"] = "3.0.3"
    done["info"]["license"].pop("identifier", None)
    return done


def _to_30(part: Json) -> Json:
    if "$ref" in part:
        return {"$ref": part["$ref"]}
    found = {
        name: value
        for name, value in part.items()
        if name not in {"dependentSchemas", "patternProperties", "propertyNames"}
    }
    if "const" in found and "properties" not in found:
        found["enum"] = [found.pop("const")]
    if found.get("required") == []:
        del found["required"]
    if isinstance(kinds := found.get("type"), list):
        [kind] = [one for one in kinds if one != "null"]
        found |= {"type": kind, "nullable": True}
    if found.get("anyOf", [])[1:] == [{"type": "null"}]:
        found |= {"type": "object", "allOf": found.pop("anyOf")[:1], "nullable": True}
    if isinstance(examples := found.get("examples"), list):
        del found["examples"]
        found["example"] = examples[0]
    return found
