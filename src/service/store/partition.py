"""The names of all Redis keys.

`lua/lib/common.lua` builds the same names; a test compares the two. Nothing else knows how a name is built.
"""

from typing import Final

from service.domain.states import Status

#: The root of the only partition.
ROOT: Final = "jobs:"
#: A root for every number of partitions above 1. What it holds under `partitions` tells how many there are.
COMMON_ROOT: Final = "{p0}:"
#: Keys under a root, by the first part of their names, with their Redis types.
TYPES: Final = {
    **dict.fromkeys(
        (
            *("by_created", "by_priority", "by_expiry", "tags", "delays", "timers", "leases", "deletions"),
            *("bulk_actions", "bulk_active"),
        ),
        "zset",
    ),
    **dict.fromkeys(("claim", "aim", "gate", "rate_limit", "version", "partitions", "fsync"), "string"),
    **{"meta": "hash", "queues": "hash", "bulk": "hash", "queue_names": "set", "events": "stream"},
}
#: The *states* of jobs in the indexes, and the status of the jobs in each. A pending job is `delayed` until its delay
#: is over, then `prioritized` if it has a priority. A running job without a lease is `unleased`. All others are in the
#: state of their status.
STATUS_OF_STATE: Final = {
    **{status.value: status for status in Status},
    **{"delayed": Status.PENDING, "prioritized": Status.PENDING, "unleased": Status.RUNNING},
}
#: The states of running jobs.
RUNNING_STATES: Final = tuple(state for state, status in STATUS_OF_STATE.items() if status is Status.RUNNING)
#: Those that expire by themselves. All others never do: the sweep empties the indexes.
EXPIRING: Final = frozenset(
    {"claim", "aim", "gate", "rate_limit", "fsync", "deletions", "bulk", "bulk_actions", "bulk_active"}
)


class Partition:
    """The names of the keys under one root, which hold the jobs of a partition and everything about them."""

    def __init__(self, root: str = ROOT, number: int = 0) -> None:
        #: Its place among the partitions, from 0.
        self.number: Final = number
        #: The prefix of every key, except the records of jobs under `ROOT`.
        self.root: Final = root
        #: Sorted set: id|created|queue|tags → expiry (ms). Serves the sweep.
        self.by_expiry: Final = self.key("by_expiry")
        #: Sorted set, score 0: tag:created:id. Serves lists by slate and by correlation id.
        self.tags: Final = self.key("tags")
        #: Sorted set: queue:id → when a delayed job becomes due (µs).
        self.delays: Final = self.key("delays")
        #: Sorted set: `run` or `start`:queue:id → when this time-out of the job is over (ms).
        self.timers: Final = self.key("timers")
        #: Sorted set: id → lease expiry (ms).
        self.leases: Final = self.key("leases")
        #: Set: the queues that have jobs.
        self.queue_names: Final = self.key("queue_names")
        #: Hash: queue → `paused:max_running`, for queues with settings of their own.
        self.queues: Final = self.key("queues")
        #: Hash: `clock`, the latest creation time (µs), which never goes back, so creation times are unique; `drain`,
        #: when the drain ends (ms).
        self.meta: Final = self.key("meta")
        #: String: the version of the data format.
        self.version: Final = self.key("version")
        #: String: the number of partitions, if there are several.
        self.partitions: Final = self.key("partitions")
        #: Sorted set: change id:job id → when to forget it (ms), for retries of a deletion. Members that start with `:`
        #: are the last changes of deleted jobs.
        self.deletions: Final = self.key("deletions")
        #: String: written before `WAITAOF` and `WAIT`, which wait until this write is on disk, or on replicas.
        self.fsync: Final = self.key("fsync")
        #: Sorted set: ids of the bulk actions whose home this partition is → when each is forgotten (ms).
        self.bulk_actions: Final = self.key("bulk_actions")
        #: Sorted set: ids of those that have not ended → until when a process has taken each (ms).
        self.bulk_active: Final = self.key("bulk_active")
        #: Stream, capped: every change, deletion and expiry of a job.
        self.events: Final = self.key("events")

    def key(self, kind: str, *parts: str) -> str:
        """Return the key of this kind (one of `TYPES`) for these parts."""
        return self.root + ":".join((kind, *parts))

    def job(self, job_id: str) -> str:
        """Hash: the record of a job; fields that start with `_` are private to the store. Expires at `expires_at`."""
        return f"job:{job_id}" if self.root == ROOT else f"{self.root}job:{job_id}"

    def by_created(self, queue: str, state: str) -> str:
        """Sorted set: job id → creation time (µs). Serves lists, claims and counts."""
        return self.key("by_created", queue, state)

    def by_priority(self, queue: str) -> str:
        """Sorted set: id of a prioritized job → creation time less priority (µs). Serves claims, smallest first."""
        return self.key("by_priority", queue)

    def claim(self, claim_id: str) -> str:
        """String: request digest, then job ids and lease tokens of a claim, so that a retry gets the same jobs.

        With several partitions `digest:number of the plan`; the digest is `-` if nothing was claimed.
        """
        return self.key("claim", claim_id)

    def aim(self, claim_id: str) -> str:
        """String: number of the newest plan of a claim with a key, its partitions, when to forget it (ms)."""
        return self.key("aim", claim_id)

    def gate(self, queue: str) -> str:
        """String: a token of the claim that counts the running jobs of a queue with `max_running`."""
        return self.key("gate", queue)

    def rate_limit(self, client: str) -> str:
        """String: when the rate limit of a client (given as a digest) is fully available again (µs)."""
        return self.key("rate_limit", client)

    def bulk(self, action_id: str) -> str:
        """Hash: how far a bulk action has come in this partition, and at the home of its id also what it is."""
        return self.key("bulk", action_id)


#: The only partition.
PARTITION: Final = Partition()
