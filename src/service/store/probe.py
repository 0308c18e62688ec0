"""The readiness check: one script that writes nothing shows whether a node can serve the service."""

import asyncio
from collections.abc import Sequence
from typing import Any

from service.domain.errors import JobStateError, StoreAccessDenied, StorePartitionUnavailable
from service.domain.store_health import StoreAvailability
from service.store import scripts
from service.store.data_check import DataCheck
from service.store.deployments import Deployment
from service.store.deployments.node import Node
from service.store.redis_commands import KEY_PATTERNS, REQUIRED_COMMANDS, acl_names
from service.store.redis_errors import NODE_ERRORS, parse_reply, raise_errors


async def probe(deployment: Deployment, data: DataCheck, deadline: float) -> StoreAvailability:
    """Return how many nodes accept writes that this service may make.

    Raises why none does, and that the data of one is not that of this service.
    """
    if not deployment.is_located:
        await deployment.locate(deadline)
    nodes = deployment.nodes
    results = await asyncio.gather(
        *(_probe(deployment, node, data, deadline) for node in nodes), return_exceptions=True
    )
    failures = {node: result for node, result in zip(nodes, results, strict=True) if result is not None}
    for failure in failures.values():
        if len(failures) == len(nodes) or _is_about_data(failure):
            raise failure
    if not nodes:
        raise StorePartitionUnavailable
    there = sum(len(deployment.partitions_on(node)) for node in nodes if node not in failures)
    away = len(deployment.partitions) - there
    return StoreAvailability(nodes=len(nodes), nodes_away=len(failures), partitions_away=away)


def _is_about_data(failure: BaseException) -> bool:
    """Whether a node has other data, or refuses a command. Other failures are those of redis-py."""
    return isinstance(failure, JobStateError) and not isinstance(failure, StorePartitionUnavailable)


async def _probe(deployment: Deployment, node: Node, data: DataCheck, deadline: float) -> None:
    if node.is_away:
        raise StorePartitionUnavailable
    try:
        _, reply = raise_errors(await node.pipeline.ask(*commands(data.keys_on(node)), until=deadline))
    except NODE_ERRORS as error:
        deployment.on_failure(node, error)
        raise
    data.require_supported(node, *parse_versions(reply))


def commands(keys: Sequence[str]) -> tuple[tuple[Any, ...], ...]:
    """Return the two commands of a probe, which load and run the script as the service loads and runs all scripts.

    `keys` are like `VERSION_KEYS`.
    """
    return (
        ("SCRIPT", "LOAD", scripts.PROBE.text),
        ("EVALSHA", scripts.PROBE.sha, len(keys), *keys, *REQUIRED_COMMANDS),
    )


def parse_versions(reply: Any) -> tuple[bytes | None, int, bytes | None, int]:
    """Return the arguments of `check_version` from the reply to the second command.

    Raises `StoreAccessDenied` if Redis refuses a command that the service needs.
    """
    stored, refused = parse_reply("EVALSHA", lambda reply: (tuple(reply[:4]), [*reply[4]]), reply)
    if refused:
        listed = ", ".join(acl_names([command.decode() for command in refused]))
        detail = f"unknown, or not allowed on {' and '.join(KEY_PATTERNS)}: {listed}"
        raise StoreAccessDenied(f"{StoreAccessDenied.default_detail} ({detail})")
    version, v1_keys, partitions, has_meta = stored
    return version, v1_keys, partitions, has_meta
