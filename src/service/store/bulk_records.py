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

    def __init__(self, action_id: str, home: Mapping[str, str], parts: Mapping[Partition, Mapping[str, str]]) -> None:
        self.action_id: Final = action_id
        self._home = home
        self._parts = parts

    @property
    def is_registered(self) -> bool:
        """Whether it was registered at its home, after all other partitions."""
        return "state" in self._home

    @property
    def digest(self) -> str:
        """The digest of the request."""
        return self._home["digest"]

    def unfinished(self, place: str) -> list[Partition]:
        """Return the partitions in which a pass has not come to its end; `place` is `counted` or `acted`."""
        return [partition for partition, part in self._parts.items() if part and part.get(place) != "end"]

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


async def read_actions(client: StoreClient, action_ids: Sequence[str]) -> list[StoredAction]:
    """Return those of these actions that exist, read in one round trip to each node."""
    commands = [["HGETALL", one.bulk(action_id)] for action_id in action_ids for one in client.partitions]
    replies = map(_as_text, await client.read(*commands) if commands else ())
    parts = ({partition: next(replies) for partition in client.partitions} for _ in action_ids)
    held = zip(action_ids, parts, strict=True)
    stored = (StoredAction(action_id, part[client.partitions.of(action_id)], part) for action_id, part in held)
    return [one for one in stored if one.is_registered]


def _as_text(reply: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in decode_hash(reply).items()}


def _example(text: str) -> tuple[str, type[JobStateError]]:
    word, _, job_id = text.partition(":")
    return job_id, _REFUSALS[word]
