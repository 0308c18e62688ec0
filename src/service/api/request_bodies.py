"""Request bodies: JSON into structs whose free parts pass through unparsed."""

import re
from collections.abc import Generator
from functools import cache
from typing import Any, Final, TypeVar, get_type_hints

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition
from msgspec import Struct

from service.domain.errors import InvalidValue
from service.domain.json_text import ALLOWED, MAX_DEPTH, lone_surrogate

S = TypeVar("S", bound=Struct)

#: U+FEFF in UTF-8, which some programs write before a text (RFC 8259, section 8.1, lets a reader pass over it).
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING: Final = re.compile(r"missing required field `(?P<field>[^`]*)`")
_PATH: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


class StructDTO(AbstractDTO[S]):
    """Decodes a body with one pass of msgspec: Litestar's own way refuses structs with `Raw` fields (2.25)."""

    def decode_bytes(self, value: bytes) -> Any:
        """Return the struct in a body. Raises `InvalidValue` naming the field and what is allowed."""
        return decode(self.model_type, value)

    @classmethod
    def create_for_field_definition(cls, field_definition: FieldDefinition, *_: Any, **__: Any) -> None:
        """Need nothing: the struct itself is what is transferred."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Reference | Schema:
        """Return the schema of the struct."""
        schema: Reference | Schema = schema_creator.for_field_definition(
            FieldDefinition.from_annotation(cls.model_type)
        )
        return schema

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Yield nothing: no field is renamed or left out."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Say no: nested structs are msgspec's."""
        return False


@cache
def _is_optional(kind: type[Struct]) -> bool:
    """Say whether a body may be left out."""
    return not any(field.required for field in msgspec.structs.fields(kind))


def decode(kind: type[S], body: bytes) -> S:
    """Return the `kind` that `body` holds. Raises `InvalidValue` naming the field and what is allowed.

    Where a body may be left out, `null` is one that was: generated clients for Go and Java send it.
    """
    if body.strip() == b"null" and _is_optional(kind):
        return kind()
    try:
        body.decode()
        return msgspec.json.decode(body.removeprefix(_BYTE_ORDER_MARK), type=kind)
    except UnicodeDecodeError as error:
        raise InvalidValue("body", f"it is not valid UTF-8 (byte {error.start})", "JSON in UTF-8") from error
    except msgspec.ValidationError as error:
        raise _to_invalid_value(kind, str(error)) from error
    except msgspec.DecodeError as error:
        if surrogate := lone_surrogate(body.decode()):
            field, detail = surrogate
            raise InvalidValue(field or "body", detail, ALLOWED) from error
        raise InvalidValue("body", f"it is not valid JSON ({error})", "a JSON object") from error
    except RecursionError as error:
        raise InvalidValue("body", "it is nested too deep", f"at most {MAX_DEPTH} levels") from error


def _to_invalid_value(kind: type[Struct], message: str) -> InvalidValue:
    path = match["path"] if (match := _PATH.search(message)) else ""
    reason = _PATH.sub("", message)
    owner = _type_at(kind, path)
    if match := _UNKNOWN.search(reason):
        allowed = f"the fields {', '.join(_fields(owner))}" if _fields(owner) else "no fields"
        return InvalidValue(_join_path(path, match["field"]), "there is no such field", allowed)
    if match := _MISSING.search(reason):
        field = _join_path(path, match["field"])
        return InvalidValue(field, "it is missing", _allowed(_type_at(kind, field), reason))
    return InvalidValue(path or "body", reason, _allowed(owner, reason) if path else "a JSON object")


def _type_at(kind: Any, path: str) -> Any:
    """Return the annotation of the field at a path such as `progress.current` or `job_ids[3]`."""
    for name in path.split(".") if path else ():
        struct = next((one for one in _union_members(kind) if isinstance(one, type) and issubclass(one, Struct)), None)
        if struct is None:
            return None
        kind = get_type_hints(struct, include_extras=True).get(name.split("[", 1)[0])
    return kind


def _union_members(kind: Any) -> list[Any]:
    """Return a type and, of a union or an annotated type, what it is made of."""
    return [kind, *(arm for inner in getattr(kind, "__args__", ()) for arm in _union_members(inner))]


def _fields(kind: Any) -> tuple[str, ...]:
    return next((one.__struct_fields__ for one in _union_members(kind) if hasattr(one, "__struct_fields__")), ())


def _allowed(kind: Any, reason: str) -> str:
    """Return what the rule of a field allows, or else what msgspec expected."""
    for one in _union_members(kind):
        for meta in getattr(one, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra:
                return str(meta.extra["allowed"])
    return reason.split(",", 1)[0].removeprefix("Expected ").replace("`", "")


def _join_path(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
