"""The steps of a copy."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from service.store.client import StoreClient
from service.store.copy.errors import CopyRefused
from service.store.copy.source import Source, read_records, scan_jobs
from service.store.copy.target import Target
from service.store.deployments import Deployment
from service.store.doctor import CheckStats, IssueType, build_indexes, check
from service.store.doctor.counts import JobCounter
from service.store.doctor.issues import printable

#: Gets what is done, and for how many jobs.
Progress = Callable[[str, int], None]
#: Fields that show whether a job has changed. A heartbeat changes only the last one.
_COMPARED: Final = ("queue", "status", "revision", "lease_expires_at")
#: Jobs that expire within this time (ms) may be in one database only: the clocks of two servers differ.
_EXPIRING_SOON: Final = 60_000
#: Issues that a record has in FROM, too.
_COPIED_ISSUES: Final = {IssueType.RECORD, IssueType.SETTING}


async def copy_database(
    source: StoreClient, target_deployment: Deployment, on_progress: Progress
) -> Counter[tuple[str, str]]:
    """Copy all jobs and settings of queues, and return the jobs in the copy by queue and status.

    Until it is whole, every service refuses the copy. Raises `CopyRefused`, and what `StoreClient.read` raises.
    """
    before = Source(source)
    await before.open()
    target = Target(target_deployment)
    if await target.take():
        on_progress("interrupted copy deleted, starting anew", 0)
    copied = 0
    async for records in read_records(source):
        await target.write(records)
        on_progress("copied", copied := copied + len(records))
    await target.write_common(before.clock, before.settings)
    on_progress("copied, building the indexes of", copied)
    await build_indexes(target.client, CheckStats())
    on_progress("indexed, checking", copied)
    await _require_sound(target)
    on_progress("checked, comparing", copied)
    await _compare(source, target.client)
    counts = await _compare(target.client, source)
    await before.require_no_change()
    await target.finish()
    return counts


async def _require_sound(target: Target) -> None:
    """Raise `CopyRefused` if the doctor finds what the copy has caused: wrong indexes, or wrong counts."""
    async for issue in check(target.client, rate=None):
        if issue.type not in _COPIED_ISSUES and issue.key not in target.marked:
            raise CopyRefused(f"The copy is not consistent: `{issue.key}` {issue.detail}. Run the copy again.")


async def _compare(one: StoreClient, other: StoreClient) -> Counter[tuple[str, str]]:
    """Return the jobs of `one` by queue and status. Raises `CopyRefused` if one is not in `other` or differs there."""
    counter = JobCounter[tuple[str, str]]()
    async for jobs in scan_jobs(one):
        ids = [job.parts[0] for job in jobs]
        rows = await _rows(one, ids)
        for job_id, row, twin in zip(ids, rows, await _rows(other, ids), strict=True):
            if row != twin and not await _expires_soon(one, job_id):
                raise CopyRefused(
                    f"Job {job_id!r} differs in FROM and TO. Stop all services of both, and run the copy again."
                )
            if row == twin:
                counter.add(job_id, (printable(row[0] or b""), printable(row[1] or b"")))
    return counter.counts


async def _rows(client: StoreClient, job_ids: Sequence[str]) -> Any:
    commands = (["HMGET", client.partitions.of(job_id).job(job_id), *_COMPARED] for job_id in job_ids)
    return await client.read(*commands)


async def _expires_soon(client: StoreClient, job_id: str) -> bool:
    """Return whether a job has expired, or does so soon."""
    [left] = await client.read(["PTTL", client.partitions.of(job_id).job(job_id)])
    return left == -2 or 0 <= int(left) < _EXPIRING_SOON
