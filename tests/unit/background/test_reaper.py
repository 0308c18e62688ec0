"""When the reaper looks again."""

from typing import Any, cast

import pytest

from service.lifespan import _reap_batch
from service.store.leases import LeaseManager, ReapedJob


class Leases:
    """Leases of which the next runs out in so many seconds."""

    def __init__(self, following: float | None) -> None:
        self._following = following

    async def reap(self) -> tuple[list[ReapedJob], float | None]:
        return [], self._following


@pytest.mark.parametrize(("following", "pause"), [(None, 5.0), (0.3, 0.3), (0.0, 0.0), (60.0, 5.0)])
async def test_it_sleeps_until_the_next_lease_runs_out_and_not_too_long(following: float | None, pause: float) -> None:
    leases: Any = Leases(following)
    assert await _reap_batch(cast(LeaseManager, leases), 5.0) == pause
