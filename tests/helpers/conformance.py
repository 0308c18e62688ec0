"""Checks responses against the API document."""

import json
import re
from typing import Any

import httpx
from openapi_schema_validator import OAS31Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from service.api.problems import MEDIA_TYPE, TYPE_PREFIX
from service.server.security_headers import SECURITY_HEADERS
from tests.helpers.paths import ROOT

CHECKED_IN = ROOT / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(CHECKED_IN.read_text())
REGISTRY = Registry().with_resource("urn:document", DRAFT202012.create_resource(DOCUMENT))
#: Headers that the document does not declare: generic, content, caching, proxy, CORS and security headers.
STANDARD_HEADERS = re.compile(
    r"date|server|connection|transfer-encoding|content-(type|length)|cache-control|x-accel-buffering|vary|access-control-.*"
    rf"|{'|'.join(name for name, _ in SECURITY_HEADERS)}"
)


def check_response(response: httpx.Response) -> None:
    """Fail if the operation does not declare the response's status, headers, media type, body or problem."""
    operation = operation_of(response.request)
    if operation is None:
        return
    media_type = response.headers.get("content-type", "").split(";")[0] or None
    if media_type != "text/event-stream":  # which may be endless
        response.read()
    where = f"{operation['operationId']} answered {response.status_code}"
    declared = operation["responses"].get(str(response.status_code))
    assert declared, f"{where}, which is not declared"
    _check_headers(where, response, declared["headers"])
    assert media_type in declared.get("content", {None: None}), f"{where} with {media_type}"
    if media_type and media_type.endswith("json"):
        _check_body(where, response, declared["content"][media_type])


def operation_of(request: httpx.Request) -> dict[str, Any] | None:
    for path, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), request.url.raw_path.decode().split("?")[0]):
            operation: dict[str, Any] | None = item.get(request.method.lower())
            return operation
    return None


def _check_headers(where: str, response: httpx.Response, declared: dict[str, Any]) -> None:
    sent = {name for name in response.headers if not STANDARD_HEADERS.fullmatch(name)}
    unknown = sent - {name.lower() for name in declared}
    assert not unknown, f"{where} with undeclared headers: {unknown}"
    for name, reference in declared.items():
        header = DOCUMENT["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        assert name in response.headers or not header["required"], f"{where} without {name}"


def _check_body(where: str, response: httpx.Response, content: dict[str, Any]) -> None:
    body, schema = response.json(), content["schema"]
    whole = {"$ref": "urn:document" + schema["$ref"]} if "$ref" in schema else schema
    errors = [error.message for error in OAS31Validator(whole, registry=REGISTRY).iter_errors(body)]
    assert not errors, f"{where} with a body that does not match its schema: {errors}"
    if response.headers["content-type"] == MEDIA_TYPE:
        assert body["type"].removeprefix(TYPE_PREFIX) in content["examples"], f"{where} with {body['type']}"
