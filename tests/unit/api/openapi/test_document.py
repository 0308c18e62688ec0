"""The API document: its copy is current, it is valid, and as strict as the code."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.params import QueryParameter
from litestar.routes import HTTPRoute
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from service.api.openapi.document import complete
from service.api.openapi.examples import ERRORS
from service.api.problems import PROBLEM_TYPES, TYPE_PREFIX
from service.app import create_app
from service.settings import Settings
from tests.helpers.openapi_diff import METHODS, changes
from tests.helpers.paths import ROOT

CHECKED_IN = ROOT / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(
    json.dumps(complete(create_app(Settings.from_environment({}), "redis://nowhere").openapi_schema.to_schema()))
)
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for item in DOCUMENT["paths"].values()
    for method, operation in item.items()
    if method in METHODS
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def test_the_copy_of_the_document_is_current() -> None:
    found = changes(json.loads(CHECKED_IN.read_text()), DOCUMENT)
    assert not found, "the API document has changed; run `just docs`:\n" + "\n".join(found)


def test_a_change_of_the_document_is_described() -> None:
    after = copy.deepcopy(DOCUMENT)
    del after["paths"]["/v1/jobs"]["get"]["responses"]["503"]
    after["paths"]["/v1/jobs"]["get"]["parameters"].insert(0, {"name": "colour", "in": "query"})
    after["paths"]["/v1/jobs"]["get"]["summary"] = "See jobs"
    after["paths"]["/v2/jobs"] = {"get": {}}
    after["components"]["schemas"]["Job"]["required"].remove("status")

    assert changes(DOCUMENT, after) == [
        "GET /v1/jobs: parameter colour added",
        "GET /v1/jobs: response 503 removed",
        "GET /v1/jobs: summary: 'List jobs' became 'See jobs'",
        "GET /v2/jobs added",
        "components schema Job required status removed",
    ]


def test_no_handler_lets_litestar_convert_a_query_parameter() -> None:
    handlers = [
        handler
        for route in create_app(Settings.from_environment({}), "redis://nowhere").routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    ]
    annotations = {
        (handler.operation_id, name): one.annotation
        for handler in handlers
        for name, one in handler.parsed_fn_signature.parameters.items()
        if isinstance(one.kwarg_definition, QueryParameter)
    }
    assert ("listJobs", "limit") in annotations
    assert ("getJob", "wait") in annotations
    assert {name: one for name, one in annotations.items() if one not in (str, str | None, list[str] | None)} == {}


def test_the_document_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


@every_operation
def test_every_operation_is_described(operation: dict[str, Any]) -> None:
    assert all(operation[field] for field in ("operationId", "tags", "summary", "description"))
    assert {one["name"] for one in DOCUMENT["tags"]} >= set(operation["tags"])
    for parameter in operation["parameters"]:
        assert "$ref" in parameter or parameter["description"]


@every_operation
def test_every_response_has_a_description_and_an_example(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        assert response["description"], status
        assert "X-Correlation-ID" in response["headers"], status
        assert all(content["examples"] for content in response.get("content", {}).values()), status


@every_operation
def test_every_example_matches_its_schema(operation: dict[str, Any]) -> None:
    for content in _contents(operation):
        validator = OAS31Validator(
            {"$ref": "urn:document" + content["schema"]["$ref"]} if "$ref" in content["schema"] else content["schema"],
            registry=Registry().with_resource("urn:document", DRAFT202012.create_resource(DOCUMENT)),
            format_checker=OAS31Validator.FORMAT_CHECKER,
        )
        for example in content["examples"].values():
            validator.validate(_resolved(example)["value"])


def _contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from part.get("content", {}).values()


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found = DOCUMENT
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def _schemas_under(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema that a part of the document refers to."""
    if isinstance(part, list):
        for one in part:
            yield from _schemas_under(one)
    elif isinstance(part, dict):
        yield part
        followed = _resolved(part) if "/schemas/" in part.get("$ref", "") else {}
        for name, one in (part | followed).items():
            if name not in {"examples", "example"}:
                yield from _schemas_under(one)


def test_responses_have_no_closed_enums_or_schemas() -> None:
    for operation in OPERATIONS.values():
        for schema in _schemas_under(operation["responses"]):
            assert "enum" not in schema
            assert schema.get("additionalProperties") is not False
    job = DOCUMENT["components"]["schemas"]["Job"]["properties"]
    assert job["status"]["x-extensible-enum"] == ["pending", "running", "completed", "failed", "cancelled"]


def test_request_schemas_are_closed() -> None:
    for name in ("CreateJob", "UpdateJob", "ProgressInput", "BatchGet"):
        assert DOCUMENT["components"]["schemas"][name]["additionalProperties"] is False
    assert DOCUMENT["components"]["schemas"]["UpdateJob"]["properties"]["status"]["$ref"].endswith("/Status")
    assert len(DOCUMENT["components"]["schemas"]["Status"]["enum"]) == 5


def test_a_body_is_required_where_a_field_is() -> None:
    bodies = {name: one["requestBody"] for name, one in OPERATIONS.items() if "requestBody" in one}
    required = {name: body["required"] for name, body in bodies.items()}
    with_required_fields = {
        name: bool(_resolved(content["schema"])["required"])
        for name, body in bodies.items()
        for content in body["content"].values()
    }
    assert required == with_required_fields
    optional = {name for name, is_required in required.items() if not is_required}
    assert optional == {"heartbeatJob", "releaseJob", "retryJob", "configureQueue", "startDrain"}


def test_only_settings_of_a_queue_are_nullable() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    settings = schemas["ConfigureQueue"]["properties"] | schemas["RetentionSettings"]["properties"]
    null = {"type": "null"}
    retention = [{"$ref": "#/components/schemas/RetentionSettings"}, null]
    nullable = [schema for schema in _schemas_under(DOCUMENT) if "null" in schema.get("type", ())]
    assert all(schema in (*settings.values(), null) for schema in nullable)
    assert [one.get("anyOf") for one in settings.values()].count(retention) == 1
    assert {name: schema["type"] for name, schema in settings.items() if "type" in schema} == {
        "paused": ["boolean", "null"],
        **{name: ["integer", "null"] for name in ("max_running", "completed", "failed", "cancelled")},
    }
    assert not any("default" in schema for schema in settings.values())
    assert not [schema for schema in _schemas_under(DOCUMENT) if {"type": "null"} in schema.get("oneOf", ())]
    assert "type" not in DOCUMENT["components"]["schemas"]["Json"]
    for name in ("input_params", "result", "error_message"):
        assert DOCUMENT["components"]["schemas"]["Job"]["properties"][name].keys() == {"$ref", "description"}


def test_every_problem_of_an_operation_has_an_example() -> None:
    assert {type(error) for error in ERRORS} == set(PROBLEM_TYPES)
    known = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["type"]["x-extensible-enum"]
    without_operation = {TYPE_PREFIX + "unknown-route", TYPE_PREFIX + "method-not-allowed"}
    assert {TYPE_PREFIX + name for name in DOCUMENT["components"]["examples"]} == {*known} - without_operation
