"""The dashboard's event source parses streams as the HTML Standard says, however the bytes are split."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import OpenView

#: Takes responses, each a status, a media type and a text, and the size of their chunks in bytes.
#: Returns the requests that were sent and the events that were received.
RUN = """async ([responses, size]) => {
  const { FetchEventSource } = await import(document.querySelector("[href*='fetch-event-source.js']").href);
  const log = [], originalFetch = window.fetch;
  const chunks = (text) => new ReadableStream({
    start(stream) {
      const bytes = new TextEncoder().encode(text);
      for (let start = 0; start < bytes.length; start += size) stream.enqueue(bytes.slice(start, start + size));
      stream.close();
    },
  });
  window.fetch = async (url, { headers }) => {
    const [status, type, text] = responses.shift() ?? [204, "", ""];
    log.push(`requested after ${headers["Last-Event-ID"] ?? "nothing"}`);
    return new Response(status === 204 ? null : chunks(text), { status, headers: { "Content-Type": type } });
  };
  const source = new FetchEventSource("somewhere");
  for (const name of ["message", "changed"])
    source.addEventListener(name, (event) => log.push(`${name} ${event.lastEventId}: ${event.data}`));
  await new Promise((resolve) => source.addEventListener("error", () => source.isClosed && resolve()));
  window.fetch = originalFetch;
  return log;
}"""
STREAM = "text/event-stream; charset=utf-8"
FRAMES = (
    "retry: 1\n\n: alive\n\nevent: changed\nid: 1\ndata: ä\u2028\n\n"
    "data:two\r\ndata\r\ndata:  lines\r\n\r\nid: 2\r\rid: a\0b\rother: x\r\rretry: soon\n\nevent: changed\ndata: cut o"
)
EXPECTED = ["requested after nothing", "changed 1: ä\u2028", "message 1: two\n\n lines", "requested after 2"]


@pytest.fixture
def page(open_view: OpenView) -> Page:
    return open_view("#/nothing")


def receive(page: Page, size: int, *responses: tuple[int, str, str]) -> Any:
    return page.evaluate(RUN, [list(responses), size])


def test_a_stream_is_parsed_however_its_bytes_are_split(page: Page) -> None:
    for size in (1, 2, 3, 5, 1000):
        assert receive(page, size, (200, STREAM, FRAMES)) == EXPECTED, size


def test_other_responses_close_the_source(page: Page) -> None:
    for response in ((503, STREAM, FRAMES), (200, "text/html", FRAMES), (204, STREAM, "")):
        assert receive(page, 9, response) == ["requested after nothing"], response
