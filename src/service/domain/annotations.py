"""The types, constraints and defaults of a struct's fields, read from its annotations."""

from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, UnsetType

from service.domain.constraints import Constraint

#: Types that mark a field as optional.
_ABSENT: Final = {NoneType, UnsetType}


class FieldSpec(NamedTuple):
    """The type of a field, its constraint if it has one, and its default (`msgspec.NODEFAULT` if it is required)."""

    type: Any
    constraint: Constraint | None
    default: Any


def field_specs(struct: type[Struct]) -> dict[str, FieldSpec]:
    """Return the specification of each field by name, in the order of the struct."""
    return {one.name: _spec(one.type, one.default) for one in msgspec.structs.fields(struct)}


def unwrapped(hint: Any) -> tuple[Any, list[Meta]]:
    """Return a type without `Annotated` and without the types that mark it as optional, and its metadata."""
    metas: list[Meta] = []
    while True:
        if get_origin(hint) is Annotated:
            metas += [meta for meta in hint.__metadata__ if isinstance(meta, Meta)]
            hint = hint.__origin__
        elif _ABSENT & {*get_args(hint)}:
            [hint] = {*get_args(hint)} - _ABSENT
        else:
            return hint, metas


def _spec(hint: Any, default: Any) -> FieldSpec:
    plain, metas = unwrapped(hint)
    constraints = (meta.extra["constraint"] for meta in metas if meta.extra and "constraint" in meta.extra)
    return FieldSpec(plain, next(constraints, None), default)
