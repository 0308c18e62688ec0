"""JSON that passes through as text: checked to be valid, never parsed into values."""

import json
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec import Raw

from service.domain.errors import InvalidValue

MAX_DEPTH: Final = 200
ALLOWED: Final = f"any JSON value in UTF-8, at most {MAX_DEPTH} levels deep"

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def to_json(field: str, value: Any) -> bytes | None:
    """Return `value` as JSON text: `None` is absent, `Raw` passes through, anything else is encoded.

    Raises `InvalidValue` naming `field` for what is not JSON: broken syntax or UTF-8, NaN, more than 200 levels.
    """
    if value is None:
        return None
    text = bytes(value) if isinstance(value, Raw) else _encoded(field, value)
    return _checked(field, text)


def depth(text: bytes) -> int:
    """Return how many levels of arrays and objects the valid JSON `text` has."""
    without_escapes = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(without_escapes.split(b'"')[::2])
    return max(accumulate(map(_STEPS.__getitem__, outside_strings.translate(None, _NOT_BRACKETS))), default=0)


def _encoded(field: str, value: Any) -> bytes:
    try:
        builtins = msgspec.to_builtins(value, str_keys=True)
        return json.dumps(builtins, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(field, f"it cannot be written as JSON ({error})", ALLOWED) from error


def _checked(field: str, text: bytes) -> bytes:
    try:
        text.decode()
        value = bytes(msgspec.json.decode(text, type=Raw))
    except UnicodeDecodeError as error:
        raise InvalidValue(field, f"it is not valid UTF-8 (byte {error.start})", ALLOWED) from error
    except msgspec.DecodeError as error:
        raise InvalidValue(field, f"it is not valid JSON ({error})", ALLOWED) from error
    except RecursionError as error:
        raise InvalidValue(field, "it is nested too deep", ALLOWED) from error
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and (levels := depth(value)) > MAX_DEPTH:
        raise InvalidValue(field, f"it is {levels} levels deep", ALLOWED)
    return value
