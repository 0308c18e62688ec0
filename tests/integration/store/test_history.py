"""The history of a job."""

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

import pytest
from redis.asyncio import Redis

from service.domain import errors
from service.domain.actor import actor
from service.domain.jobs import Progress
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.partitions import job_key


async def history(jobs: JobStateManager, job_id: str = "j") -> list[tuple[int, str]]:
    found = await jobs.get_history(job_id)
    assert found
    assert found.complete
    assert [change.at for change in found.items] == sorted(change.at for change in found.items)
    return [(change.revision, change.change) for change in found.items]


async def test_the_history_lists_the_changes_of_a_job(jobs: JobStateManager, leases: LeaseManager) -> None:
    created = (await jobs.create_job("j", 1, max_attempts=2)).job
    assert await history(jobs) == [(1, "created")]
    claim = await leases.claim_job(["default"], "w")
    assert claim
    await jobs.update_job_status("j", "running", progress=Progress(1), lease_token=claim.lease.token)
    await leases.release_job("j", claim.lease.token, error="broken")
    claim = await leases.claim_job(["default"], "w")
    assert claim
    await jobs.cancel_job("j")
    done = await jobs.update_job_status("j", "completed", lease_token=claim.lease.token)
    assert await history(jobs) == [
        *((1, "created"), (2, "running"), (4, "pending"), (5, "running")),
        *((6, "cancel-requested"), (7, "completed")),
    ]
    found = await jobs.get_history("j")
    assert found
    assert (found.items[0].at, found.items[-1].at) == (created.created_at, done.finished_at)
    assert await jobs.get_history("nobody") is None


async def test_a_long_history_loses_its_oldest_entries(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1)
    for _ in range(60):
        claim = await leases.claim_job(["default"], "w")
        assert claim
        await leases.release_job("j", claim.lease.token)
    found = await jobs.get_history("j")
    assert found
    assert not found.complete
    assert [change.revision for change in found.items] == list(range(22, 122))


async def changed_by(name: str, change: Coroutine[Any, Any, Any]) -> None:
    """Make changes as the API key of this name."""
    context = copy_context()
    context.run(actor.set, name)
    await asyncio.create_task(change, context=context)


async def test_the_history_has_the_actor_of_each_change(jobs: JobStateManager, leases: LeaseManager) -> None:
    await changed_by("app-1", jobs.create_job("j", 1))
    await changed_by("w.2", leases.claim_job(["default"], "w"))
    await changed_by("", jobs.cancel_job("j"))
    found = await jobs.get_history("j")
    assert found
    assert [(change.change, change.by) for change in found.items] == [
        *(("created", "app-1"), ("running", "w.2"), ("cancel-requested", None))
    ]


async def test_a_long_history_of_named_changes_loses_its_oldest_entries(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    """Names end with digits, as entries begin with some."""

    async def change() -> None:
        await jobs.create_job("j", 1)
        for _ in range(60):
            claim = await leases.claim_job(["default"], "w")
            assert claim
            await leases.release_job("j", claim.lease.token)

    await changed_by("k-12", change())
    found = await jobs.get_history("j")
    assert found
    assert [change.revision for change in found.items] == list(range(22, 122))
    assert {change.by for change in found.items} == {"k-12"}


async def test_an_unreadable_history_is_corrupt(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    for field in ("_history", "_errors"):
        await redis.hset(job_key("j"), field, "abc")
        with pytest.raises(errors.StoreCorrupt):
            await jobs.get_history("j")
        await redis.hdel(job_key("j"), field)
