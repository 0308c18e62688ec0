"""Bulk actions as Redis holds them: what they are, and how far they are in each partition."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from service.domain import errors
from service.domain.bulk import BulkAction, BulkKind, BulkState
from service.domain.errors import JobStateError, StoreCorrupt
from service.domain.jobs import JobFilter
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import decode_hash

#: Milliseconds for which an action is kept after its last change.
KEPT_MS: Final = 24 * 3600 * 1000
#: Examples of refused jobs that an action shows.
EXAMPLES: Final = 10
#: The reason for which an action was aborted that matched another number of jobs than expected.
UNEXPECTED_COUNT: Final = "unexpected-count"

#: The errors for which jobs are refused, by the words of the scripts.
_REFUSALS: Final[Mapping[str, type[JobStateError]]] = {
    "ILLEGAL_TRANSITION": errors.IllegalTransition,
    "NOT_FINAL": errors.JobNotFinal,
    "CORRUPT": errors.StoreCorrupt,
}
_REFUSED: Final = "refused:"


class StoredAction:
    """A bulk action as all partitions hold it."""

    def __init__(self, action_id: str, home: Partition, parts: Mapping[Partition, Mapping[str, str]]) -> None:
        """Take what is known of each partition; those that are away are left out of `parts`."""
        self.action_id: Final = action_id
        self._home = parts.get(home, {})
        self._parts = parts

    @property
    def is_registered(self) -> bool:
        """Whether it was registered at its home, after all other partitions."""
        return "state" in self._home

    @property
    def digest(self) -> str:
        """The digest of the request."""
        return self._home["digest"]

    def has_ended_in(self, partition: Partition, place: str) -> bool:
        """Return whether a pass is known to have come to its end; `place` is `counted` or `acted`."""
        part = self._parts.get(partition)
        return part is not None and (not part or part.get(place) == "end")

    def decode(self) -> BulkAction:
        """Return the action. Raises `StoreCorrupt`."""
        try:
            return self._decode()
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise StoreCorrupt(f"bulk action {self.action_id} is unreadable ({error})") from error

    def _decode(self) -> BulkAction:
        home, refused = self._home, Counter[type[JobStateError]]()
        for part in self._parts.values():
            for name, value in part.items():
                if name.startswith(_REFUSED):
                    refused[_REFUSALS[name.removeprefix(_REFUSED)]] += int(value)
        examples = " ".join(part.get("examples", "") for part in self._parts.values()).split()
        return BulkAction(
            action_id=self.action_id,
            kind=BulkKind(home["action"]),
            filters=msgspec.json.decode(home["filter"], type=JobFilter),
            dry_run=home["dry_run"] == "1",
            expect=int(home["expect"]) if home["expect"] else None,
            state=BulkState(home["state"]),
            matched=self._sum("matched"),
            done=self._sum("done"),
            refused=dict(refused),
            examples=[_example(text) for text in examples[:EXAMPLES]],
            by=home["by"],
            created_at=home["created_at"],
            finished_at=home.get("finished_at"),
            has_unexpected_count=home.get("reason") == UNEXPECTED_COUNT,
        )

    def _sum(self, name: str) -> int:
        return sum(int(part.get(name, 0)) for part in self._parts.values())


async def read_actions(
    client: StoreClient, action_ids: Sequence[str], *, is_partial: bool = False
) -> list[StoredAction]:
    """Return those of these actions that exist, read in one round trip to each node.

    With `is_partial`, nodes that are away are left out.
    """
    commands = [["HGETALL", one.bulk(action_id)] for action_id in action_ids for one in client.partitions]
    replies = iter(await client.read(*commands, is_partial=is_partial) if commands else ())
    stored = []
    for action_id in action_ids:
        held = {partition: next(replies) for partition in client.partitions}
        parts = {partition: _as_text(reply) for partition, reply in held.items() if isinstance(reply, dict)}
        stored.append(StoredAction(action_id, client.partitions.of(action_id), parts))
    return [one for one in stored if one.is_registered]


def _as_text(reply: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in decode_hash(reply).items()}


def _example(text: str) -> tuple[str, type[JobStateError]]:
    word, _, job_id = text.partition(":")
    return job_id, _REFUSALS[word]
