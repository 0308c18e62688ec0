"""Which commands of Redis the service sends, by what needs them: for the readiness check and for the documented ACL."""

from collections.abc import Iterable
from typing import Final

#: The commands that the service cannot work without, most of them within scripts: each with arguments that fit it.
REQUIRED_COMMANDS: Final = (
    "PING",
    "EVALSHA 0 0",
    "SCRIPT LOAD text",
    "TIME",
    "TYPE jobs:list",
    "EXISTS jobs:list",
    "DEL job:id",
    "UNLINK job:id",
    "PTTL job:id",
    "PEXPIREAT job:id 0",
    "PEXPIRETIME job:id",
    "GET jobs:version",
    "SET jobs:version 1",
    "HGET job:id name",
    "HMGET job:id name",
    "HGETALL job:id",
    "HSTRLEN job:id name",
    "HSET job:id name value",
    "HDEL job:id name",
    "ZADD jobs:list 0 member",
    "ZREM jobs:list member",
    "ZREMRANGEBYSCORE jobs:list 0 0",
    "ZCOUNT jobs:list 0 0",
    "ZRANGE jobs:list 0 0",
    "ZSCORE jobs:list member",
    "XADD jobs:events * name value",
    "XLEN jobs:events",
    "XRANGE jobs:events - +",
    "XREAD STREAMS jobs:events 0",
    "XREVRANGE jobs:events + -",
)
#: What else the service can use: where Redis refuses it, only the feature named is affected.
OPTIONAL: Final = {
    "a database other than 0 in `REDIS_URL`": ("SELECT",),
    "`REDIS_WAITAOF=1` (from Redis 7.2)": ("WAITAOF",),
    "durability and eviction at `/metrics`, in the log and in `jobstate doctor`": ("INFO",),
    "the name of the client library in `CLIENT LIST` (from Redis 7.2)": ("CLIENT SETINFO",),
}
#: The commands that `jobstate doctor` needs, and those that it needs besides with `--repair`.
DOCTOR: Final = (
    *("PING", "EVALSHA", "SCRIPT LOAD", "TIME", "TYPE", "EXISTS", "PTTL", "PEXPIRETIME", "GET", "HGET", "HMGET"),
    *("HGETALL", "HSTRLEN", "SCAN", "ZSCAN", "ZRANGE", "ZCOUNT", "ZSCORE", "XREVRANGE"),
)
REPAIR: Final = ("SET", "PERSIST", "PEXPIRE", "PEXPIREAT", "ZADD", "ZREM")
#: The keys of all of them, as patterns; there are no channels.
KEYS: Final = ("job:*", "jobs:*")


def names(commands: Iterable[str]) -> list[str]:
    """Return commands as an ACL names them, without arguments."""
    return [_name(command) for command in commands]


def rule(*commands: str) -> str:
    """Return the ACL rules that allow commands and nothing else."""
    allowed = sorted(set(names(commands)))
    return " ".join(("resetkeys", *(f"~{key}" for key in KEYS), "resetchannels", "-@all", *map("+{}".format, allowed)))


def _name(command: str) -> str:
    words = command.lower().split()
    return "|".join(words[:2]) if words[0] in {"script", "client"} else words[0]
