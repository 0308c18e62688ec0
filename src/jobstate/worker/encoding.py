"""Encode values as JSON that the service accepts, and cut error descriptions to the size of a request."""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

#: Maximum sizes of an error description in bytes of JSON. If the service rejects one, the next is tried. The last one
#: fits into the smallest `MAX_BODY_BYTES`.
SIZES: Final = (32_768, 4_096, 512)

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def encoded(value: object) -> bytes:
    """Return `value` as JSON; structs and dataclasses become objects.

    Raises `TypeError` or `ValueError` if it cannot be sent as JSON.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_fields)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    text = _paired(text)
    if lone := _SURROGATE.search(text):
        raise ValueError(f"it has the lone surrogate U+{ord(lone[0]):04X}, which is not valid Unicode")
    return text.encode()


def repaired(text: str) -> str:
    """Return `text` as valid Unicode. A lone surrogate becomes an escape such as `\\udcff`."""
    return _paired(text).encode(errors="backslashreplace").decode()


def fitted(text: str, size: int) -> str:
    """Return `text` as valid Unicode, cut to `size` bytes of JSON; a cut text ends with the original length."""
    whole = repaired(text[:size])
    if len(text) <= size and _size(whole) <= size:
        return whole
    ending = f"… (cut from {len(text)} characters)"
    room = size - _size(ending)
    while whole and (needed := _size(whole)) > room:
        whole = whole[: len(whole) * room // needed]
    return whole + ending


def text_of(read: Callable[[], object]) -> str:
    """Return the result of `read` as text, or the type of the exception that it raises."""
    try:
        return str(read())
    except BaseException as error:  # `read` calls user code, such as `__str__`
        return f"(no text: {type(error).__name__} was raised instead)"


def description(error: BaseException, size: int, message: str | None = None) -> dict[str, str]:
    """Return the type and text of `error`, cut to `size` bytes of JSON; `message` replaces the text."""
    name = text_of(lambda: type(error).__name__)
    text = text_of(lambda: error) if message is None else message
    return {"type": fitted(name, size // 4), "message": fitted(text, size - size // 4)}


def _fields(value: object) -> Any:
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        return msgspec.to_builtins(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _paired(text: str) -> str:
    """Replace surrogate pairs by the characters that they encode."""
    if text.isascii():
        return text
    return _SURROGATE_PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
