"""The service as a terminal sees it: each call, and what its refusals mean."""

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
from jobstate_cli.errors import ClientError, Misconfigured, RequestRejected, ServiceUnavailable
from jobstate_cli.records import Problem, Record, decoded
from jobstate_cli.target import ClientConfig

#: Seconds for an answer: more than the 3.5 s within which the service itself gives up.
TIMEOUT: Final = 10.0
#: Seconds of silence after which a stream is dead: three heartbeats.
STREAM_READ_TIMEOUT: Final = 45.0
#: How often a request is sent, the seconds in between, and for how long the service may ask to be left alone.
ATTEMPTS: Final = 3
PAUSE: Final = 0.5
MAX_PAUSE: Final = 5.0
#: Statuses that say "not now": slow, too often, or any trouble of the service or of what stands before it.
RETRYABLE_STATUSES: Final = {408, 429, *range(500, 600)}
#: What leaves it unknown whether the request was carried out: the line was cut, or nothing came.
DISCONNECTED: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
TIMED_OUT: Final = (httpx.ReadTimeout, httpx.WriteTimeout)
#: The status that asks for an API key, or for another one.
UNAUTHENTICATED: Final = 401
#: Problems of the kind "not now" that say that nothing was done.
NOTHING_DONE: Final = {"draining", "overloaded"}
#: Seconds that the clocks may differ by before it is taken to be so; an answer tells the time in whole ones.
CLOCK_TOLERANCE: Final = timedelta(seconds=2)

Query = Mapping[str, str | int]


@contextlib.asynccontextmanager
async def open_client(
    target: ClientConfig, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator["Service"]:
    """Yield the service, perhaps over another transport. Raises `Misconfigured` for a proxy that cannot be used."""
    try:
        options = {"transport": transport} if transport else connection_options(target.url)
    except UnusableProxy as error:
        raise Misconfigured(str(error)) from error
    async with httpx.AsyncClient(base_url=target.url, headers=target.headers, timeout=TIMEOUT, **options) as http:
        yield Service(http)


class Service:
    """The calls. Each raises `Refused`, and `ServiceAway` where there was no usable answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Use a client whose `base_url` is the service."""
        self._http = http
        self._clock_offset = timedelta()

    @property
    def url(self) -> str:
        """Where it is, for the eyes of others."""
        return str(self._http.base_url.copy_with(userinfo=b"")).rstrip("/")

    @property
    def now(self) -> datetime:
        """The time on the service's clock, as well as an answer's header `Date` tells it."""
        return datetime.now(UTC) + self._clock_offset

    async def create(self, body: bytes, key: str | None) -> Record:
        """Create a job; the same key, or the same id in the body, creates nothing twice."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return Record.of((await self._request("POST", "/v1/jobs", content=body, headers=headers)).content)

    async def job(self, job_id: str) -> Record:
        """Return a job's record."""
        return Record.of(await self.read(job_path(job_id)))

    async def result(self, job_id: str) -> bytes:
        """Return the bare result as JSON; empty where the job completed without one."""
        return await self.read(f"{job_path(job_id)}/result")

    async def cancel(self, job_id: str) -> Record:
        """Cancel a job, or ask its worker to stop: then it is still running."""
        answer = await self._request("POST", f"{job_path(job_id)}/cancel", headers={"Idempotency-Key": str(uuid4())})
        return Record.of(answer.content)

    async def read(self, path: str, query: Query | None = None) -> bytes:
        """Return the JSON at an address."""
        return (await self._request("GET", path, query)).content

    @contextlib.asynccontextmanager
    async def stream(self, path: str, last_event_id: str = "") -> AsyncIterator[AsyncIterator[ServerSentEvent] | None]:
        """Yield the events of a stream from after `last_event_id` on; `None` if no more will come."""
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
        """Raise what httpx raises as `ServiceAway`."""
        try:
            yield
        except DISCONNECTED as error:
            reason = f"the connection to {self.url} was lost ({error_text(error)})"
            raise ServiceUnavailable(reason, retry_after=PAUSE, outcome_unknown=True) from error
        except TIMED_OUT as error:
            raise ServiceUnavailable(f"{self.url} does not answer", outcome_unknown=True) from error
        except httpx.RequestError as error:
            raise ServiceUnavailable(f"{self.url} cannot be reached ({error_text(error)})") from error
        except SSEError as error:
            raise ServiceUnavailable(f"what answers at {self.url} sends no events ({error})") from error

    async def _request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request that may be repeated, again where its reply was lost or the service asks for a moment."""
        request = self._http.build_request(method, path, params=query, content=content, headers=headers)
        attempt = 1
        while True:
            try:
                with self._map_errors():
                    response = await self._http.send(request)
                    self._check(response)
                    return response
            except ServiceUnavailable as away:
                if attempt == ATTEMPTS or not 0 < away.retry_after <= MAX_PAUSE:
                    raise
                await asyncio.sleep(away.retry_after)
                attempt += 1

    def _check(self, response: httpx.Response) -> None:
        with contextlib.suppress(KeyError, ValueError):
            ahead = parsedate_to_datetime(response.headers["Date"]) - datetime.now(UTC)
            self._clock_offset = ahead if abs(ahead) > CLOCK_TOLERANCE else timedelta()
        if not response.is_success:
            raise error_from_response(response)


def job_path(job_id: str) -> str:
    """Return a job's path."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def error_text(error: Exception) -> str:
    """Return what an error says, or else what it is."""
    return str(error) or type(error).__name__


def error_from_response(response: httpx.Response) -> ClientError:
    """Return what an answer that is no success means."""
    if is_redirect(response):
        return RequestRejected(f"{response.status_code} {response.reason_phrase}: {redirect_advice(response)}")
    problem = read_problem(response)
    reason = problem.detail or problem.title or f"{response.status_code} {response.reason_phrase}"
    if response.status_code in RETRYABLE_STATUSES:
        outcome_unknown = response.status_code >= 500 and problem.name not in NOTHING_DONE
        return ServiceUnavailable(
            reason, retry_after=seconds(response.headers.get("Retry-After", "")), outcome_unknown=outcome_unknown
        )
    hint = " (JOBSTATE_API_KEY)" if response.status_code == UNAUTHENTICATED else ""
    return RequestRejected(reason + hint, problem.name)


def read_problem(response: httpx.Response) -> Problem:
    """Return the problem details of an answer; an empty one where what stands before the service has answered."""
    try:
        return decoded(Problem, response.content)
    except ServiceUnavailable:
        return Problem()


def seconds(retry_after: str) -> float:
    """Read the header's seconds; its other form, a date, is not used by the service."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
