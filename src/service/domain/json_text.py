"""Validation of JSON that is stored and returned as text, without parsing it into Python values."""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec import Raw

from service.domain.errors import InvalidValue

MAX_DEPTH: Final = 200
ALLOWED: Final = f"any JSON value in UTF-8, at most {MAX_DEPTH} levels deep"

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: How deep `lone_surrogate` locates a surrogate.
_MAX_PATH_PARTS: Final = 3
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def to_json(field: str, value: Any) -> bytes | None:
    """Return `value` as JSON text; `Raw` is checked and returned as it is, `None` is absent.

    Raises `InvalidValue` naming `field` for invalid syntax or UTF-8, for NaN, and for more than 200 levels.
    """
    if value is None:
        return None
    return _validate(field, bytes(value) if isinstance(value, Raw) else _encode(field, value))


def depth(text: bytes) -> int:
    """Return the nesting depth of arrays and objects in `text`, which must be valid JSON."""
    without_escapes = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(without_escapes.split(b'"')[::2])
    return max(accumulate(map(_STEPS.__getitem__, outside_strings.translate(None, _NOT_BRACKETS))), default=0)


def lone_surrogate(text: str, path: str = "") -> tuple[str, str] | None:
    """Return the path of the first lone surrogate in a JSON text, and an error text; `None` if there is none.

    The path is `path`, which names the whole text, and at most three parts, such as `input_params.names[3]`.
    """
    try:
        value = json.loads(text)
        surrogate = _surrogate_in(value)
        if surrogate is None:
            return None
        for _ in range(_MAX_PATH_PARTS):  # each part reads the value again
            step = next(((path, item) for path, item in _items(value, path) if _surrogate_in(item)), None)
            if step is None:
                break
            path, value = step
    except (ValueError, RecursionError):
        return None
    return path, _surrogate_detail(surrogate)


def _surrogate_in(value: Any) -> str | None:
    match = _SURROGATE.search(json.dumps(value, ensure_ascii=False))
    return match[0] if match else None


def _items(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of an array or object, each with its path."""
    if isinstance(value, list):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"{path}.{name}" if path else name, item) for name, item in value.items())


def _surrogate_detail(surrogate: str) -> str:
    return f"it has the lone surrogate \\u{ord(surrogate):04x}, which is not valid Unicode"


def _encode(field: str, value: Any) -> bytes:
    try:
        text = msgspec.json.encode(value)
        if b"null" not in text:
            return text
    except Exception:  # also of values that `json` can write, such as integers of more than 64 bits
        pass
    return _encode_without_nan(field, value)


def _encode_without_nan(field: str, value: Any) -> bytes:
    """Return `value` as JSON. msgspec is faster, but writes NaN and infinity as null."""
    try:
        builtins = msgspec.to_builtins(value, str_keys=True)
        return json.dumps(builtins, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        detail = _surrogate_detail(error.object[error.start])
        raise InvalidValue(field, f"it cannot be written as JSON ({detail})", ALLOWED) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(field, f"it cannot be written as JSON ({error})", ALLOWED) from error


def _validate(field: str, text: bytes) -> bytes:
    try:
        text.decode()
        value = bytes(msgspec.json.decode(text, type=Raw))
    except UnicodeDecodeError as error:
        raise InvalidValue(field, f"it is not valid UTF-8 (byte {error.start})", ALLOWED) from error
    except msgspec.DecodeError as error:
        path, detail = lone_surrogate(text.decode(), field) or (field, f"it is not valid JSON ({error})")
        raise InvalidValue(path, detail, ALLOWED) from error
    except RecursionError as error:
        raise InvalidValue(field, "it is nested too deep", ALLOWED) from error
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and (levels := depth(value)) > MAX_DEPTH:
        raise InvalidValue(field, f"it is {levels} levels deep", ALLOWED)
    return value
