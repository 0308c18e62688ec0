"""Who may do what: API keys, known by their hashes alone, and the scopes that they carry."""

import hmac
import secrets
from collections.abc import Iterable
from enum import StrEnum
from hashlib import sha256
from typing import Final

from msgspec import Struct

#: What a key begins with, so that whoever finds one knows what it opens.
KEY_PREFIX: Final = "jobstate_"
#: Random bytes of a key: so many cannot be guessed, so that one round of a fast hash keeps them.
KEY_BYTES: Final = 32


class Scope(StrEnum):
    """A part of what there is to do; none includes another."""

    READ = "read"
    WRITE = "write"
    WORK = "work"
    ADMIN = "admin"


class ApiKey(Struct, frozen=True):
    """A key as the service knows it."""

    #: What logs and limits call its holder.
    name: str
    scopes: frozenset[Scope]
    #: SHA-256 of the key.
    digest: bytes

    def __repr__(self) -> str:
        return f"ApiKey({self.name}: {', '.join(sorted(self.scopes))})"


def generate_key() -> str:
    """Return a fresh key: visible ASCII that needs no quoting."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_key(key: bytes) -> bytes:
    """Return what of a key may be kept."""
    return sha256(key).digest()


def find_api_key(keys: Iterable[ApiKey], key: bytes) -> ApiKey | None:
    """Return which of `keys` this one is: compared with every one of them, in the same time whichever it is."""
    digest, found = hash_key(key), None
    for one in keys:
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found
