import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from service.background import sweeper
from service.background.repeat import repeat
from service.background.sweeper import Sweeper
from service.domain.errors import StoreAccessDenied, StoreLoading, StoreReadOnly
from service.store.sweep import Swept


class Jobs:
    """A store whose sweeps end with the given errors, one after the other, or succeed for `None`."""

    def __init__(self, *failures: Exception | Swept | None) -> None:
        self._failures = list(failures)
        self.stopping = asyncio.Event()

    async def sweep_reachable(self) -> Swept:
        failure = self._failures.pop(0)
        if not self._failures:
            self.stopping.set()
        if isinstance(failure, Exception):
            raise failure
        return failure or Swept(0, None)

    async def write_version(self) -> None:
        """Do nothing."""

    async def get_store_health(self) -> None:
        raise StoreAccessDenied("no INFO")


class Queues:
    """Queues that count how often their settings are copied."""

    def __init__(self) -> None:
        self.copies = 0

    async def copy_settings(self) -> None:
        self.copies += 1


QUEUES: Any = Queues()


async def test_a_failure_that_lasts_is_logged_once_and_again_after_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "RECONNECT_INTERVAL", timedelta(0))
    monkeypatch.setattr(sweeper, "SWEEP_INTERVAL", timedelta(0))
    bug, unavailable = ValueError("a bug"), StoreAccessDenied("refused")
    jobs: Any = Jobs(bug, bug, unavailable, unavailable, None, None, bug, bug)

    with capture_logs() as logs:
        await repeat(Sweeper(jobs, QUEUES).run_once, jobs.stopping)

    assert [entry["event"] for entry in logs] == [
        *(
            sweeper.SWEEP_FAILED,
            sweeper.REDIS_UNAVAILABLE,
            sweeper.CONNECTED,
            sweeper.DURABILITY_NOT_CHECKED,
            sweeper.SWEEP_FAILED,
        )
    ]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No readiness check waits for the first sweep."""
    monkeypatch.setattr(sweeper, "FIRST_SWEEP_WAIT", timedelta(0))


@pytest.mark.usefixtures("impatient")
async def test_the_first_sweep_is_required_until_it_has_ended() -> None:
    jobs: Any = Jobs(StoreAccessDenied("refused"), None)
    sweeping = Sweeper(jobs, QUEUES)
    for _ in range(2):
        with pytest.raises(StoreLoading, match="still removes jobs that expired"):
            await sweeping.require_first_sweep()
        await sweeping.run_once()
    await sweeping.require_first_sweep()


@pytest.mark.usefixtures("impatient")
async def test_a_first_sweep_of_some_partitions_is_enough_and_the_failure_of_the_others_is_logged_once() -> None:
    partly = Swept(7, StoreReadOnly())
    jobs: Any = Jobs(partly, partly, None)
    sweeping = Sweeper(jobs, QUEUES)

    with capture_logs() as logs:
        await sweeping.run_once()
        await sweeping.require_first_sweep()
        await sweeping.run_once()
        await sweeping.run_once()

    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] == [
        *(sweeper.REDIS_PARTLY_UNAVAILABLE, sweeper.CONNECTED, sweeper.DURABILITY_NOT_CHECKED)
    ]


@pytest.mark.usefixtures("impatient")
async def test_the_first_sweep_has_ended_also_if_the_settings_of_queues_cannot_be_copied() -> None:
    class Refusing(Queues):
        async def copy_settings(self) -> None:
            raise StoreReadOnly

    jobs, queues = Jobs(None), Refusing()
    sweeping = Sweeper(cast("Any", jobs), cast("Any", queues))
    await sweeping.run_once()
    await sweeping.require_first_sweep()


@pytest.mark.usefixtures("impatient")
async def test_the_first_sweep_is_required_no_longer_than_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweeper.MAX_FIRST_SWEEP.total_seconds() == 10
    jobs: Any = Jobs()
    sweeping = Sweeper(jobs, QUEUES)
    with pytest.raises(StoreLoading):
        await sweeping.require_first_sweep()
    monkeypatch.setattr(sweeper, "MAX_FIRST_SWEEP", timedelta(0))  # as if that time had passed
    await sweeping.require_first_sweep()


async def test_a_check_of_the_first_sweep_waits_for_one_that_takes_milliseconds() -> None:
    jobs: Any = Jobs(None)
    sweeping = Sweeper(jobs, QUEUES)
    check = asyncio.create_task(sweeping.require_first_sweep())
    await asyncio.sleep(0)
    await sweeping.run_once()
    await check


async def test_each_run_copies_the_settings_of_queues() -> None:
    jobs: Any = Jobs(None, None)
    queues: Any = Queues()
    sweeping = Sweeper(jobs, queues)
    await sweeping.run_once()
    await sweeping.run_once()
    assert queues.copies == 2
