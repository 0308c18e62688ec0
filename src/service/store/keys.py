"""The names of all keys in Redis; the twin in Lua is at the top of `lua/prelude.lua`, a test holds the two equal.

A *shelf* is where a job stands in the indexes: its status, or `delayed` for a pending job that is not due yet.
"""

from typing import Final

#: The root of the one partition of a standalone server; every index hangs from it.
ROOT: Final = "jobs:"

#: Keys without a time to live, because nothing may forget them.
PERSISTENT: Final = frozenset({f"{ROOT}clock", f"{ROOT}events", f"{ROOT}queues", f"{ROOT}version"})


#: What stands behind the root of every index and every other key, and the type that Redis says it has.
TYPES: Final = {
    **dict.fromkeys(("list", "exp", "shelves", "tags", "due", "leases", "deletions"), "zset"),
    **dict.fromkeys(("claim", "limit", "drain", "clock", "version", "synced"), "string"),
    **{"queues": "hash", "events": "stream"},
}


def job(job_id: str) -> str:
    """Hash: the record of a job and, behind a `_`, what only the store reads. Expires at `expires_at`."""
    return f"job:{job_id}"


def index(*parts: str) -> str:
    """Any key of the partition: its root and `parts`."""
    return ROOT + ":".join(parts)


def by_creation(queue: str, shelf: str) -> str:
    """Sorted set: job id → created (µs); newest-first lists, oldest-first claims."""
    return index("list", queue, shelf)


def by_expiry(queue: str, shelf: str) -> str:
    """Sorted set: id|created|revision|tags → expires (ms); exact counts, the sweep."""
    return index("exp", queue, shelf)


def claim(claim_id: str) -> str:
    """String: the token and the job that a claim was given, and its digest, for its repetition."""
    return index("claim", claim_id)


def rate_limit(client: str) -> str:
    """String: when the rate limit's allowance of a client (a digest) is whole again (µs)."""
    return index("limit", client)


#: Sorted set: queue:shelf → a moment (ms) before which nothing on it expires; the shelves that there are.
SHELVES: Final = index("shelves")
#: Sorted set, score 0: tag:created:id; lists by slate and by correlation.
TAGS: Final = index("tags")
#: Sorted set: queue:id → available (µs); pending jobs that are not due yet.
DUE: Final = index("due")
#: Sorted set: id → lease expiry (ms).
LEASES: Final = index("leases")
#: Hash: queue → paused:most; the queues that are not like any other.
QUEUES: Final = index("queues")
#: String: there while no job is created or claimed.
DRAIN: Final = index("drain")
#: Sorted set: change id:job id → forget (ms); deletions whose reply may have been lost; with a `:` in front the last
#: changes of what was deleted.
DELETIONS: Final = index("deletions")
#: String: the last moment of creation (µs), unique and never going back.
CLOCK: Final = index("clock")
#: String: written so that it can be seen to be synced.
SYNCED: Final = index("synced")
#: String: the version of all this; a missing one means 1.
VERSION: Final = index("version")
#: Stream, capped: every change, deletion and expiry.
EVENTS: Final = index("events")
