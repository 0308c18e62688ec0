"""JSON schemas of structs, with constraints and details that Litestar leaves out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import NoneType
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
from litestar.openapi.spec import OpenAPIType, Reference, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Meta, Raw, Struct
from msgspec.structs import FieldInfo

from service.domain.annotations import unwrapped


def extensible_enum(description: str, values: Iterable[str]) -> Meta:
    """Return the metadata of a string in a response that has known values, and may get more."""
    return Meta(description=description, extra={"known": list(values)})


@dataclass
class ExtensibleEnum(Schema):
    """A string with known values, `x-extensible-enum`; with `enum` a new value would break generated clients."""

    known: list[str] | None = field(default=None, metadata={"alias": "x-extensible-enum"})


class AnyJsonPlugin(OpenAPISchemaPlugin):
    """Documents `Raw` as any JSON."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Return whether `value` is `Raw`."""
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the empty schema; because of its title `document.complete` replaces it by a component."""
        return Schema(title="Json")


class StructPlugin(OpenAPISchemaPlugin):
    """Documents structs with their constraints; optional fields are not nullable.

    A struct that forbids unknown fields is a request: its enums and fields are closed, and a field whose type includes
    `None` is nullable. Every other struct is a response, which may get more. `JSON_SCHEMA` of a struct adds keywords.
    """

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Return whether `value` is a struct."""
        return isinstance(value, type) and issubclass(value, Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema of the struct."""
        struct = field_definition.annotation
        is_request = struct.__struct_config__.forbid_unknown_fields
        hints = get_type_hints(struct, include_extras=True)
        fields = msgspec.structs.fields(struct)
        schema: Schema = schema_creator.create_component_schema(
            field_definition, required=[one.encode_name for one in fields if one.required], property_fields={}
        )
        schema.description = (struct.__doc__ or "").split("\n\n")[0]
        schema.properties = {
            one.encode_name: _property(one, hints[one.name], schema_creator, is_request) for one in fields
        }
        schema.additional_properties = False if is_request else None
        for keyword, value in getattr(struct, "JSON_SCHEMA", {}).items():
            setattr(schema, keyword, value)
        return schema


PLUGINS: Final = (AnyJsonPlugin(), StructPlugin())


def _property(info: FieldInfo, hint: Any, schema_creator: Any, is_request: bool) -> Schema | Reference:
    schema = _schema(hint, schema_creator, is_request)
    is_nullable = is_request and NoneType in get_args(hint)
    if isinstance(schema, Reference):
        return _or_null(schema) if is_nullable else schema
    if isinstance(info.default, int | str):
        schema.default = info.default
    if is_nullable and isinstance(schema.type, OpenAPIType):
        schema.type = [schema.type, OpenAPIType.NULL]
    return schema


def _or_null(reference: Reference) -> Schema:
    description, reference.description = reference.description, None
    return Schema(any_of=[reference, Schema(type=OpenAPIType.NULL)], description=description)


def _schema(hint: Any, schema_creator: Any, is_request: bool) -> Schema | Reference:
    """Return the schema of a type with its metadata."""
    plain, metas = unwrapped(hint)
    args = get_args(plain)
    schema: Schema | Reference
    if get_origin(plain) is list:
        schema = Schema(type=OpenAPIType.ARRAY, items=_schema(args[0], schema_creator, is_request))
    elif get_origin(plain) is dict:
        schema = Schema(type=OpenAPIType.OBJECT, additional_properties=_schema(args[1], schema_creator, is_request))
    elif values := [] if is_request else _known_values(plain, metas):
        schema = ExtensibleEnum(type=OpenAPIType.STRING, known=values, examples=values[:1])
    else:
        schema = schema_creator.for_field_definition(FieldDefinition.from_annotation(plain))
    for meta in metas:
        _add(meta, schema)
    return schema


def _known_values(plain: Any, metas: Sequence[Meta]) -> list[str]:
    if isinstance(plain, type) and issubclass(plain, Enum):
        return [member.value for member in plain]
    return next((meta.extra["known"] for meta in metas if meta.extra and "known" in meta.extra), [])


def _add(meta: Meta, schema: Schema | Reference) -> None:
    extra = meta.extra_json_schema or {}
    schema.description = meta.description or extra.get("description")
    if isinstance(schema, ExtensibleEnum):
        schema.description = f"{schema.description}: {', '.join(schema.known or [])}; more may come"
    if isinstance(schema, Schema):
        for keyword, value in extra.get("extra", {}).items():
            setattr(schema, keyword, value)
