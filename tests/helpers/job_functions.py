"""Job functions for tests of the worker; `python -m tests.helpers.job_functions` runs a worker with one of them."""

import asyncio
import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jobstate import JobContext, PermanentFailure, Progress, Worker

#: Seconds between looks for new progress, fewer than by default, because most tests wait for the first progress.
PROGRESS_INTERVAL = 0.1


async def count(context: JobContext) -> object:
    """Count to `input_params.steps`, a step each 0.1 s. Then wait for the file `input_params.until`, if any."""
    steps = context.input_params["steps"]
    for step in range(steps):
        await asyncio.sleep(0.1)
        context.progress(step + 1, steps, f"step {step + 1}")
    if until := context.input_params.get("until"):
        while not Path(until).exists():  # noqa: ASYNC110, ASYNC240 (a file has no event)
            await asyncio.sleep(0.02)
    return {"counted": steps, "by": os.getpid(), "attempt": context.attempt}


def count_blocking(context: JobContext) -> object:
    steps = context.input_params["steps"]
    for step in range(steps):
        if context.cancel_requested:
            return None
        time.sleep(0.1)
        context.progress(step + 1, steps, f"step {step + 1}")
    return {"counted": steps, "by": os.getpid(), "attempt": context.attempt}


def return_despite_cancellation(context: JobContext) -> object:
    context.progress(1)
    while not context.cancel_requested:
        time.sleep(0.01)
    return "done all the same"


def sleep_forever(context: JobContext) -> object:
    context.progress(1)
    time.sleep(1000)
    return None


async def fail_once(context: JobContext) -> object:
    if context.attempt == 1:
        raise RuntimeError("stumbled")
    return context.attempt


async def wait_for_a_thread(context: JobContext) -> object:
    context.progress(1)
    await asyncio.to_thread(time.sleep, 1000)
    return None


async def ignore_cancellation(context: JobContext) -> object:
    """Continue after every cancellation."""
    step = 0
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)
        step += 1
        context.progress(step)


async def delegate_to_a_task_that_ignores_cancellation(context: JobContext) -> object:
    return await asyncio.create_task(ignore_cancellation(context))


async def ignore_every_exception(context: JobContext) -> object:
    """Continue after every exception, also the one that closes a coroutine."""
    context.progress(1)
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(0.1)


def raise_permanent_failure(context: JobContext) -> object:
    raise PermanentFailure({"type": "invalid-input", "message": "no such slate", "field": "slate_id"})


def return_nan(context: JobContext) -> object:
    return float("nan")


def return_too_much(context: JobContext) -> object:
    return "x" * 100_000


def return_far_too_much(context: JobContext) -> object:
    return "x" * 20_000_000


def raise_a_surrogate(context: JobContext) -> object:
    raise ValueError("no such file: \udcff.txt")


def raise_a_long_text(context: JobContext) -> object:
    raise ValueError("x" * 3_000_000)


def fail_with_a_surrogate(context: JobContext) -> object:
    raise PermanentFailure({"slate": "\udcff"})


def fail_with_a_long_text(context: JobContext) -> object:
    raise PermanentFailure("x" * 100_000)


def fail_with_too_many_levels(context: JobContext) -> object:
    raise PermanentFailure(nested(250))


def return_a_surrogate(context: JobContext) -> object:
    return {"name": ["\udcff"]}


def return_too_many_levels(context: JobContext) -> object:
    return nested(250)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def return_its_input(context: JobContext) -> object:
    return context.input_params


def report_what_cannot_be_sent(context: JobContext) -> object:
    context.progress(2**60)
    context.progress(1, -1, "\udcff\n" + "x" * 2_000)
    return "done"


def fail_in_an_executor(context: JobContext) -> object:
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(raise_a_surrogate, context.job).result()


def exit_process(context: JobContext) -> object:
    os._exit(3)


def report_from_several_threads(context: JobContext) -> object:
    """Report from several threads at once. Each report is so long that it takes several writes to the pipe."""

    def report() -> None:
        while True:
            context._report(Progress(1, message="x" * 50_000))

    for _ in range(3):
        threading.Thread(target=report, daemon=True).start()
    time.sleep(0.5)
    return "y" * 50_000


class Unreadable:
    """Can be pickled but not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def send_unreadable_progress(context: JobContext) -> object:
    context._report(Progress(Unreadable()))
    time.sleep(1000)
    return None


def use_a_process_pool(context: JobContext) -> object:
    """Leaving the block sends SIGTERM to the pool's processes."""
    with multiprocessing.Pool(2) as pool:
        return pool.map(abs, [-1, -2])


if __name__ == "__main__":
    from jobstate.worker import attempt
    from tests.helpers import job_functions as functions

    logging.basicConfig(level=logging.INFO)
    url, function, executor, lease_seconds, drain_seconds = sys.argv[1:]
    options: dict[str, Any] = {
        "lease_seconds": int(lease_seconds),
        "drain_seconds": float(drain_seconds),
        "executor": executor,
    }
    with patch.object(attempt, "PROGRESS_INTERVAL", PROGRESS_INTERVAL):
        Worker(url, ["default"], getattr(functions, function), **options).run()
