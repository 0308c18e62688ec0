"""What client generators need of the API document, as tried with ten of them (docs/api.md)."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV30SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from service.api.openapi.document import COMPONENTS, EVENT_DATA, to_openapi_30
from service.api.sse import _event_data
from service.app import create_app
from service.domain.events import Event, EventKind
from service.domain.states import Status
from service.settings import Settings
from tests.helpers.paths import ROOT
from tests.unit.api.openapi.test_document import DOCUMENT, OPERATIONS

TWIN: dict[str, Any] = json.loads((ROOT / "docs" / "openapi-3.0.json").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
EVENT = Event(
    position="1772382612345-0",
    kind=EventKind.CHANGED,
    job_id="sunday",
    status=Status.RUNNING,
    revision=2,
    queue="lineups",
    created=1772382612345678,
    slate_id="pinewood-400",
)


def objects_in(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document but for examples."""
    if isinstance(part, list):
        for one in part:
            yield from objects_in(one)
    elif isinstance(part, dict):
        yield part
        for name, one in part.items():
            if name not in {"examples", "example"}:
                yield from objects_in(one)


@pytest.mark.parametrize(
    ("schema", "field"), [("UpdateJob", "result"), ("UpdateJob", "error_message"), ("ReleaseJob", "error_message")]
)
def test_any_json_is_a_component(schema: str, field: str) -> None:
    assert SCHEMAS[schema]["properties"][field]["$ref"] == "#/components/schemas/Json"
    assert SCHEMAS["Json"].keys() == {"title", "description"}


def test_no_schema_has_the_name_of_the_constructor_of_another() -> None:
    assert [name for name in SCHEMAS if name.startswith("New") and name.removeprefix("New") in SCHEMAS] == []


def test_an_integer_that_may_exceed_32_bits_says_so() -> None:
    integers = [one for one in objects_in(DOCUMENT) if "integer" in (one.get("type") or ())]
    assert len(integers) > 20
    for one in integers:
        fits = "maximum" in one and one["maximum"] < 2**31
        assert one["format"] == ("int32" if fits else "int64"), one
    assert SCHEMAS["CreateJob"]["properties"]["scenario_count"]["format"] == "int64"
    assert SCHEMAS["ClaimJob"]["properties"]["lease_seconds"]["format"] == "int32"


def test_what_lists_and_queries_hold_has_a_name() -> None:
    assert SCHEMAS["BatchGet"]["properties"]["job_ids"]["items"] == {"$ref": "#/components/schemas/JobId"}
    assert SCHEMAS["ClaimJob"]["properties"]["queues"]["items"] == {"$ref": "#/components/schemas/QueueName"}
    for name in ("listJobs", "streamEvents"):
        [status] = [one for one in OPERATIONS[name]["parameters"] if one["name"] == "status"]
        assert status["schema"] == {"$ref": "#/components/schemas/Status"}
    assert OPERATIONS["startDrain"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/StartDrain"
    }


def test_no_description_speaks_of_python() -> None:
    texts = [str(one.get("description")) for one in objects_in(DOCUMENT)]
    assert [text for text in texts if re.search(r"`None`|`Raw`|msgspec", text)] == []


def test_the_correlation_id_is_no_argument_of_any_method() -> None:
    names = {parameter["name"] for operation in OPERATIONS.values() for parameter in operation["parameters"]}
    assert "X-Correlation-ID" not in names
    assert "X-Correlation-ID" in DOCUMENT["info"]["description"]


def test_a_header_is_named_as_it_is_written() -> None:
    headers = {
        one["name"] for operation in OPERATIONS.values() for one in operation["parameters"] if one["in"] == "header"
    }
    assert headers == {"Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Lease-Token", "Prefer"}


def test_the_data_of_an_event_has_a_schema() -> None:
    for name, data in EVENT_DATA.items():
        schema = OPERATIONS[name]["responses"]["200"]["content"]["text/event-stream"]["schema"]
        assert schema["type"] == "string"
        assert schema["x-event-data"] == {event: {"$ref": f"#/components/schemas/{one}"} for event, one in data.items()}
        assert set(data.values()) <= SCHEMAS.keys()


@pytest.mark.parametrize("event", [EVENT, msgspec.structs.replace(EVENT, kind=EventKind.DELETED, slate_id=None)])
def test_an_event_is_what_its_schema_says(event: Event) -> None:
    data = json.loads(_event_data(event))
    registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(DOCUMENT))
    OAS31Validator({"$ref": "urn:document#/components/schemas/JobEvent"}, registry=registry).validate(data)
    assert data.keys() <= COMPONENTS["JobEvent"]["properties"].keys()
    assert data.keys() >= {"job_id", "status", "queue", "revision", "at", "created_at"}


def test_the_twin_in_openapi_30_is_the_same_document() -> None:
    assert to_openapi_30(DOCUMENT) == TWIN
    assert TWIN["openapi"] == "3.0.3"
    assert TWIN["paths"].keys() == DOCUMENT["paths"].keys()
    assert [error.message for error in OpenAPIV30SpecValidator(TWIN).iter_errors()] == []


@pytest.mark.parametrize(("path", "version"), [("/schema/openapi.json", "3.1"), ("/schema/openapi-3.0.json", "3.0")])
def test_both_documents_are_served(path: str, version: str) -> None:
    client: TestClient[Litestar] = TestClient(create_app(Settings.from_environment({}), "redis://nowhere"))
    served = client.get(path).json()
    assert served["openapi"].startswith(version)
    assert served["components"]["schemas"]["Json"]["title"] == "Json"
