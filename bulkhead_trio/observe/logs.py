"""Structured logs: one event a line, with the request's id bound to every line of the request."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import msgspec
import structlog


def _encode(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure_logging(*, level: str, format: str | None, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records to ``stream``, in one form.

    Args:
        level: the least level that is written: ``debug``, ``info``, ``warning``, ``error``.
        format: ``console`` for people, ``json`` for machines; ``None`` asks whether ``stream`` is
            a terminal.
        stream: standard error when not given.
    """
    out = sys.stderr if stream is None else stream
    is_console = out.isatty() if format is None else format == "console"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=out.isatty())]
        if is_console
        else [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=_encode),
        ]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
