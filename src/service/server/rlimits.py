"""The limit of open files, which connections count towards."""

import resource

import structlog

from service.settings import Settings

#: File descriptors for everything but connections: the log, the event loop, files being read.
RESERVED_FDS = 128

_log = structlog.get_logger(__name__)


def raise_open_file_limit(settings: Settings) -> None:
    """Raise the soft limit to what `settings` need, as far as the hard limit allows. Log a warning if it is too low."""
    needed = settings.max_connections + settings.redis_max_connections + RESERVED_FDS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        hint = "raise it with `ulimit -n`, or lower `MAX_CONNECTIONS`"
        _log.warning("open file limit too low", limit=soft, needed=needed, hint=hint)
