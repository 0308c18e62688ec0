"""The Redis commands that the service sends, for the readiness check and the documented ACL."""

from collections.abc import Iterable
from typing import Final

#: The commands that the service cannot work without, most of them sent by scripts. Each has arguments of its form.
REQUIRED_COMMANDS: Final = (
    *("PING", "EVALSHA 0 0", "SCRIPT LOAD text", "TIME"),
    *("EXISTS jobs:by_expiry", "UNLINK job:id", "PEXPIREAT job:id 0"),
    *("GET {p0}:partitions", "SET jobs:version 1"),
    *("HGET job:id name", "HMGET job:id name", "HGETALL job:id", "HSTRLEN job:id name"),
    *("HSET job:id name value", "HDEL job:id name"),
    *("ZADD jobs:by_expiry 0 member", "ZREM jobs:by_expiry member", "ZREMRANGEBYSCORE jobs:by_expiry 0 0"),
    *("ZCARD jobs:by_expiry", "ZCOUNT jobs:by_expiry 0 0", "ZRANGE jobs:by_expiry 0 0", "ZSCORE jobs:by_expiry member"),
    *("SADD jobs:queue_names member", "SREM jobs:queue_names member", "SMEMBERS jobs:queue_names"),
    *("XADD jobs:events * name value", "XLEN jobs:events", "XRANGE jobs:events - +"),
    *("XREAD STREAMS jobs:events 0", "XREVRANGE jobs:events + -"),
)
#: Commands of single features. Where Redis refuses one, only that feature is affected.
OPTIONAL_COMMANDS: Final = {
    "a database other than 0 in `REDIS_URL`": ("SELECT",),
    "Sentinel in `REDIS_URL`": ("ROLE",),
    "a Redis Cluster in `REDIS_URL`": ("CLUSTER SLOTS",),
    "`REDIS_WAITAOF=1` (from Redis 7.2)": ("WAITAOF",),
    "`REDIS_WAIT_REPLICAS`": ("EVAL", "WAIT"),
    "durability and eviction at `/metrics`, in the log and in `jobstate doctor`": ("INFO",),
    "a lost version of several partitions, in `jobstate doctor --repair`": ("SET",),
    "`jobstate copy` into this Redis, by `jobstate-repair`": ("SET", "UNLINK", "WATCH", "UNWATCH", "MULTI", "EXEC"),
    "the name of the client library in `CLIENT LIST` (from Redis 7.2)": ("CLIENT SETINFO",),
}
#: The commands that `jobstate doctor` needs, and those that `--repair` also needs.
DOCTOR_COMMANDS: Final = (
    *("PING", "EVALSHA", "SCRIPT LOAD", "TIME", "TYPE", "EXISTS", "PTTL", "PEXPIRETIME", "GET", "HGET", "HMGET"),
    *("HGETALL", "HSTRLEN", "SCAN", "SSCAN", "ZSCAN", "SISMEMBER", "SMEMBERS", "ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE"),
    "XREVRANGE",
)
REPAIR_COMMANDS: Final = ("HSET", "PERSIST", "PEXPIRE", "PEXPIREAT", "SADD", "SREM", "ZADD", "ZREM")
#: Patterns of all keys that these commands use. They use no channels.
KEY_PATTERNS: Final = ("job:*", "jobs:*", "{p*}:*")


def acl_names(commands: Iterable[str]) -> list[str]:
    """Return the commands as an ACL names them, without arguments."""
    return [_name(command) for command in commands]


def acl_rule(*commands: str) -> str:
    """Return the ACL rules that allow these commands and nothing else."""
    keys = [f"~{pattern}" for pattern in KEY_PATTERNS]
    allowed = [f"+{name}" for name in sorted(set(acl_names(commands)))]
    return " ".join(("resetkeys", *keys, "resetchannels", "-@all", *allowed))


def _name(command: str) -> str:
    words = command.lower().split()
    return "|".join(words[:2]) if words[0] in {"script", "client", "cluster"} else words[0]
