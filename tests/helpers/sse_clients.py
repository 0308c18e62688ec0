"""An SSE client that reads a stream in a thread."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import EventSource, ServerSentEvent

from tests.helpers.polling import TIMEOUT, wait_until


class SseClient:
    """Reads a stream in a thread until the stream closes; `events` has what it received."""

    def __init__(self, url: str, path: str, last_event_id: str | None = None, **query: str | list[str]) -> None:
        self.events: list[ServerSentEvent] = []
        self.closed = threading.Event()
        self.comments = 0
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT)
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        self._stack = contextlib.ExitStack()
        self.response = self._stack.enter_context(self._http.stream("GET", path, headers=headers, params=query))
        self._thread = threading.Thread(target=self._read)
        if self.response.status_code == 200:
            self._thread.start()
        else:
            self.closed.set()

    def _read(self) -> None:
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError, OSError):
            for event in EventSource(self.response).iter_sse():
                if event.data:
                    self.events.append(event)
        self.closed.set()

    @property
    def types_and_statuses(self) -> list[tuple[str, str]]:
        """The type of each event, and the job status in it."""
        return [(event.event, event.json().get("status", "")) for event in self.events]

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    def wait_until(self, condition: Callable[[list[ServerSentEvent]], Any], description: str = "event") -> Any:
        """Return the first true result of `condition`, called with the received events."""
        return wait_until(lambda: condition(self.events), description)

    def wait_until_closed(self) -> Self:
        assert self.closed.wait(TIMEOUT), f"the stream is still open after {self.types_and_statuses}"
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self.response.extensions["network_stream"].get_extra_info("socket").shutdown(2)
        if self._thread.ident is not None:
            self._thread.join(TIMEOUT)
        with contextlib.suppress(httpx.HTTPError):
            self._stack.close()
        self._http.close()


@contextlib.contextmanager
def open_clients(*clients: SseClient) -> Iterator[None]:
    """Close all clients when the block ends."""
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
        yield
