"""What Redis is asked to see whether it serves all that the service needs: one script, which writes nothing."""

from hashlib import sha1
from typing import Any, Final

from service.domain.errors import StoreAccessDenied
from service.store import keys
from service.store.redis_commands import KEYS, REQUIRED_COMMANDS, names
from service.store.redis_errors import parse_reply

#: Reads the version of the data, and is refused where every change would be: by a replica, over a broken disk. Not at
#: the memory limit, where there is still reading and, what helps, deleting to do. Returns the commands of ARGV that the
#: user may not run, or that there are not.
_SCRIPT: Final = """\
#!lua flags=allow-oom
local refused = {}
for _, line in ipairs(redis.acl_check_cmd and ARGV or {}) do
  local words = {}
  for word in line:gmatch('%S+') do words[#words + 1] = word end
  local exists, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if not (exists and allowed) then refused[#refused + 1] = line end
end
return { #refused == 0 and redis.call('GET', KEYS[1]), refused }
"""
_SHA: Final = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def commands() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the two commands of a probe: all scripts are loaded and run by these."""
    return ("SCRIPT", "LOAD", _SCRIPT), ("EVALSHA", _SHA, 1, keys.VERSION, *REQUIRED_COMMANDS)


def version_from(reply: Any) -> bytes | None:
    """Return the version of the data out of the reply to the second command.

    Raises `StoreAccessDenied` where the service needs a command that Redis refuses.
    """
    version, refused = parse_reply("EVALSHA", _two, reply)
    if refused:
        listed = ", ".join(names([line.decode() for line in refused]))
        raise StoreAccessDenied(
            f"{StoreAccessDenied.default_detail} (unknown, or not allowed on {' and '.join(KEYS)}: {listed})"
        )
    return version


def _two(reply: Any) -> tuple[bytes | None, list[bytes]]:
    version, refused = reply
    return version, list(refused)
