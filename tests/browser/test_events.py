"""The page's own reader of event streams: as the HTML Standard has them, however the bytes are cut."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open

#: Listens to answers in turn, each a status, a media type and a text that comes in pieces of so many bytes; returns
#: what was sent and heard.
LISTEN = """async ([answers, size]) => {
  const { Events } = await import(document.querySelector("[href*='fetch-event-source.js']").href);
  const heard = [], fetched = window.fetch;
  const pieces = (text) => new ReadableStream({
    start(stream) {
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length; at += size) stream.enqueue(bytes.slice(at, at + size));
      stream.close();
    },
  });
  window.fetch = async (url, { headers }) => {
    const [status, type, text] = answers.shift() ?? [204, "", ""];
    heard.push(`asked after ${headers["Last-Event-ID"] ?? "nothing"}`);
    return new Response(status === 204 ? null : pieces(text), { status, headers: { "Content-Type": type } });
  };
  const events = new Events("somewhere");
  for (const name of ["message", "changed"])
    events.addEventListener(name, (event) => heard.push(`${name} ${event.lastEventId}: ${event.data}`));
  await new Promise((resolve) => events.addEventListener("error", () => events.isClosed && resolve()));
  window.fetch = fetched;
  return heard;
}"""
STREAM = "text/event-stream; charset=utf-8"
TOLD = (
    "retry: 1\n\n: alive\n\nevent: changed\nid: 1\ndata: ä\u2028\n\n"
    "data:two\r\ndata\r\ndata:  lines\r\n\r\nid: 2\r\rid: a\0b\rother: x\r\rretry: soon\n\nevent: changed\ndata: cut o"
)
HEARD = ["asked after nothing", "changed 1: ä\u2028", "message 1: two\n\n lines", "asked after 2"]


@pytest.fixture
def page(open_view: Open) -> Page:
    return open_view("#/nothing")


def listen(page: Page, size: int, *answers: tuple[int, str, str]) -> Any:
    return page.evaluate(LISTEN, [list(answers), size])


def test_a_stream_is_heard_however_its_bytes_are_cut(page: Page) -> None:
    for size in (1, 2, 3, 5, 1000):
        assert listen(page, size, (200, STREAM, TOLD)) == HEARD, size


def test_what_is_no_stream_is_the_end(page: Page) -> None:
    for answer in ((503, STREAM, TOLD), (200, "text/html", TOLD), (204, STREAM, "")):
        assert listen(page, 9, answer) == ["asked after nothing"], answer
