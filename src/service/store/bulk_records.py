"""Bulk actions as Redis holds them: what they are, and how far they are in each partition."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from service.domain import errors
from service.domain.bulk import BulkAction, BulkKind, BulkState, UnexpectedCount
from service.domain.errors import JobStateError, StoreCorrupt
from service.domain.jobs import JobFilter
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import decode_hash

#: Milliseconds for which an action is kept after its last change.
KEPT_MS: Final = 24 * 3600 * 1000
#: Examples of refused jobs that an action shows.
EXAMPLES: Final = 10
#: The reasons for which actions are aborted: another number of jobs matched than expected; Redis has lost a part of it.
UNEXPECTED_COUNT: Final = "unexpected-count"
LOST: Final = "lost"

#: The errors for which jobs are refused, by the words of the scripts.
_REFUSALS: Final[Mapping[str, type[JobStateError]]] = {
    "ILLEGAL_TRANSITION": errors.IllegalTransition,
    "NOT_FINAL": errors.JobNotFinal,
    "CORRUPT": errors.StoreCorrupt,
}
_REFUSED: Final = "refused:"


class StoredAction:
    """A bulk action as all partitions hold it."""

    def __init__(
        self, action_id: str, home: Partition, parts: Mapping[Partition, Mapping[str, str] | StoreCorrupt]
    ) -> None:
        """Take what is known of each partition; those that are away are left out of `parts`."""
        self.action_id: Final = action_id
        self._home = parts.get(home, {})
        self._parts = parts

    @property
    def is_registered(self) -> bool:
        """Whether it was registered at its home, after all other partitions."""
        return isinstance(self._home, StoreCorrupt) or "state" in self._home

    @property
    def digest(self) -> str:
        """The digest of the request."""
        return _readable(self._home)["digest"]

    @property
    def is_lost(self) -> bool:
        """Whether a partition has nothing of the action: it expired there, or a failover has lost it."""
        return any(part == {} for part in self._parts.values())

    @property
    def is_stopped(self) -> bool:
        """Whether a client has aborted the action, in some partitions at least."""
        return any("stopped" in _readable(part) for part in self._parts.values())

    def has_ended_in(self, partition: Partition, place: str) -> bool:
        """Return whether a pass is known to have come to its end; `place` is `counted` or `acted`."""
        return _readable(self._parts.get(partition, {})).get(place) == "end"

    def decode(self) -> BulkAction:
        """Return the action. Raises `StoreCorrupt`."""
        try:
            return self._decode([*map(_readable, self._parts.values())])
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise StoreCorrupt(f"bulk action {self.action_id} is unreadable ({error})") from error

    def _decode(self, parts: Sequence[Mapping[str, str]]) -> BulkAction:
        home, refused = _readable(self._home), Counter[type[JobStateError]]()
        for part in parts:
            for name, value in part.items():
                if name.startswith(_REFUSED):
                    refused[_REFUSALS[name.removeprefix(_REFUSED)]] += int(value)
        examples = " ".join(part.get("examples", "") for part in parts).split()
        return BulkAction(
            action_id=self.action_id,
            kind=BulkKind(home["action"]),
            filters=msgspec.json.decode(home["filter"], type=JobFilter),
            dry_run=home["dry_run"] == "1",
            expect=int(home["expect"]) if home["expect"] else None,
            state=BulkState(home["state"]),
            matched=_sum(parts, "matched"),
            done=_sum(parts, "done"),
            refused=dict(refused),
            examples=[_example(text) for text in examples[:EXAMPLES]],
            by=home["by"],
            created_at=home["created_at"],
            finished_at=home.get("finished_at"),
            problem=_problem(home, parts),
        )


async def read_actions(
    client: StoreClient, action_ids: Sequence[str], *, is_partial: bool = False
) -> list[StoredAction]:
    """Return those of these actions that exist, read in one round trip to each node.

    With `is_partial`, nodes that are away are left out.
    """
    commands = [["HGETALL", one.bulk(action_id)] for action_id in action_ids for one in client.partitions]
    replies = iter(await client.read(*commands, is_partial=is_partial, isolate_errors=True) if commands else ())
    stored = []
    for action_id in action_ids:
        held = {partition: next(replies) for partition in client.partitions}
        parts = {one: _as_text(reply) for one, reply in held.items() if isinstance(reply, dict | StoreCorrupt)}
        stored.append(StoredAction(action_id, client.partitions.of(action_id), parts))
    return [one for one in stored if one.is_registered]


def _as_text(reply: Mapping[bytes, bytes] | StoreCorrupt) -> dict[str, str] | StoreCorrupt:
    if isinstance(reply, StoreCorrupt):
        return reply
    return {name: value.decode(errors="replace") for name, value in decode_hash(reply).items()}


def _readable(part: Mapping[str, str] | StoreCorrupt) -> Mapping[str, str]:
    if isinstance(part, StoreCorrupt):
        raise part
    return part


def _sum(parts: Sequence[Mapping[str, str]], name: str) -> int:
    return sum(int(part.get(name, 0)) for part in parts)


def _problem(home: Mapping[str, str], parts: Sequence[Mapping[str, str]]) -> JobStateError | None:
    """Return why an action was aborted, unless a client did that."""
    reason = home.get("reason")
    if reason == UNEXPECTED_COUNT:
        return UnexpectedCount(int(home["expect"]), _sum(parts, "matched"))
    if reason == LOST:
        return StoreCorrupt("Redis has lost a part of the bulk action. Start another one for what is left.")
    return None


def _example(text: str) -> tuple[str, type[JobStateError]]:
    word, _, job_id = text.partition(":")
    return job_id, _REFUSALS[word]
