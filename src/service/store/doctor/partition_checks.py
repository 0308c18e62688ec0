"""Checks what several partitions must have in common: version, number of partitions, and settings."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from service.domain.errors import StoreCorrupt
from service.store.client import StoreClient
from service.store.data_version import COPY_MARK, DATA_VERSION, PARTITIONS_KEY
from service.store.deadlines import gather
from service.store.deployments.node import Node
from service.store.doctor.issues import Issue, IssueType, printable
from service.store.partition import PARTITION
from service.store.queues import Difference, QueueManager

T = TypeVar("T")

_NOTHING_ELSE: Final = "; nothing else was checked"

#: Seconds after which what differs is read again: a first start writes its numbers in two steps, and a change of
#: settings is made in one partition after the other.
CHANGE_TIME: Final = 1.0


class _Number(NamedTuple):
    """A version or number of partitions that is missing or is another one."""

    key: str
    held: bytes | None
    wanted: str


async def find_unusable(client: StoreClient) -> list[Issue]:
    """Return why no script can run in some partitions, so that nothing else can be checked.

    Raises what `StoreClient.read` raises if all data is that of another service.
    """
    if client.deployment.is_cluster and (issues := await _find_unusable_numbers(client)):
        return issues
    try:
        for node in client.deployment.nodes:
            await client.read_from(node, ["TIME"])
    except StoreCorrupt:
        return [Issue(IssueType.SETTING, PARTITION.version, None, f"is not the version of the data{_NOTHING_ELSE}")]
    return []


async def _find_unusable_numbers(client: StoreClient) -> list[Issue]:
    """Return the versions and numbers of a cluster that cannot be read, or are not those of the common partition.

    A number there that is not that of this client, and the mark of a copy, are what the next call raises.
    """
    deployment, size = client.deployment, str(client.partitions.size)
    await client.find_nodes()
    keys = {key: one for one in client.partitions for key in (one.version, one.partitions)}
    read = (_read_any(client, deployment.node_of(one), key) for key, one in keys.items())
    held = dict(zip(keys, await gather(read), strict=True))
    if held[PARTITIONS_KEY] not in (None, size.encode()):
        held = {key: value for key, value in held.items() if not key.endswith(":partitions") or key == PARTITIONS_KEY}
    return [
        Issue(IssueType.SETTING, key, None, f"{detail}{_NOTHING_ELSE}")
        for key, value in held.items()
        if (detail := _why_unusable(key, value, size))
    ]


async def _read_any(client: StoreClient, node: Node, key: str) -> bytes | StoreCorrupt | None:
    try:
        [held] = await client.read_from(node, ["GET", key], any_data=True)
    except StoreCorrupt as error:
        return error
    return held  # type: ignore[no-any-return]


def _why_unusable(key: str, held: bytes | StoreCorrupt | None, size: str) -> str | None:
    if isinstance(held, StoreCorrupt):
        return "is not a string"
    if held is None or held.startswith(COPY_MARK):
        return None
    if not held.isdigit():
        return f"is {printable(held)}, which is not a number"
    if key.endswith(":partitions") and key != PARTITIONS_KEY and printable(held) != size:
        return f"is {printable(held)}, must be {size}"
    return None


async def find_issues(client: StoreClient, *, repair: bool) -> list[Issue]:
    """Return the issues. With `repair` lost versions and numbers, and other settings, are repaired first."""
    if len(client.partitions) == 1:
        return []
    return [*await _numbers(client, repair=repair), *await _settings(client, repair=repair)]


async def _numbers(client: StoreClient, *, repair: bool) -> list[Issue]:
    wrong = await _lasting(lambda: _find_wrong_numbers(client))
    missing = [(number.key, number.wanted) for number in wrong if number.held is None]
    if missing and repair:
        await client.read(*(["SET", *pair, "NX"] for pair in missing))  # like reads they may run twice
    return [_number_issue(one, repair=repair) for one in wrong]


async def _find_wrong_numbers(client: StoreClient) -> list[_Number]:
    count, version = str(len(client.partitions)), str(DATA_VERSION)
    wanted = {} if client.deployment.is_cluster else {PARTITION.version: version}
    for partition in client.partitions:
        wanted |= {partition.version: version, partition.partitions: count}
    replies = await client.read(*(["GET", key] for key in wanted), isolate_errors=True)
    held = dict(zip(wanted, replies, strict=True))
    counted = wanted if client.deployment.is_cluster else [PARTITIONS_KEY]
    if all(held[key] is None for key in counted):  # there is no data yet
        return []
    return [
        _Number(key, value, wanted[key])
        for key, value in held.items()
        if value is None or not (isinstance(value, StoreCorrupt) or printable(value) == wanted[key])
    ]


def _number_issue(number: _Number, *, repair: bool) -> Issue:
    key, held, wanted = number
    if held is None:
        return Issue(IssueType.PARTITION, key, None, f"is missing, must be {wanted}", repaired=repair)
    return Issue(IssueType.PARTITION, key, None, f"is {printable(held)}, must be {wanted}")


async def _settings(client: StoreClient, *, repair: bool) -> list[Issue]:
    queues = QueueManager(client)
    lasting = await _lasting(queues.find_differences)
    if repair:
        for difference in lasting:
            await queues.copy_setting(difference)
    return [_setting_issue(one, repair=repair) for one in lasting]


async def _lasting(find: Callable[[], Awaitable[Sequence[T]]]) -> list[T]:
    """Return what is found, and found again after `CHANGE_TIME`."""
    if not (before := await find()):
        return []
    await asyncio.sleep(CHANGE_TIME)
    return [one for one in await find() if one in before]


def _setting_issue(difference: Difference, *, repair: bool) -> Issue:
    partition, queue, held, wanted = difference
    key, member = (partition.meta, "drain") if queue is None else (partition.queues, printable(queue))
    texts = ["none" if value is None else printable(value) for value in (held, wanted)]
    return Issue(
        IssueType.PARTITION, key, member, "is {}, but {} in the first partition".format(*texts), repaired=repair
    )
