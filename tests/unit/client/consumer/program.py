"""A program that uses every public name. mypy checks its types strictly; nothing executes it."""

import dataclasses
from collections.abc import Iterator
from typing import Any, assert_type

import msgspec

import jobstate
from jobstate import (
    AsyncBulkActionHandle,
    AsyncJobHandle,
    AsyncJobs,
    BulkAction,
    BulkActionHandle,
    JobContext,
    JobFilter,
    JobHandle,
    JobOptions,
    Jobs,
    NewJob,
    RefusedJob,
    RetryOptions,
    RetryPolicy,
    Worker,
)


class Lineups(msgspec.Struct):
    best: list[int]


@dataclasses.dataclass
class Params:
    seed: int


def synchronous() -> None:
    options: JobOptions = {"slate_id": "s", "scenario_count": 1, "correlation_id": "c", "traceparent": None}
    filters: JobFilter = {"status": "failed", "queue": None, "slate_id": "s", "correlation_id": "c"}
    with Jobs("http://x", api_key="k", timeout=None, retry=RetryPolicy(max_attempts=3), transport=None) as jobs:
        job = jobs.submit(Params(1), queue="q", id="sunday", result_type=Lineups, idempotency_key="k", **options)
        assert_type(job, JobHandle[Lineups])
        new: NewJob = {"input_params": Params(2), "id": "monday", "queue": None, "labels": {"a": "b"}}
        assert_type(jobs.submit_many([new], idempotency_key="k"), list[JobHandle[Any]])
        assert_type(job.wait(timeout=600), Lineups)
        assert_type(job.id, str)
        assert_type(job.status, str)
        assert_type(job.is_final, bool)
        assert_type(job.progress, jobstate.Progress | None)
        assert_type(job.record, jobstate.Job)
        assert_type(job.refresh(), jobstate.Job)
        assert_type(job.cancel(), jobstate.Job)
        again: RetryOptions = {"max_attempts": 2, "delay_seconds": 5, "run_timeout_seconds": 60}
        assert_type(job.retry(**again), jobstate.Job)
        assert_type(job.result_bytes(), bytes | None)
        assert_type(job.history(), jobstate.History)
        assert_type(job.history().items[0], jobstate.HistoryEntry)
        job.delete()
        for change in job.changes():
            assert_type(change, jobstate.Job)
        assert_type(jobs.submit({}, max_attempts=1, retry_delay_seconds=1, delay_seconds=1), JobHandle[Any])
        assert_type(jobs.get("a", result_type=list[int]).wait(), list[int])
        assert_type(jobs.get("a").wait(), Any)
        assert_type(jobs.handle("a", result_type=Lineups), JobHandle[Lineups])
        jobs.list(status="finished")  # type: ignore[arg-type]
        listed = jobs.list(include=["result"], limit=5, **filters)
        assert_type(listed, Iterator[JobHandle[Any]])
        assert_type(jobs.wait_all([job, job], timeout=1), list[Lineups])
        results = jobs.wait_all([job], return_exceptions=True)
        assert_type(results, list[Lineups | jobstate.JobstateError])
        assert_type(jobs.stats(), jobstate.Stats)
        action = jobs.bulk("retry", dry_run=True, expect=3, idempotency_key="k", **filters)
        assert_type(action, BulkActionHandle)
        assert_type(action.wait(timeout=600, on_progress=print), BulkAction)
        assert_type(action.id, str)
        assert_type(action.state, str)
        assert_type(action.is_final, bool)
        assert_type(action.record.reasons, dict[str, int])
        assert_type(action.record.examples, tuple[RefusedJob, ...])
        assert_type(action.refresh(), BulkAction)
        assert_type(action.abort(), BulkAction)
        assert_type(jobs.bulk_action("a"), BulkActionHandle)
        assert_type(jobs.list_bulk_actions(), list[BulkActionHandle])
        jobs.bulk("requeue", queue="q")  # type: ignore[arg-type]
    jobs.close()


async def asynchronous() -> None:
    async with AsyncJobs() as jobs:
        job = await jobs.submit({"seed": 42}, result_type=Lineups)
        assert_type(job, AsyncJobHandle[Lineups])
        assert_type(await job.wait(timeout=1), Lineups)
        assert_type(await job.refresh(), jobstate.Job)
        assert_type(await job.cancel(), jobstate.Job)
        assert_type(await job.retry(delay_seconds=5), jobstate.Job)
        assert_type(await job.result_bytes(), bytes | None)
        assert_type(await job.history(), jobstate.History)
        await job.delete()
        async for change in job.changes():
            assert_type(change, jobstate.Job)
        assert_type(await (await jobs.get("a")).wait(), Any)
        assert_type(await jobs.handle("a", result_type=Lineups).wait(), Lineups)
        async for listed in jobs.list(status="failed"):
            assert_type(listed, AsyncJobHandle[Any])
        assert_type(await jobs.wait_all([job]), list[Lineups])
        assert_type(await jobs.stats(), jobstate.Stats)
        action = await jobs.bulk("cancel", created_before="2026-11-29T10:00:00Z")
        assert_type(action, AsyncBulkActionHandle)
        assert_type(await action.wait(), BulkAction)
        assert_type(await action.refresh(), BulkAction)
        assert_type(await action.abort(), BulkAction)
        assert_type(jobs.bulk_action("a"), AsyncBulkActionHandle)
        assert_type(await jobs.list_bulk_actions(), list[AsyncBulkActionHandle])
    await jobs.aclose()


def blocking(context: JobContext) -> Lineups | None:
    assert_type(context.job, jobstate.Job)
    assert_type(context.job_id, str)
    assert_type(context.input_params, Any)
    assert_type(context.attempt, int)
    assert_type(context.correlation_id, str | None)
    assert_type(context.latest, jobstate.Progress | None)
    context.progress(1, 2, "one of two")
    if context.cancel_requested:
        return None
    raise jobstate.PermanentFailure({"message": "no such slate"})


async def awaiting(context: JobContext) -> None:
    context.stop()


async def working() -> None:
    worker = Worker("http://x", ["q"], blocking, concurrency=2, executor="process", lease_seconds=5, drain_seconds=1.5)
    worker.run()
    assert_type(worker.run_until_idle(max_jobs=1), int)
    worker = Worker(None, ["q"], awaiting, api_key="k", worker="ann", wait_seconds=0, transport=None)
    await worker.serve()
    assert_type(await worker.serve_until_idle(), int)
    worker.stop()


def errors(jobs: Jobs) -> None:
    try:
        jobs.submit(1)
    except (jobstate.JobFailed, jobstate.JobCancelled, jobstate.JobUnsuccessful) as error:
        assert_type(error.job_id, str)
    except (jobstate.JobDeleted, jobstate.JobExpired, jobstate.JobNotFound, jobstate.ResultNotReady) as error:
        assert_type(error.problem, jobstate.Problem | None)
    except jobstate.UnexpectedCount as error:
        assert_type(error.action, BulkAction | None)
    except (
        jobstate.BulkActionNotFound,
        jobstate.NotFound,
        jobstate.JobExists,
        jobstate.Conflict,
        jobstate.AccessDenied,
    ):
        raise
    except (jobstate.InvalidRequest, jobstate.RequestRejected, jobstate.InvalidResult, jobstate.ConfigurationError):
        raise
    except jobstate.ServiceUnavailable as error:
        assert_type(error.retry_after, float)
    except jobstate.WaitTimeout as error:
        assert_type(error.job_ids, tuple[str, ...])
