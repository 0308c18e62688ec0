"""Turn the arguments of `Work.progress` into a report that the service accepts."""

import contextlib
import operator
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from jobstate_worker.encoding import repaired, text_of

MESSAGE_BYTES: Final = 1024
#: The largest integer that an IEEE 754 double represents exactly (RFC 8259, section 6).
MAX_SAFE_INTEGER: Final = 2**53 - 1
_CUT: Final = "…"

Progress: TypeAlias = Mapping[str, object]


def progress_report(current: object, total: object, message: object, warn: Callable[[str], None]) -> Progress | None:
    """Return a report, or `None` if `current` is invalid. Calls `warn` with the reason for each omitted number."""
    count = _count(current, warn)
    if count is None:
        return None
    report: dict[str, object] = {"current": count}
    if total is not None and (count := _count(total, warn)) is not None:
        report["total"] = count
    if message is not None and (text := _message(message)):
        report["message"] = text
    return report


def _count(value: object, warn: Callable[[str], None]) -> int | None:
    with contextlib.suppress(Exception):
        count = operator.index(value)  # type: ignore[arg-type]
        if 0 <= count <= MAX_SAFE_INTEGER:
            return count
    warn(f"{text_of(lambda: ascii(value))[:80]} is not an integer from 0 to {MAX_SAFE_INTEGER}")
    return None


def _message(message: object) -> str:
    """Return `message` as valid Unicode without control characters, cut to `MESSAGE_BYTES`."""
    text = repaired(text_of(lambda: message)[: MESSAGE_BYTES + 1])
    text = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    if len(text.encode()) <= MESSAGE_BYTES:
        return text
    return text.encode()[: MESSAGE_BYTES - len(_CUT.encode())].decode(errors="ignore") + _CUT
