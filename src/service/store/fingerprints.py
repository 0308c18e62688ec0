"""Digests and ids that identify a request, so that a retry of it is recognised."""

import random
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import msgspec

from service.domain.constraints import IDEMPOTENCY_KEY


def digest(*parts: Any) -> str:
    """Return 128 bits of the SHA-256 of the JSON of `parts`, as 22 characters."""
    return _base64(sha256(msgspec.json.encode(parts)).digest()[:16])


def new_change_id() -> str:
    """Return a new random change id: 96 bits as 16 characters. It is not a secret."""
    return _base64(random.randbytes(12))


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
