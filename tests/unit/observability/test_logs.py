import asyncio
import contextlib
import json
import logging
import re
import select
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service.observability import logs


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    level = logging.root.level
    monkeypatch.setattr(logging.root, "handlers", [])
    structlog.contextvars.clear_contextvars()
    yield
    logging.root.setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_json_object_with_level_time_logger_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(correlation_id="c-1")
    structlog.stdlib.get_logger("service.here").info("two\nlines é", jobs=3)
    [line] = written(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "two\nlines é",
        "jobs": 3,
        "level": "info",
        "logger": "service.here",
        "correlation_id": "c-1",
    }


def test_lines_of_libraries_have_the_format_of_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(correlation_id="c-1")
    logging.getLogger("uvicorn.error").warning("%s is here", "it", extra={"color_message": "markup", "port": 7})
    [line] = written(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "it is here",
        "level": "warning",
        "logger": "uvicorn.error",
        "correlation_id": "c-1",
        "port": 7,
    }


def test_an_error_is_logged_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    for logger in (structlog.stdlib.get_logger("service"), logging.getLogger("library")):
        try:
            raise ValueError("no fuel")
        except ValueError as error:
            logger.error("it failed", exc_info=error)
    for line in written(capsys):
        assert line["exception"].startswith("Traceback (most recent call last)")
        assert line["exception"].endswith("ValueError: no fuel")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str], level: str, shown: list[str]) -> None:
    logs.configure(level, "json")
    for logger in (structlog.stdlib.get_logger("service"), logging.getLogger("library")):
        for name in ("debug", "info", "warning", "error"):
            getattr(logger, name)("hello")
    assert [line["level"] for line in written(capsys)] == shown * 2


def test_the_default_format_is_json_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", None)
    structlog.stdlib.get_logger("service").info("hello")
    assert written(capsys)[0]["event"] == "hello"


def test_console_lines_are_readable_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    structlog.stdlib.get_logger("service").info("hello", jobs=3)
    text = capsys.readouterr().err
    assert "hello" in text
    assert "jobs" in text
    assert not text.lstrip().startswith("{")


#: Text that could break out of a line or control a terminal: line ends, escape sequences, DEL, C1, bidi, a surrogate.
HOSTILE = 'a\nb\r\n{"event": "forged"}\u2028c\x85d\x1b[31me\x7ff\x9bg\u202eh\ud800i'


@pytest.mark.parametrize(
    "logger", [structlog.get_logger("service"), logging.getLogger("library")], ids=["service", "library"]
)
def test_client_text_cannot_break_out_of_a_json_line(capsys: pytest.CaptureFixture[str], logger: Any) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(correlation_id=HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception(HOSTILE)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert all(" " <= character <= "~" for character in text.rstrip("\n"))
    line = json.loads(text)
    assert (line["event"], line["correlation_id"]) == (HOSTILE, HOSTILE)
    assert HOSTILE in line["exception"]


@pytest.mark.parametrize(
    "logger", [structlog.get_logger("service"), logging.getLogger("library")], ids=["service", "library"]
)
def test_client_text_cannot_control_a_terminal(capsys: pytest.CaptureFixture[str], logger: Any) -> None:
    logs.configure("info", "console")
    structlog.contextvars.bind_contextvars(correlation_id=HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception(HOSTILE)
    first, *traceback = capsys.readouterr().err.splitlines()
    assert "forged" in first
    assert traceback, "a traceback follows"
    assert all(line.startswith("  | ") for line in traceback)
    own_colours = re.sub(r"\x1b\[\d*m", "", "\n".join([first.replace("\\x1b[31m", ""), *traceback]))
    assert own_colours.replace("\n", "").isprintable()


def test_a_value_that_json_cannot_encode_is_still_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger("service").info("hello", value=object(), names={("a", 1): 2})
    assert "object object" in written(capsys)[0]["value"]


def test_a_json_line_starts_with_the_standard_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.contextvars.bind_contextvars(job_id="j", correlation_id="c")
    structlog.get_logger("service").info("hello", zeal=1)
    names = list(written(capsys)[0])
    assert names == ["time", "level", "event", "logger", "correlation_id", "job_id", "zeal"]


def test_every_line_has_the_number_of_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", worker=3)
    for logger in (structlog.get_logger("service"), logging.getLogger("library")):
        logger.info("hello")
    assert [line["worker"] for line in written(capsys)] == [3, 3]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_that_cannot_be_written_raises_nothing(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        logs.configure("info", log_format)
        structlog.stdlib.get_logger("service").warning("lost")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


def record_writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the list of the writes to standard error from now on."""
    written: list[bytes] = []

    class File:
        def write(self, data: bytes) -> None:
            written.append(data)

        def flush(self) -> None: ...

    class Standard:
        buffer = File()

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", Standard())
    return written


async def test_lines_of_one_event_loop_iteration_are_written_together_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes = record_writes(monkeypatch)
    logs.configure("info", "json")
    for number in range(3):
        structlog.get_logger("service").info(f"{number}")
    logging.getLogger("library").info("3")
    assert writes == []
    await asyncio.sleep(0)
    [batch] = writes
    assert [json.loads(line)["event"] for line in batch.splitlines()] == ["0", "1", "2", "3"]

    for _ in range(3):
        structlog.get_logger("service").info("x" * (select.PIPE_BUF // 2))
    await asyncio.sleep(0)
    assert [len(data) <= select.PIPE_BUF for data in writes[1:]] == [True] * 3

    await asyncio.to_thread(structlog.get_logger("service").info, "of a thread")
    assert b"of a thread" in writes[-1]


@pytest.mark.parametrize("level", ["warning", "error", "exception", "critical"])
@pytest.mark.parametrize("logger", ["the service", "a library"])
async def test_a_warning_or_an_error_is_written_at_once_with_the_lines_before_it(
    monkeypatch: pytest.MonkeyPatch, logger: str, level: str
) -> None:
    writes = record_writes(monkeypatch)
    logs.configure("info", "json")
    structlog.get_logger("service").info("before")
    own = structlog.get_logger("service") if logger == "the service" else logging.getLogger("library")
    getattr(own, level)("urgent")
    assert [json.loads(line)["event"] for line in b"".join(writes).splitlines()] == ["before", "urgent"]
