"""Decoding of JSON request bodies into structs; `Raw` fields pass through unparsed."""

import re
from collections.abc import Generator, Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeVar, get_origin, get_type_hints

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition
from msgspec import Struct

from service.domain.errors import InvalidValue
from service.domain.json_text import ALLOWED, MAX_DEPTH, lone_surrogate

S = TypeVar("S", bound=Struct)

#: U+FEFF in UTF-8, which some programs write before a text; a parser may ignore it (RFC 8259, section 8.1).
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING: Final = re.compile(r"missing required field `(?P<field>[^`]*)`")
_BODY_TYPE: Final = re.compile(r"got `(?P<type>array|str|int|float|bool|null)`$")
_JSON_TYPES: Final = {
    "array": "an array",
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
}
#: The end of a path to a value of a mapping.
_ANY_KEY: Final = "[...]"
#: A field or a place in a path.
_NAME: Final = re.compile(r"[^.\[\]]+")
_PATH: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


class StructDTO(AbstractDTO[S]):
    """Decodes every body with msgspec in one pass; Litestar's own DTO (2.25) rejects structs with `Raw` fields."""

    def decode_bytes(self, value: bytes) -> Any:
        """Return the struct in a body. Raises `InvalidValue`."""
        return decode(self.asgi_connection.route_handler.parsed_fn_signature.parameters["data"].annotation, value)

    @classmethod
    def create_for_field_definition(cls, field_definition: FieldDefinition, *_: Any, **__: Any) -> None:
        """Do nothing: the struct itself is transferred."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Reference | Schema:
        """Return the schema of the struct."""
        plain = FieldDefinition.from_annotation(field_definition.annotation)
        schema: Reference | Schema = schema_creator.for_field_definition(plain)
        return schema

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Yield nothing: no field is renamed or excluded."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Return false: msgspec decodes nested structs."""
        return False


@cache
def _is_optional(struct: type[Struct]) -> bool:
    return not any(field.required for field in msgspec.structs.fields(struct))


def decode(struct: type[S], body: bytes) -> S:
    """Return the struct of type `struct` in a body. Raises `InvalidValue` with the field and what is allowed.

    `null` counts as no body if no field is required: generated clients for Go and Java send it.
    """
    if body.strip() == b"null" and _is_optional(struct):
        return struct()
    try:
        body.decode()
        return msgspec.json.decode(body.removeprefix(_BYTE_ORDER_MARK), type=struct)
    except UnicodeDecodeError as error:
        raise InvalidValue("body", f"it is not valid UTF-8 (byte {error.start})", "JSON in UTF-8") from error
    except msgspec.ValidationError as error:
        raise _to_invalid_value(struct, str(error), body) from error
    except msgspec.DecodeError as error:
        if surrogate := lone_surrogate(body.decode()):
            field, detail = surrogate
            raise InvalidValue(field or "body", detail, ALLOWED) from error
        raise InvalidValue("body", f"it is not valid JSON ({error})", "a JSON object") from error
    except RecursionError as error:
        raise InvalidValue("body", "it is nested too deeply", f"at most {MAX_DEPTH} levels") from error


def _to_invalid_value(struct: type[Struct], message: str, body: bytes) -> InvalidValue:
    path = match["path"] if (match := _PATH.search(message)) else ""
    if path.endswith(_ANY_KEY):
        path = path.removesuffix(_ANY_KEY)
        try:
            _validate_mapping(struct, path, body.removeprefix(_BYTE_ORDER_MARK))
        except InvalidValue as error:
            return error
        except LookupError:  # a field that the body has twice: the first one is wrong
            pass
    reason = _PATH.sub("", message)
    owner = _type_at(struct, path)
    if match := _UNKNOWN.search(reason):
        allowed = f"the fields {', '.join(_fields(owner))}" if _fields(owner) else "no fields"
        return InvalidValue(_join_path(path, match["field"]), "there is no such field", allowed)
    if match := _MISSING.search(reason):
        field = _join_path(path, match["field"])
        return InvalidValue(field, "missing", _allowed(_type_at(struct, field), reason))
    if path:
        return InvalidValue(path, reason, _allowed(owner, reason))
    match = _BODY_TYPE.search(reason)
    return InvalidValue("body", f"{_JSON_TYPES[match['type']]} is not allowed" if match else reason, "a JSON object")


def _validate_mapping(struct: type[Struct], field: str, body: bytes) -> None:
    """Raise `InvalidValue` with the key of what is wrong in a field, which msgspec does not name."""
    value: Any = msgspec.json.decode(body)
    for name in _NAME.findall(field):
        value = value[int(name)] if isinstance(value, list) else value[name]
    for meta in _metas(_type_at(struct, field)):
        if (constraint := meta.get("constraint")) is not None:
            constraint.validate(field, value)


def _type_at(annotation: Any, path: str) -> Any:
    """Return the annotation of the field at a path such as `progress.current` or `job_ids[3]`."""
    for name in path.split(".") if path else ():
        struct = next(
            (one for one in _union_members(annotation) if isinstance(one, type) and issubclass(one, Struct)), None
        )
        if struct is None:
            return None
        field, *places = name.split("[")
        annotation = get_type_hints(struct, include_extras=True).get(field)
        for _ in places:
            annotation = _item_type(annotation)
    return annotation


def _item_type(annotation: Any) -> Any:
    return next((one.__args__[0] for one in _union_members(annotation) if get_origin(one) is list), annotation)


def _union_members(annotation: Any) -> list[Any]:
    """Return an annotation and, recursively, its arguments: the members of a union, the type of an annotated one."""
    return [annotation, *(arm for inner in getattr(annotation, "__args__", ()) for arm in _union_members(inner))]


def _metas(annotation: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what the annotation of a field says of its constraints."""
    for one in _union_members(annotation):
        for meta in getattr(one, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra:
                yield meta.extra


def _fields(annotation: Any) -> tuple[str, ...]:
    return next((one.__struct_fields__ for one in _union_members(annotation) if hasattr(one, "__struct_fields__")), ())


def _allowed(annotation: Any, reason: str) -> str:
    """Return what the constraint of a field allows, else what msgspec expected."""
    for meta in _metas(annotation):
        return str(meta["allowed"])
    if fields := _fields(annotation):
        return f"an object with the fields {', '.join(fields)}"
    return reason.split(",", 1)[0].removeprefix("Expected ").replace("`", "")


def _join_path(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
