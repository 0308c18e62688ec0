"""Log lines: JSON for machines, coloured text for a terminal, the same for our own and for libraries' loggers."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor


def configure(level: str, form: str | None) -> None:
    """Send every log line at or above `level` to standard error, as `json` or `console` (on a terminal by default)."""
    console = form == "console" or (form is None and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_markup],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(console)],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _rendering(console: bool) -> list[Any]:
    if console:
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _without_markup(_: Any, __: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of a message, coloured for a terminal."""
    event.pop("color_message", None)
    return event
