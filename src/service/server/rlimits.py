"""How many files, connections among them, the process may have open."""

import resource

import structlog

from service.settings import Settings

#: What a process needs besides connections: its log, its event loop, files that it reads.
RESERVED_FDS = 128

_log = structlog.get_logger(__name__)


def raise_open_file_limit(settings: Settings) -> None:
    """Raise the limit of open files, as far as the system lets it, to what `settings` may need; say where not."""
    needed = settings.max_connections + settings.redis_max_connections + RESERVED_FDS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        _log.warning("too few open files for MAX_CONNECTIONS; raise the limit (ulimit -n)", limit=soft, needed=needed)
