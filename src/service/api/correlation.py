"""The correlation id of a request: taken from its header or made, and returned in the same header."""

import secrets
from typing import Final

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from service.domain.rules import LABEL

HEADER: Final = "X-Correlation-ID"
_RAW_HEADER: Final = HEADER.lower().encode()
_KEY: Final = "correlation_id"


def correlation_id(scope: Scope) -> str:
    """Return the id of the request in `scope`, the same at every call; an invalid one that came in is replaced."""
    state = scope.setdefault("state", {})
    if _KEY not in state:
        sent = next((value for name, value in scope["headers"] if name == _RAW_HEADER), b"")
        text = sent.decode("utf-8", errors="replace")
        state[_KEY] = text if LABEL.accepts(text) and text.isascii() else new_correlation_id()
    return str(state[_KEY])


def new_correlation_id() -> str:
    """Return a fresh id: 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


async def add_header(message: Message, scope: Scope) -> None:
    """Put the correlation id on a response; every response passes here, also that of an unknown route."""
    if message["type"] == "http.response.start":
        MutableScopeHeaders.from_message(message)[HEADER] = correlation_id(scope)
