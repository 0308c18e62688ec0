"""The HTTP client of the commands, and the errors that its responses mean."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from jobstate.connections import UnusableProxy, connection_options
from jobstate.redirects import is_redirect, redirect_advice
from jobstate_cli.config import ClientConfig
from jobstate_cli.errors import ClientError, Misconfigured, RequestRejected, ServiceUnavailable
from jobstate_cli.records import Problem, Record, decoded

#: Seconds for a response: more than the 3.5 s after which the service itself answers 503.
TIMEOUT: Final = 10.0
#: Seconds without data after which a stream counts as disconnected: three of the stream's heartbeats.
STREAM_READ_TIMEOUT: Final = 45.0
#: Attempts for a request, seconds between them, and the maximum of `Retry-After` that is waited for.
ATTEMPTS: Final = 3
PAUSE: Final = 0.5
MAX_PAUSE: Final = 5.0
#: Statuses that mean that a later retry may succeed.
RETRYABLE_STATUSES: Final = {408, 429, *range(500, 600)}
#: Errors after which the service may have executed the request: the connection was closed, or there was no response.
DISCONNECTED: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
TIMED_OUT: Final = (httpx.ReadTimeout, httpx.WriteTimeout)
#: The status for a missing or invalid API key.
UNAUTHENTICATED: Final = 401
#: Problems with a 5xx status after which the request was certainly not executed.
NOTHING_DONE: Final = {"draining", "overloaded"}
#: Smaller differences between the clocks are ignored: the header `Date` has whole seconds.
CLOCK_TOLERANCE: Final = timedelta(seconds=2)

Query = Mapping[str, str | int]


@contextlib.asynccontextmanager
async def open_client(
    config: ClientConfig, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator["Service"]:
    """Yield a client for the service; tests pass a `transport`. Raises `Misconfigured` for an unusable proxy."""
    try:
        options = {"transport": transport} if transport else connection_options(config.url)
    except UnusableProxy as error:
        raise Misconfigured(str(error)) from error
    async with httpx.AsyncClient(base_url=config.url, headers=config.headers, timeout=TIMEOUT, **options) as http:
        yield Service(http)


class Service:
    """Sends the requests of the commands. Each method raises `RequestRejected` and `ServiceUnavailable`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Send requests with `http`, whose `base_url` is the service."""
        self._http = http
        self._clock_offset = timedelta()

    @property
    def url(self) -> str:
        """The URL of the service, without credentials."""
        return str(self._http.base_url.copy_with(userinfo=b"")).rstrip("/")

    @property
    def now(self) -> datetime:
        """The time on the service's clock, estimated from the header `Date`."""
        return datetime.now(UTC) + self._clock_offset

    async def create(self, body: bytes, key: str | None) -> Record:
        """Create a job. A second request with the same key, or the same id in the body, creates no other."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return Record.of((await self._request("POST", "/v1/jobs", content=body, headers=headers)).content)

    async def job(self, job_id: str) -> Record:
        """Return a job's record."""
        return Record.of(await self.read(job_path(job_id)))

    async def result(self, job_id: str) -> bytes:
        """Return a job's result as JSON; empty if it completed without one."""
        return await self.read(f"{job_path(job_id)}/result")

    async def cancel(self, job_id: str) -> Record:
        """Cancel a job. A leased job is still running in the returned record."""
        response = await self._request("POST", f"{job_path(job_id)}/cancel", headers={"Idempotency-Key": str(uuid4())})
        return Record.of(response.content)

    async def read(self, path: str, query: Query | None = None) -> bytes:
        """Return the JSON at a path."""
        return (await self._request("GET", path, query)).content

    @contextlib.asynccontextmanager
    async def stream(self, path: str, last_event_id: str = "") -> AsyncIterator[AsyncIterator[ServerSentEvent] | None]:
        """Yield the events of a stream after `last_event_id`, or `None` if no more will come."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(TIMEOUT, read=STREAM_READ_TIMEOUT)
        with self._map_errors():
            async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                self._check(response)
                yield None if response.status_code == 204 else EventSource(response).aiter_sse()

    @contextlib.contextmanager
    def _map_errors(self) -> Iterator[None]:
        """Convert the errors of httpx into `ServiceUnavailable`."""
        try:
            yield
        except DISCONNECTED as error:
            reason = f"the connection to {self.url} was lost ({error_text(error)})"
            raise ServiceUnavailable(reason, retry_after=PAUSE, outcome_unknown=True) from error
        except TIMED_OUT as error:
            raise ServiceUnavailable(f"{self.url} did not respond", outcome_unknown=True) from error
        except httpx.RequestError as error:
            raise ServiceUnavailable(f"{self.url} cannot be reached ({error_text(error)})") from error
        except SSEError as error:
            raise ServiceUnavailable(f"{self.url} did not send an event stream ({error})") from error

    async def _request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send an idempotent request; retry it if the response was lost or has a short `Retry-After`."""
        request = self._http.build_request(method, path, params=query, content=content, headers=headers)
        attempt = 1
        while True:
            try:
                with self._map_errors():
                    response = await self._http.send(request)
                    self._check(response)
                    return response
            except ServiceUnavailable as error:
                if attempt == ATTEMPTS or not 0 < error.retry_after <= MAX_PAUSE:
                    raise
                await asyncio.sleep(error.retry_after)
                attempt += 1

    def _check(self, response: httpx.Response) -> None:
        with contextlib.suppress(KeyError, ValueError):
            ahead = parsedate_to_datetime(response.headers["Date"]) - datetime.now(UTC)
            self._clock_offset = ahead if abs(ahead) > CLOCK_TOLERANCE else timedelta()
        if not response.is_success:
            raise error_from_response(response)


def job_path(job_id: str) -> str:
    """Return the path of a job, with its id percent-encoded."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def error_text(error: Exception) -> str:
    """Return the text of an error, or its type if it has no text."""
    return str(error) or type(error).__name__


def error_from_response(response: httpx.Response) -> ClientError:
    """Return the error that an unsuccessful response means."""
    if is_redirect(response):
        return RequestRejected(f"{response.status_code} {response.reason_phrase}: {redirect_advice(response)}")
    problem = read_problem(response)
    reason = problem.detail or problem.title or f"{response.status_code} {response.reason_phrase}"
    if response.status_code in RETRYABLE_STATUSES:
        outcome_unknown = response.status_code >= 500 and problem.name not in NOTHING_DONE
        return ServiceUnavailable(
            reason, retry_after=seconds(response.headers.get("Retry-After", "")), outcome_unknown=outcome_unknown
        )
    hint = " (set JOBSTATE_API_KEY)" if response.status_code == UNAUTHENTICATED else ""
    return RequestRejected(reason + hint, problem.name)


def read_problem(response: httpx.Response) -> Problem:
    """Return the problem details of a response; empty ones if another server sent it."""
    try:
        return decoded(Problem, response.content)
    except ServiceUnavailable:
        return Problem()


def seconds(retry_after: str) -> float:
    """Return the seconds of `Retry-After`; 0 for a date, which the service does not send."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
