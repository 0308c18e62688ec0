import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.background import sweeper
from service.background.repeat import repeat
from service.background.sweeper import Sweeper
from service.domain.errors import StoreAccessDenied


class Jobs:
    """A store whose sweeps end with the given errors, one after the other, or succeed for `None`."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures = list(failures)
        self.stopping = asyncio.Event()

    async def sweep(self) -> int:
        failure = self._failures.pop(0)
        if not self._failures:
            self.stopping.set()
        if failure is not None:
            raise failure
        return 0

    async def write_version(self) -> None:
        """Do nothing."""

    async def get_store_health(self) -> None:
        raise StoreAccessDenied("no INFO")


async def test_a_failure_that_lasts_is_logged_once_and_again_after_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "RECONNECT_INTERVAL", timedelta(0))
    monkeypatch.setattr(sweeper, "SWEEP_INTERVAL", timedelta(0))
    bug, unavailable = ValueError("a bug"), StoreAccessDenied("refused")
    jobs: Any = Jobs(bug, bug, unavailable, unavailable, None, None, bug, bug)

    with capture_logs() as logs:
        await repeat(Sweeper(jobs).run_once, jobs.stopping)

    assert [entry["event"] for entry in logs] == [
        *(
            sweeper.SWEEP_FAILED,
            sweeper.REDIS_UNAVAILABLE,
            sweeper.CONNECTED,
            sweeper.DURABILITY_NOT_CHECKED,
            sweeper.SWEEP_FAILED,
        )
    ]
