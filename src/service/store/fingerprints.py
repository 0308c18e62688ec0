"""Digests and ids that identify a request, so that a retry of it is recognised."""

import random
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from service.domain.constraints import IDEMPOTENCY_KEY

#: The first character of a digest. Change it if equal requests get different digests from now on.
_VERSION: Final = "1"
_NO_DEFAULTS: Final[Mapping[str, Any]] = {}


def digest(operation: str, fields: Mapping[str, Any], defaults: Mapping[str, Any] = _NO_DEFAULTS) -> str:
    """Return 22 characters that are equal for equal requests: a version, and 126 bits of a SHA-256.

    Fields count by name, unless they have their default; that of a field without an entry is `None`. So an optional
    field that is added later does not change the digests of requests without it.
    """
    given = {name: value for name, value in fields.items() if value != defaults.get(name)}
    canonical = msgspec.json.encode([operation, given], order="sorted")
    return _VERSION + _base64(sha256(canonical).digest()[:16])[:21]


def new_change_id() -> str:
    """Return a new random change id: 96 bits as 16 characters. It is not a secret."""
    return _base64(random.randbytes(12))


def new_request_id() -> str:
    """Return a new random id of a creation: 48 bits as 8 characters. It tells apart equal requests for one job only."""
    return _base64(random.randbytes(6))


def change_id_for(key: str | None) -> str:
    """Return the change id for an Idempotency-Key, or a new one for `None`.

    It is 16 characters (96 bits of a hash) however long the key is, so that records stay small. Raises `InvalidValue`.
    """
    if key is None:
        return new_change_id()
    return _base64(sha256(IDEMPOTENCY_KEY.validate("Idempotency-Key", key).encode()).digest()[:12])


def new_token_secret() -> str:
    """Return the secret part of a new lease token: 96 random bits as 16 characters."""
    return secrets.token_urlsafe(12)


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
