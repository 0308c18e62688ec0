"""One server process: uvicorn with the limits and the shutdown of this service."""

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
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.server.forwarded import ForwardedHeaders
from service.server.protocol import protocol_factory
from service.server.rlimits import raise_open_file_limit
from service.server.security_headers import SECURITY_HEADERS
from service.services import SERVICES, Services
from service.settings import Settings

#: Seconds between two counts of the leases during shutdown.
LEASE_POLL_INTERVAL: Final = 0.2
#: Seconds without an answer from Redis after which shutdown stops waiting for leases.
REDIS_LOST_TIMEOUT: Final = 5.0
#: Minimum seconds for requests in flight once the wait for leases has ended.
MIN_REQUEST_GRACE: Final = 1
#: Net allocations that start a collection of the youngest generation.
GC_THRESHOLD: Final = 20_000

_log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """Serves until a signal or the exit of its parent process, then finishes the requests in flight."""

    def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
        """Store jobs in the Redis at `redis_url`. Call `started` once the server accepts requests."""
        raise_open_file_limit(settings)
        self._on_started = started
        self._settings = settings
        #: When shutdown last read the number of leases (`time.monotonic`).
        self._leases_read_at = 0.0
        metrics, self._shutdown = Metrics(), Shutdown()
        service, self._state = create_asgi_app(settings, redis_url, metrics, self._shutdown)
        application: Any = service
        if settings.trusted_proxies:
            application = ForwardedHeaders(application, list(settings.trusted_proxies))
        super().__init__(
            uvicorn.Config(
                application,
                http=protocol_factory(settings, metrics.count_problem),
                ws="none",
                lifespan="on",
                proxy_headers=False,  # `ForwardedHeaders` does this
                timeout_keep_alive=settings.keep_alive_seconds,
                access_log=False,
                log_config=None,
                server_header=False,
                headers=list(SECURITY_HEADERS),
                timeout_graceful_shutdown=settings.shutdown_drain_seconds,
                # `RequestScheduler` may start a request within another one's context.
                reset_contextvars=True,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, call `started` and watch for the exit of the parent process."""
        await super().startup(sockets)
        if self.started:
            _tune_gc()
            if (parent := multiprocessing.parent_process()) is not None:
                asyncio.get_running_loop().add_reader(parent.sentinel, self._on_parent_exit, parent.sentinel)
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down. On a second signal do not wait for leases or requests.

        A child process may get one signal twice, from the supervisor and from the terminal or process manager. Only a
        different signal counts as its second one.
        """
        if self._captured_signals and (multiprocessing.parent_process() is None or sig not in self._captured_signals):
            self.force_exit = True
        self._captured_signals.append(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down: after SIGTERM once all leases have ended. Abort connections that remain after the drain time."""
        if self.started:
            signals = [signal.Signals(number).name for number in self._captured_signals]
            self._shutdown.begin(signals[0] if signals else "parent process exited")
            _log.info("shutdown started", reason=self._shutdown.reason)
            started = time.monotonic()
            if signal.SIGTERM in self._captured_signals:
                await self._wait_for_leases()
            left = self._settings.shutdown_drain_seconds - (time.monotonic() - started)
            self.config.timeout_graceful_shutdown = max(MIN_REQUEST_GRACE, int(left))
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _wait_for_leases(self) -> None:
        """Keep serving while leases are active, so that workers can send heartbeats and results."""
        self._leases_read_at = time.monotonic()
        deadline = self._leases_read_at + self._settings.shutdown_drain_seconds
        leases = await self._leases()
        if has_waited := leases != 0:
            _log.info("shutdown waiting for leases", leases=leases)
        while leases != 0 and not self.force_exit and time.monotonic() < deadline:
            if time.monotonic() - self._leases_read_at > REDIS_LOST_TIMEOUT:
                _log.warning("shutdown cannot read leases")
                return
            await asyncio.sleep(LEASE_POLL_INTERVAL)
            await self.on_tick(0)  # updates the Date header
            leases = await self._leases()
        if leases != 0:
            _log.warning("shutdown timeout, leases still active", leases=leases)
        elif has_waited:
            _log.info("shutdown leases released")

    async def _leases(self) -> int | None:
        """Return the number of active leases, or `None` if it cannot be read from Redis."""
        try:
            services: Services = self._state[SERVICES]
            count = await services.jobs.get_running_job_count(leased=True)
        except Exception:  # no error may prevent the shutdown
            return None
        self._leases_read_at = time.monotonic()
        return count

    def _on_parent_exit(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self.should_exit = True


def _tune_gc() -> None:
    """Exclude the objects that exist at startup from garbage collection, and collect the others less often.

    A request leaves almost no reference cycles, and a full collection delays every request in progress.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)
