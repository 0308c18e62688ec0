"""A client of the Redis at a URL, for programs that use the managers without the service."""

import contextlib
from collections.abc import AsyncIterator

from service.store.client import StoreClient
from service.store.deployments import open_deployment
from service.store.observer import Observer


@contextlib.asynccontextmanager
async def open_store(
    url: str,
    observer: Observer | None = None,
    *,
    partitions: int | None = None,
    max_connections: int = 9,
    wait_replicas: int = 0,
) -> AsyncIterator[StoreClient]:
    """Yield a client of the Redis at a URL, which `JobStateManager` takes. Close its connections at the end.

    Takes the arguments of `open_deployment`, and raises what it raises.
    """
    deployment = open_deployment(
        url, partitions=partitions, max_connections=max_connections, wait_replicas=wait_replicas
    )
    client = StoreClient(deployment, observer)
    try:
        yield client
    finally:
        await client.aclose()
        await deployment.pool.disconnect()
