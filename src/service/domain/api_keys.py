"""API keys, of which the service knows only the hashes, and their scopes."""

import hmac
import secrets
from collections.abc import Iterable
from enum import StrEnum
from hashlib import sha256
from typing import Final

from msgspec import Struct

#: Prefix of every key, so that a secret scanner recognizes a leaked one.
KEY_PREFIX: Final = "jobstate_"
#: Random bytes of a key. 256 bits cannot be guessed, so one round of a fast hash protects them.
KEY_BYTES: Final = 32


class Scope(StrEnum):
    """A permission of an API key; no scope includes another."""

    READ = "read"
    WRITE = "write"
    WORK = "work"
    ADMIN = "admin"


class ApiKey(Struct, frozen=True):
    """An API key as the service knows it."""

    #: Identifies the holder in logs and rate limits.
    name: str
    scopes: frozenset[Scope]
    #: SHA-256 of the key.
    digest: bytes

    def __repr__(self) -> str:
        return f"ApiKey({self.name}: {', '.join(sorted(self.scopes))})"


def generate_key() -> str:
    """Return a new key, in characters that need no quoting in a shell or a header."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_key(key: bytes) -> bytes:
    """Return the SHA-256 of a key, which is what the service stores."""
    return sha256(key).digest()


def find_api_key(keys: Iterable[ApiKey], key: bytes) -> ApiKey | None:
    """Return the entry of `key` in `keys`, or `None`; it takes the same time for every key."""
    digest, found = hash_key(key), None
    for candidate in keys:
        if hmac.compare_digest(candidate.digest, digest):
            found = candidate
    return found
