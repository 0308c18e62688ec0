"""The readiness check: one script that writes nothing shows whether Redis can serve the service."""

from collections.abc import Sequence
from typing import Any

from service.domain.errors import StoreAccessDenied
from service.store import scripts
from service.store.redis_commands import KEY_PATTERNS, REQUIRED_COMMANDS, acl_names
from service.store.redis_errors import parse_reply


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
