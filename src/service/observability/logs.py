"""Log output as JSON or as coloured text, for the loggers of the service and of libraries.

Values that clients send can neither add a line nor send control characters to a terminal. JSON lines are ASCII with the
rest escaped, and text for a terminal has unprintable characters escaped.
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

#: Prefix of each traceback line on a terminal, so that no text in it looks like a log line.
TRACEBACK_PREFIX: Final = "  | "
#: The context fields that come first in a line.
LEADING_FIELDS: Final = ("correlation_id", "job_id")
_json: Final = msgspec.json.Encoder(enc_hook=repr)


def configure(level: str, log_format: str | None, **static_fields: int) -> None:
    """Write every log line at or above `level` to standard error, as `json` or `console`.

    `None` is `console` on a terminal and `json` elsewhere. Every line has the `static_fields`.
    """
    is_console = log_format == "console" or (log_format is None and sys.stderr.isatty())
    add_fields = _add_standard_fields(static_fields)
    rendering: list[Processor] = (
        _console_processors() if is_console else [structlog.processors.format_exc_info, _as_json]
    )
    stream = _BufferedStream(sys.stderr.buffer)
    atexit.register(stream.flush)
    structlog.configure(
        processors=[add_fields, *rendering, _as_bytes],
        # Faster than the standard library by several times.
        logger_factory=lambda name=None: _Logger(stream, name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(cast(TextIO, stream))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[add_fields, structlog.stdlib.ExtraAdder(), _drop_color_message],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


class _BufferedStream:
    """A thread-safe stream that writes all lines of one event loop iteration with one system call.

    Those who write a warning or an error call `write_pending`: a process that is killed must not lose it. A write has
    at most `PIPE_BUF` bytes, so that lines of several processes do not mix. It drops lines that it cannot write, on a
    full disk or into a closed pipe.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.RLock()  # reentrant, for signal handlers that log
        self._lines: list[bytes] = []
        self._size = 0
        #: The event loop whose next iteration writes the lines; `None` if none is scheduled.
        self._loop: asyncio.AbstractEventLoop | None = None

    def write(self, line: bytes | str) -> None:
        line = line.encode(errors="backslashreplace") if isinstance(line, str) else line
        with self._lock:
            if self._size + len(line) > select.PIPE_BUF:
                self.write_pending()
            self._lines.append(line)
            self._size += len(line)

    def flush(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write_pending()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self.write_pending)

    def write_pending(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # ValueError: the file is closed
            lines, self._lines, self._size, self._loop = self._lines, [], 0, None
            if lines:
                self._file.write(b"".join(lines))
                self._file.flush()


class _Logger:
    """The logger below structlog, which calls the method of a line's level."""

    def __init__(self, stream: _BufferedStream, name: str | None) -> None:
        self._stream = stream
        self.name = name

    def info(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        self._stream.flush()

    def error(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        self._stream.write_pending()

    debug = info
    warning = critical = error


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of the standard library's loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if record.levelno >= logging.WARNING:
            cast(_BufferedStream, self.stream).write_pending()


def _add_standard_fields(static_fields: dict[str, int]) -> Processor:
    """Return a processor that adds time, level, logger and context; one step, because every request logs a line."""

    def add_fields(logger: Any, level: str, event: EventDict) -> EventDict:
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
        line.update(static_fields)
        return line

    return add_fields


def _now() -> str:
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second(seconds)}.{micros:06}Z"


@lru_cache(1)  # most lines have the same second as the previous one
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _as_json(_: Any, __: str, event: EventDict) -> str:
    try:
        line = _json.encode(event)
    except (TypeError, ValueError):  # a lone surrogate, or a key that is not a string
        line = b"\x7f"
    if line.isascii() and b"\x7f" not in line:
        return line.decode("ascii")
    return json.dumps(event, default=repr, skipkeys=True).replace("\x7f", "\\u007f")


def _as_bytes(_: Any, __: str, line: Any) -> bytes:
    return str(line).encode()


def _console_processors() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        timestamp_key="time", sort_keys=False, exception_formatter=_write_traceback
    )
    return [_escape_control_chars, renderer]


def _escape_control_chars(_: Any, __: str, event: EventDict) -> EventDict:
    return {name: _escape(value) if isinstance(value, str) else value for name, value in event.items()}


def _escape(text: str) -> str:
    """Return `text` with unprintable characters as escape sequences of Python."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _write_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    for line in "".join(traceback.format_exception(*exc_info)).splitlines():
        file.write(f"\n{TRACEBACK_PREFIX}{_escape(line)}")


def _drop_color_message(_: Any, __: str, event: EventDict) -> EventDict:
    """Drop the coloured copy of a message that uvicorn adds."""
    event.pop("color_message", None)
    return event
