"""Checks what several partitions must have in common: version, number of partitions, and settings."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from service.domain.errors import StoreCorrupt
from service.store.client import StoreClient
from service.store.data_version import DATA_VERSION, PARTITIONS_KEY
from service.store.doctor.issues import Issue, IssueType, printable
from service.store.partition import PARTITION
from service.store.queues import Difference, QueueManager

#: Seconds after which settings are read again that differ: a change of them is made in one partition after the other.
CHANGE_TIME: Final = 1.0


async def find_issues(client: StoreClient, *, repair: bool) -> list[Issue]:
    """Return the issues. With `repair` lost versions and numbers, and other settings, are repaired first."""
    if len(client.partitions) == 1:
        return []
    return [*await _numbers(client, repair=repair), *await _settings(client, repair=repair)]


async def _numbers(client: StoreClient, *, repair: bool) -> list[Issue]:
    count, version = str(len(client.partitions)), str(DATA_VERSION)
    wanted = {PARTITION.version: version}
    for partition in client.partitions:
        wanted |= {partition.version: version, partition.partitions: count}
    replies = await client.read(*(["GET", key] for key in wanted), isolate_errors=True)
    held = dict(zip(wanted, replies, strict=True))
    if held[PARTITIONS_KEY] is None:  # there is no data yet
        return []
    found = [*_wrong_numbers(held, wanted)]
    missing = [(key, wanted[key]) for key, value in held.items() if value is None]
    if missing and repair:
        await client.read(*(["SET", *pair, "NX"] for pair in missing))  # like reads they may run twice
    lost = (Issue(IssueType.PARTITION, key, None, f"is missing, must be {number}", repair) for key, number in missing)
    return [*found, *lost]


def _wrong_numbers(held: dict[str, Any], wanted: dict[str, str]) -> Iterator[Issue]:
    for key, value in held.items():
        if value is not None and not isinstance(value, StoreCorrupt) and printable(value) != wanted[key]:
            yield Issue(IssueType.PARTITION, key, None, f"is {printable(value)}, must be {wanted[key]}")


async def _settings(client: StoreClient, *, repair: bool) -> list[Issue]:
    queues = QueueManager(client)
    if not (before := await queues.find_differences()):
        return []
    await asyncio.sleep(CHANGE_TIME)
    lasting = [one for one in await queues.find_differences() if one in before]
    if repair:
        for difference in lasting:
            await queues.copy_setting(difference)
    return [_setting_issue(one, repair=repair) for one in lasting]


def _setting_issue(difference: Difference, *, repair: bool) -> Issue:
    partition, queue, held, wanted = difference
    key, member = (partition.meta, "drain") if queue is None else (partition.queues, printable(queue))
    texts = ["none" if value is None else printable(value) for value in (held, wanted)]
    return Issue(
        IssueType.PARTITION, key, member, "is {}, but {} in the first partition".format(*texts), repaired=repair
    )
