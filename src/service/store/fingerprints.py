"""What names a request, so that the same one sent twice is known again."""

import random
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import msgspec

from service.domain.constraints import IDEMPOTENCY_KEY


def digest(*parts: Any) -> str:
    """Return 128 bits of SHA-256 over the JSON of `parts`, in 22 characters: equal for equal content only."""
    return _base64(sha256(msgspec.json.encode(parts)).digest()[:16])


def new_change_id() -> str:
    """Return a fresh change id: 96 random bits in 16 characters. It tells changes apart, and is no secret."""
    return _base64(random.randbytes(12))


def change_id_for(key: str | None) -> str:
    """Return the change id that an Idempotency-Key stands for, a fresh one for `None`.

    It has 96 bits in 16 characters whatever the key's length, so that a record stays small. Raises `InvalidValue`.
    """
    if key is None:
        return new_change_id()
    return _base64(sha256(IDEMPOTENCY_KEY.validate("Idempotency-Key", key).encode()).digest()[:12])


def new_token_secret() -> str:
    """Return what nobody can guess of a lease token: 96 random bits in 16 characters."""
    return secrets.token_urlsafe(12)


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
