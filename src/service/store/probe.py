"""The readiness check: one script that writes nothing shows whether Redis can serve the service."""

from typing import Any, Final

from service.domain.errors import StoreAccessDenied
from service.store import keys, scripts
from service.store.redis_commands import KEY_PATTERNS, REQUIRED_COMMANDS, acl_names
from service.store.redis_errors import parse_reply

#: The two commands of a probe: they load and run the script as the service loads and runs all scripts.
COMMANDS: Final[tuple[tuple[Any, ...], ...]] = (
    ("SCRIPT", "LOAD", scripts.PROBE.text),
    ("EVALSHA", scripts.PROBE.sha, 1, keys.VERSION, *REQUIRED_COMMANDS),
)


def version_from(reply: Any) -> bytes | None:
    """Return the data version from the reply to the second command.

    Raises `StoreAccessDenied` if Redis refuses a command that the service needs.
    """
    version: bytes | None
    version, refused = parse_reply("EVALSHA", lambda reply: (reply[0], [*reply[1]]), reply)
    if refused:
        listed = ", ".join(acl_names([command.decode() for command in refused]))
        detail = f"unknown, or not allowed on {' and '.join(KEY_PATTERNS)}: {listed}"
        raise StoreAccessDenied(f"{StoreAccessDenied.default_detail} ({detail})")
    return version
