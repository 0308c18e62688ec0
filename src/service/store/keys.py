"""The names of all Redis keys.

`lua/prelude.lua` builds the same names; a test compares the two. The *state* of a job in the indexes is its status, or
`delayed` for a pending job that is not due yet.
"""

from typing import Final

#: The prefix of every key except the job records.
ROOT: Final = "jobs:"

#: Keys that must never expire.
PERSISTENT: Final = frozenset({f"{ROOT}clock", f"{ROOT}events", f"{ROOT}queues", f"{ROOT}version"})

#: The Redis type of each key under `ROOT`, by the first part of its name.
TYPES: Final = {
    **dict.fromkeys(("list", "exp", "shelves", "tags", "due", "leases", "deletions"), "zset"),
    **dict.fromkeys(("claim", "limit", "drain", "clock", "version", "synced"), "string"),
    **{"queues": "hash", "events": "stream"},
}


def job(job_id: str) -> str:
    """Hash: the record of a job; fields that start with `_` are private to the store. Expires at `expires_at`."""
    return f"job:{job_id}"


def key(*parts: str) -> str:
    """Return the key of these parts under `ROOT`."""
    return ROOT + ":".join(parts)


def by_creation(queue: str, state: str) -> str:
    """Sorted set: job id → creation time (µs). Serves lists (newest first) and claims (oldest first)."""
    return key("list", queue, state)


def by_expiry(queue: str, state: str) -> str:
    """Sorted set: id|created|revision|tags → expiry (ms). Serves exact counts and the sweep."""
    return key("exp", queue, state)


def claim(claim_id: str) -> str:
    """String: lease token, job id and request digest of a claim, so that a retry gets the same job."""
    return key("claim", claim_id)


def rate_limit(client: str) -> str:
    """String: when the rate limit of a client (given as a digest) is fully available again (µs)."""
    return key("limit", client)


#: Sorted set: queue:state → a time (ms) before which no entry of that index expires. Names every index in use.
INDEXES: Final = key("shelves")
#: Sorted set, score 0: tag:created:id. Serves lists by slate and by correlation id.
TAGS: Final = key("tags")
#: Sorted set: queue:id → when a delayed job becomes due (µs).
DELAYED: Final = key("due")
#: Sorted set: id → lease expiry (ms).
LEASES: Final = key("leases")
#: Hash: queue → `paused:max_running`, for queues with settings of their own.
QUEUES: Final = key("queues")
#: String: exists while a drain is on.
DRAIN: Final = key("drain")
#: Sorted set: change id:job id → when to forget it (ms), for retries of a deletion. Members that start with `:` are
#: the last changes of deleted jobs.
DELETIONS: Final = key("deletions")
#: String: the latest creation time (µs). It never goes back, so creation times are unique.
CLOCK: Final = key("clock")
#: String: written before `WAITAOF`, which waits until this write is on disk.
FSYNC_MARKER: Final = key("synced")
#: String: the version of the data format; missing means 1.
VERSION: Final = key("version")
#: Stream, capped: every change, deletion and expiry of a job.
EVENTS: Final = key("events")
