"""The rate limit of a client."""

from msgspec import Struct


class RateLimit(Struct, frozen=True):
    """At most `requests` requests in `window_seconds` seconds."""

    requests: int
    window_seconds: int


class Quota(Struct, frozen=True):
    """The rest of a client's rate limit: `remaining` requests now, and all after `reset_seconds` seconds."""

    limit: RateLimit
    remaining: int
    reset_seconds: int
