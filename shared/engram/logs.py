"""Structured logs: ids and counts, never content or secrets."""

import logging
import sys
from typing import Any, Literal

import structlog


def configure(
    service: str,
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["auto", "json", "console"] = "auto",
) -> None:
    """Write log lines to standard error, as JSON or for a terminal.

    Args:
        service: put on every line.
        level: least severe line written.
        form: ``auto`` writes for people when standard error is a terminal.
    """
    pretty = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _named(service),
            _exceptions_by_name,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_NameOnly())
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)


class _NameOnly(logging.Formatter):
    """Libraries' own messages and tracebacks may quote what they were given: only who and what."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the logger's name, the level and the type of the error."""
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        return f"{record.name} {record.levelname} {error}".rstrip()


def _named(service: str) -> structlog.types.Processor:
    def add(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["service"] = service
        return event

    return add


def _exceptions_by_name(
    _: Any, __: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    # A traceback's last line may quote a row or a text; the type and the place do not.
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frame = error.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        if frame:
            code = frame.tb_frame.f_code
            event["at"] = f"{code.co_qualname}:{frame.tb_lineno}"
    return event
