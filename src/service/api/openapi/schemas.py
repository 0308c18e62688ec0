"""The schemas of the API document: structs with their limits, where Litestar's own reading falls short."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from litestar.openapi.spec import OpenAPIType, Reference, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Meta, Raw, Struct, UnsetType
from msgspec.structs import FieldInfo


def extensible_enum(meaning: str, words: Iterable[str]) -> Meta:
    """Return a note for a text of an answer whose words are known, and to which more may come."""
    return Meta(description=meaning, extra={"known": list(words)})


@dataclass
class ExtensibleEnum(Schema):
    """A string whose words are known, with room for more: an `enum` would break every generated client on a new one."""

    known: list[str] | None = field(default=None, metadata={"alias": "x-extensible-enum"})


class AnyJsonPlugin(OpenAPISchemaPlugin):
    """Shows a value that passes through unparsed as what it is to a client: any JSON."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Say whether `value` is such a type."""
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema that accepts everything; its title has `document.complete` refer to the component."""
        return Schema(title="Json")


class StructPlugin(OpenAPISchemaPlugin):
    """Shows structs with their limits; what may be left out is optional, not null.

    A struct that forbids unknown fields is one that clients send: its words and fields are all there are, and a field
    whose type includes `None` takes `null`. Any other is one that they get: more may come. `KEYWORDS` of a struct say
    what its fields cannot.
    """

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Say whether `value` is a struct."""
        return isinstance(value, type) and issubclass(value, Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema of the struct."""
        struct = field_definition.annotation
        sent = struct.__struct_config__.forbid_unknown_fields
        hints = get_type_hints(struct, include_extras=True)
        fields = msgspec.structs.fields(struct)
        schema: Schema = schema_creator.create_component_schema(
            field_definition, required=[one.encode_name for one in fields if one.required], property_fields={}
        )
        schema.description = (struct.__doc__ or "").split("\n\n")[0]
        schema.properties = {one.encode_name: _property(one, hints[one.name], schema_creator, sent) for one in fields}
        schema.additional_properties = False if sent else None
        for keyword, value in getattr(struct, "KEYWORDS", {}).items():
            setattr(schema, keyword, value)
        return schema


PLUGINS: Final = (AnyJsonPlugin(), StructPlugin())
#: How a field says that it may be left out.
_ABSENT: Final = {NoneType, UnsetType}


def _property(info: FieldInfo, hint: Any, schema_creator: Any, sent: bool) -> Schema | Reference:
    schema = _schema(hint, schema_creator, sent)
    if isinstance(schema, Schema) and isinstance(info.default, int | str):
        schema.default = info.default
    if isinstance(schema, Schema) and isinstance(schema.type, OpenAPIType) and sent and NoneType in get_args(hint):
        schema.type = [schema.type, OpenAPIType.NULL]
    return schema


def _schema(hint: Any, schema_creator: Any, sent: bool) -> Schema | Reference:
    """Return the schema of a type, with what its notes say of it."""
    kind, notes = _unwrapped(hint)
    inner = get_args(kind)
    schema: Schema | Reference
    if get_origin(kind) is list:
        schema = Schema(type=OpenAPIType.ARRAY, items=_schema(inner[0], schema_creator, sent))
    elif get_origin(kind) is dict:
        schema = Schema(type=OpenAPIType.OBJECT, additional_properties=_schema(inner[1], schema_creator, sent))
    elif words := [] if sent else _known(kind, notes):
        schema = ExtensibleEnum(type=OpenAPIType.STRING, known=words, examples=words[:1])
    else:
        schema = schema_creator.for_field_definition(FieldDefinition.from_annotation(kind))
    for note in notes:
        _add(note, schema)
    return schema


def _unwrapped(hint: Any) -> tuple[Any, list[Meta]]:
    """Return a type as it is where it is there, and the notes on it."""
    notes: list[Meta] = []
    while True:
        if get_origin(hint) is Annotated:
            notes += [note for note in hint.__metadata__ if isinstance(note, Meta)]
            hint = hint.__origin__
        elif _ABSENT & {*get_args(hint)}:
            [hint] = {*get_args(hint)} - _ABSENT
        else:
            return hint, notes


def _known(kind: Any, notes: Sequence[Meta]) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [word.value for word in kind]
    return next((note.extra["known"] for note in notes if note.extra and "known" in note.extra), [])


def _add(note: Meta, schema: Schema | Reference) -> None:
    said = note.extra_json_schema or {}
    schema.description = note.description or said.get("description")
    if isinstance(schema, ExtensibleEnum):
        schema.description = f"{schema.description}: {', '.join(schema.known or [])}; more may come"
    if isinstance(schema, Schema):
        for keyword, value in said.get("extra", {}).items():
            setattr(schema, keyword, value)
