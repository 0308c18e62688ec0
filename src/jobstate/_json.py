"""JSON without loss: integers of any size, decimals, and text that passes through."""

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def encode(value: object) -> bytes:
    """Return a value as JSON. `msgspec.Raw` passes through; a `Decimal` becomes a number with the same digits.

    Raises `TypeError` or `ValueError` for what JSON cannot express, such as a set, NaN or a lone surrogate. A set in a
    struct or a dataclass, whose type decodes it again, becomes a list.
    """
    try:
        _reject_sets(value)
        encoded = _ENCODER.encode(value)
        # msgspec writes NaN and infinities as null, and a Decimal of that kind as it is.
        if b"null" in encoded or b"NaN" in encoded or b"Infinity" in encoded:
            _reject_non_finite(msgspec.to_builtins(value, builtin_types=(Decimal, msgspec.Raw), str_keys=True))
    except RecursionError as error:
        raise ValueError("the value is nested too deep for JSON") from error
    return encoded


def decode(raw: bytes | msgspec.Raw) -> Any:
    """Return JSON as Python objects; `None` for no JSON at all.

    Integers are exact. Numbers with a fraction are floats; what a float or an `int` cannot hold is a `Decimal`. Raises
    `ValueError` if it is not JSON.
    """
    text = bytes(raw)
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return json.loads(text, parse_int=_integer, parse_float=_float)


def _reject_sets(value: object) -> None:
    if isinstance(value, set | frozenset):
        raise TypeError("a set is not JSON: use a list")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        _reject_sets(part)


def _reject_non_finite(value: object) -> None:
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise ValueError(f"{value} is not JSON: numbers must be finite")
    parts: Iterable[object] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    for part in parts:
        _reject_non_finite(part)


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:  # Python limits the digits of an `int`
        return Decimal(digits)


def _float(digits: str) -> float | Decimal:
    number = float(digits)
    return number if math.isfinite(number) else Decimal(digits)
