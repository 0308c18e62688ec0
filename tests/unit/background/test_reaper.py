from typing import Any

import pytest
from structlog.testing import capture_logs

from service.background.reaper import REAP_FAILED, Reaper
from service.domain.errors import StoreCorrupt
from service.store.leases import ReapedJob


class Leases:
    """Leases of which the next one expires in `next_expiry` seconds."""

    def __init__(self, next_expiry: float | None) -> None:
        self._next_expiry = next_expiry

    async def reap(self) -> tuple[list[ReapedJob], float | None]:
        return [], self._next_expiry


class CorruptLeases:
    async def get_time(self) -> float:
        raise StoreCorrupt("unexpected type")


@pytest.mark.parametrize(("next_expiry", "delay"), [(None, 5.0), (0.3, 0.3), (0.0, 0.0), (60.0, 5.0)])
async def test_it_waits_until_the_next_lease_expires_or_for_the_shortest_lease(
    next_expiry: float | None, delay: float
) -> None:
    leases: Any = Leases(next_expiry)
    assert await Reaper(leases)._reap() == delay


async def test_a_failure_that_lasts_is_logged_once() -> None:
    leases: Any = CorruptLeases()
    reaper = Reaper(leases)
    with capture_logs() as logs:
        for _ in range(3):
            await reaper.run_once()

    assert [entry["event"] for entry in logs] == [REAP_FAILED]
