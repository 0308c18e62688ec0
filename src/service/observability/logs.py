"""Log lines: JSON for machines, coloured text for a terminal, the same for our own and for libraries' loggers.

What a client sent cannot start a line of its own, nor reach a terminal as a control character: JSON lines are ASCII
with all else escaped, and on a terminal whatever does not print is escaped too.
"""

import asyncio
import atexit
import contextlib
import json
import logging
import select
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO, Final, TextIO, cast

import msgspec
import structlog
from structlog.processors import add_log_level
from structlog.typing import EventDict, ExcInfo, Processor

#: What stands in front of each line of a stack on a terminal, so that no text in it passes for a log line.
TRACEBACK_PREFIX: Final = "  | "
#: What comes first of that in whose course a line is written.
LEADING_FIELDS: Final = ("correlation_id", "job_id")
_json: Final = msgspec.json.Encoder(enc_hook=repr)


def configure(level: str, form: str | None, **origin: int) -> None:
    """Send every log line at or above `level` to standard error, as `json` or `console` (on a terminal by default).

    `origin` is on every line: which of several processes writes it.
    """
    console = form == "console" or (form is None and sys.stderr.isatty())
    shared: list[Processor] = [_add_standard_fields(origin)]
    rendering = _console_processors() if console else _json_processors()
    lines = _BufferedStream(sys.stderr.buffer)
    atexit.register(lines.flush)
    structlog.configure(
        processors=[*shared, *rendering, _as_bytes],
        # Our own lines go straight to the file: through the standard library each would cost several times as much.
        logger_factory=structlog.BytesLoggerFactory(cast(BinaryIO, lines)),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast(TextIO, lines))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _drop_color_message],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


class _BufferedStream:
    """A file for lines, which it gets together with others of the same turn of the event loop: a write costs most.

    No more at one time than a pipe takes whole, so that lines of several processes do not mix. They are lost where the
    disk is full or nobody reads the pipe: no work may end for its log. Threads may write, too.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.RLock()  # a handler of a signal may log while a line is written
        self._lines: list[bytes] = []
        self._size = 0
        #: The event loop at the end of whose turn they are written.
        self._loop: asyncio.AbstractEventLoop | None = None

    def write(self, line: bytes | str) -> None:
        line = line.encode(errors="backslashreplace") if isinstance(line, str) else line
        with self._lock:
            if self._size + len(line) > select.PIPE_BUF:
                self._write_pending()
            self._lines.append(line)
            self._size += len(line)

    def flush(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write_pending()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._write_pending)

    def _write_pending(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # the latter of a file that was closed
            lines, self._lines, self._size, self._loop = self._lines, [], 0, None
            if lines:
                self._file.write(b"".join(lines))
                self._file.flush()


def _add_standard_fields(origin: dict[str, int]) -> Processor:
    """Return what puts before a line what one looks for first: in one step, since every request has its line."""

    def head(logger: Any, level: str, event: EventDict) -> EventDict:
        record: logging.LogRecord | None = event.get("_record")
        add_log_level(logger, level, event)
        line = {
            "time": _now(),
            "level": event.pop("level"),
            "event": event.pop("event"),
            "logger": logger.name if record is None else record.name,
        }
        context = structlog.contextvars.get_contextvars()
        for name in LEADING_FIELDS:
            if name in context:
                line[name] = context[name]
        line.update(context)
        line.update(event)
        line.update(origin)
        return line

    return head


def _now() -> str:
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second(seconds)}.{micros:06}Z"


@lru_cache(1)  # most lines are of the same second as the one before
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _json_processors() -> list[Processor]:
    return [structlog.processors.format_exc_info, _as_json]


def _as_json(_: Any, __: str, event: EventDict) -> str:
    try:
        line = _json.encode(event)
    except (TypeError, ValueError):  # a lone surrogate, or a key that is no text
        line = b"\x7f"
    if line.isascii() and b"\x7f" not in line:
        return line.decode("ascii")
    return json.dumps(event, default=repr, skipkeys=True).replace("\x7f", "\\u007f")


def _as_bytes(_: Any, __: str, line: Any) -> bytes:
    return str(line).encode()


def _console_processors() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(timestamp_key="time", sort_keys=False, exception_formatter=_write_stack)
    return [_escape_control_chars, renderer]


def _escape_control_chars(_: Any, __: str, event: EventDict) -> EventDict:
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _escaped(text: str) -> str:
    """Return `text` with what does not print as Python writes it in a string."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _write_stack(file: TextIO, exc_info: ExcInfo) -> None:
    for line in "".join(traceback.format_exception(*exc_info)).splitlines():
        file.write(f"\n{TRACEBACK_PREFIX}{_escaped(line)}")


def _drop_color_message(_: Any, __: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of a message, coloured for a terminal."""
    event.pop("color_message", None)
    return event
