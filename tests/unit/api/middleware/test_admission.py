import pytest

from service.api.middleware.concurrency import ConcurrencyLimiter
from tests.unit.api.middleware.asgi import admission, http_scope, request


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_are_exempt_from_every_check(path: str) -> None:
    rejects_all = admission(hosts=("localhost",), limiter=ConcurrencyLimiter(0, 1, 1))
    assert (await request(rejects_all, http_scope()))[0] == 503
    assert (await request(rejects_all, http_scope(path, "10.0.0.1:8000", is_over_connection_limit=True)))[0] == 200
