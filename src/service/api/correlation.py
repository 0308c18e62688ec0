"""The correlation id of a request: from its header, else generated. The response returns it."""

import random
from typing import Final

from litestar.types import Scope

from service.domain.constraints import LABEL

HEADER: Final = "X-Correlation-ID"
RAW_HEADER: Final = HEADER.lower().encode()
_KEY: Final = "correlation_id"


def correlation_id(scope: Scope) -> str:
    """Return the correlation id of a request, the same at every call. An invalid header is replaced."""
    state = scope.setdefault("state", {})
    if _KEY not in state:
        state[_KEY] = _sent(scope) or new_correlation_id()
    return str(state[_KEY])


def _sent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == RAW_HEADER:
            text = value.decode("utf-8", errors="replace")
            return text if LABEL.is_valid(text) and text.isascii() else None
    return None


def new_correlation_id() -> str:
    """Return 128 random bits in hexadecimal. The id is unique, but not a secret."""
    return f"{random.getrandbits(128):032x}"
