"""The scan of all keys, while the node that it reads changes."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.errors import StoreMoving
from service.store.jobs import JobStateManager
from service.store.opening import open_store
from service.store.scan import scan
from tests.helpers.deployments import standalone_only
from tests.helpers.polling import wait_until
from tests.helpers.redis_sentinel import running_sentinel

pytestmark = standalone_only("starts sentinels of its own")


async def test_a_scan_fails_once_another_master_answers(tmp_path: Path) -> None:
    """The cursor of the former master would skip keys."""
    with running_sentinel(tmp_path) as servers:
        async with open_store(servers.url) as client:
            jobs = JobStateManager(client, ttl=timedelta(days=7))
            for number in range(50):
                await jobs.create_job(f"j{number}", 1)
            found = scan(client, "*", 1)
            await anext(found)
            former = servers.master
            servers.failover()
            wait_until(lambda: former.call("ROLE")[0] == "slave", "a former master")

            with pytest.raises(StoreMoving, match="Run it again"):
                [keys async for _, keys in found]
