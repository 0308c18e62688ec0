"""One process that serves: uvicorn's server with the limits and the end that this service has."""

import asyncio
import gc
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn

from service.app import create_asgi_app
from service.observability.metrics import Metrics
from service.server.forwarded import ForwardedHeaders
from service.server.protocol import protocol_factory
from service.server.rlimits import raise_open_file_limit
from service.server.security_headers import SECURITY_HEADERS
from service.settings import Settings

#: Seconds between two looks at the leases that the end of the process waits for.
LEASE_POLL_INTERVAL: Final = 0.2
#: Seconds without sight of Redis after which they are not waited for any longer.
REDIS_LOST_TIMEOUT: Final = 5.0
#: Seconds that requests in flight have at least, when the workers have used up the time.
MIN_REQUEST_GRACE: Final = 1
#: So many more objects than before are there when the garbage collector looks at the youngest of them.
GC_THRESHOLD: Final = 20_000

_log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """Serves until SIGINT, SIGTERM, or the end of the process that started it, then until its requests are answered."""

    def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
        """Work on the Redis at `redis_url`; call `started` once requests are answered."""
        raise_open_file_limit(settings)
        self._on_started = started
        self._settings = settings
        #: When the leases were last seen at the end, as `time.monotonic`.
        self._last_seen = 0.0
        metrics = Metrics()
        service, self._state = create_asgi_app(settings, redis_url, metrics)
        application: Any = service
        if settings.trusted_proxies:
            application = ForwardedHeaders(application, list(settings.trusted_proxies))
        super().__init__(
            uvicorn.Config(
                application,
                http=protocol_factory(settings, metrics.count_problem),
                ws="none",
                lifespan="on",
                proxy_headers=False,  # `ForwardedHeaders` reads them
                timeout_keep_alive=settings.keep_alive_seconds,
                access_log=False,
                log_config=None,
                server_header=False,
                headers=list(SECURITY_HEADERS),
                timeout_graceful_shutdown=settings.shutdown_drain_seconds,
                # Each request in a context of its own: it may be begun in the course of another.
                reset_contextvars=True,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so; end with the process that started this one."""
        await super().startup(sockets)
        if self.started:
            _tune_gc()
            if (parent := multiprocessing.parent_process()) is not None:
                asyncio.get_running_loop().add_reader(parent.sentinel, self._on_parent_exit, parent.sentinel)
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at a second signal without waiting for requests.

        To one of several workers the same signal may come from the first process as well as from whoever ends them all:
        for it another one is the second.
        """
        if self._captured_signals and (multiprocessing.parent_process() is None or sig not in self._captured_signals):
            self.force_exit = True
        self._captured_signals.append(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what serves; after SIGTERM once no worker holds a job. Whoever is not answered at the end is cut off."""
        if self.started:
            for waiter in (self._state.claim_waiter, self._state.job_watcher, self._state.event_stream):
                waiter.close()
            started = time.monotonic()
            if signal.SIGTERM in self._captured_signals:
                await self._wait_for_leases()
            left = self._settings.shutdown_drain_seconds - (time.monotonic() - started)
            self.config.timeout_graceful_shutdown = max(MIN_REQUEST_GRACE, int(left))
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _wait_for_leases(self) -> None:
        """Serve on, so that workers are heard of and finish, while there are live leases."""
        self._last_seen = started = time.monotonic()
        held = await self._leases()
        if has_waited := held != 0:
            _log.info("waiting for workers to finish", leases=held)
        while held != 0 and not self.force_exit and time.monotonic() - started < self._settings.shutdown_drain_seconds:
            if time.monotonic() - self._last_seen > REDIS_LOST_TIMEOUT:
                _log.warning("cannot see whether workers hold jobs; not waiting for them")
                return
            await asyncio.sleep(LEASE_POLL_INTERVAL)
            await self.on_tick(0)  # for the date of the answers
            held = await self._leases()
        if held != 0:
            _log.warning("workers may hold jobs still; their leases live on in Redis", leases=held)
        elif has_waited:
            _log.info("no worker holds a job any more")

    async def _leases(self) -> int | None:
        """Return how many leases live; `None` where Redis does not tell."""
        try:
            found = await self._state.job_manager.get_running_job_count(leased=True)
        except Exception:  # whatever it is, it must not keep the process from its orderly end
            return None
        self._last_seen = time.monotonic()
        return int(found)

    def _on_parent_exit(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self.should_exit = True


def _tune_gc() -> None:
    """Have the garbage collector pass over what lives as long as the process, and look seldom at what does not.

    Nearly nothing that a request leaves behind is in a cycle; each full look at all objects would stop every request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)
