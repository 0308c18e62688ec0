"""The OpenAPI document where Litestar's own reading of the types says too little."""

from types import NoneType
from typing import Any, get_type_hints

import msgspec
from litestar.openapi.spec import Schema
from litestar.params import ParameterKwarg
from litestar.plugins import OpenAPISchemaPlugin
from litestar.types import Empty
from litestar.typing import FieldDefinition
from msgspec import Raw, Struct
from msgspec.structs import FieldInfo


class AnyJson(OpenAPISchemaPlugin):
    """Shows a value that passes through unparsed as what it is to a client: any JSON."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Say whether `value` is such a type."""
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema that accepts everything."""
        return Schema()


class AbsentNotNull(OpenAPISchemaPlugin):
    """Shows a field that may be left out as optional, not as null. Litestar's own plugin stumbles over `Raw` (2.25)."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Say whether `value` is a struct."""
        return isinstance(value, type) and issubclass(value, Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema of the struct."""
        struct = field_definition.annotation
        hints = get_type_hints(struct, include_extras=True)
        fields = msgspec.structs.fields(struct)
        schema: Schema = schema_creator.create_component_schema(
            field_definition,
            required=sorted(field.encode_name for field in fields if field.required),
            property_fields={field.encode_name: _there(field, hints[field.name]) for field in fields},
        )
        return schema


def _there(field: FieldInfo, hint: Any) -> FieldDefinition:
    """Return the definition of a field as it is where it is there."""
    arms = [arm for arm in getattr(hint, "__args__", ()) if arm is not NoneType]
    if NoneType in getattr(hint, "__args__", ()) and len(arms) == 1:
        hint = arms[0]
    meta = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, msgspec.Meta)), None)
    said = (meta.extra_json_schema if meta else None) or {}
    return FieldDefinition.from_annotation(
        hint,
        name=field.encode_name,
        default=field.default if isinstance(field.default, int | str) else Empty,
        kwarg_definition=ParameterKwarg(description=said.get("description"), schema_extra=said.get("extra")),
    )
