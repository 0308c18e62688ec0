"""How much one client may ask for."""

from msgspec import Struct


class RateLimit(Struct, frozen=True):
    """So many requests in so many seconds."""

    requests: int
    window_seconds: int


class Quota(Struct, frozen=True):
    """What is left to a client under its limit: `remaining` requests now, all of them after `reset_seconds`."""

    limit: RateLimit
    remaining: int
    reset_seconds: int
