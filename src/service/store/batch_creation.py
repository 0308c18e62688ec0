"""Creation of many jobs: scripts of limited length, each in one partition."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from msgspec import structs
from redis.exceptions import ResponseError

from service.domain import errors
from service.domain.errors import JobStateError
from service.domain.jobs import CreateResult
from service.store import scripts
from service.store.client import StoreClient
from service.store.creation import Creation
from service.store.deadlines import gather
from service.store.partition import Partition
from service.store.redis_errors import to_domain_error

#: How many jobs one script creates, which takes it a few milliseconds.
BATCH_JOBS: Final = 100
#: How many bytes of jobs one script takes, unless one job has more.
BATCH_BYTES: Final = 1024 * 1024

Result = CreateResult | JobStateError


async def create_jobs(client: StoreClient, ttl_ms: int, creations: Sequence[Creation]) -> list[Result]:
    """Create jobs, and return for each the result, or the error that the creation of this job alone would raise.

    The jobs come without their large fields. They are kept for `ttl_ms` after their last change. The error of one
    keeps no other from being created.
    """
    by_partition: dict[Partition, list[Creation]] = {}
    for creation in creations:
        by_partition.setdefault(client.partitions.of(creation.job_id), []).append(creation)
    calls = (
        _create_batch(client, partition, ttl_ms, batch)
        for partition, mine in by_partition.items()
        for batch in _batches(mine)
    )
    results = dict(chain.from_iterable(await gather(calls)))
    return [results[creation] for creation in creations]


def _batches(creations: Sequence[Creation]) -> Iterator[dict[Creation, bytes]]:
    """Yield creations, in their order, with what the script takes of each."""
    batch: dict[Creation, bytes] = {}
    size = 0
    for creation in creations:
        packed = creation.packed()
        if batch and (len(batch) == BATCH_JOBS or size + len(packed) > BATCH_BYTES):
            yield batch
            batch, size = {}, 0
        batch[creation] = packed
        size += len(packed)
    if batch:
        yield batch


async def _create_batch(
    client: StoreClient, partition: Partition, ttl_ms: int, batch: dict[Creation, bytes]
) -> list[tuple[Creation, Result]]:
    args = [ttl_ms, client.partitions.size, partition.number, *batch.values()]
    try:
        _, *replies = await client.run_script(scripts.CREATE_MANY, partition, args)
    except JobStateError as error:
        return [(creation, error) for creation in batch]
    return [(creation, _result(client, creation, reply)) for creation, reply in zip(batch, replies, strict=True)]


def _result(client: StoreClient, creation: Creation, reply: list[bytes]) -> Result:
    word, *values = reply
    if word == b"ERROR":
        error = to_domain_error(ResponseError(values[0].decode(errors="replace")), client.deployment.pool)
        return error if isinstance(error, JobStateError) else errors.StoreCorrupt(str(error))
    try:
        job, replayed = structs.astuple(creation.result(word.decode(), values))
    except JobStateError as error:
        return error
    return CreateResult(structs.replace(job, input_params=None), replayed)
