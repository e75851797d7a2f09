"""Structured logs: one event a line, with the request's id bound to every line of the request."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, TextIO, cast

import msgspec
import structlog

from bulkhead_trio.policies.context import current_request


def _encode(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _say_which_request(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Every line that is written for a request carries its number."""
    if (request := current_request()) is not None:
        if request.request_id is not None:
            event.setdefault("request_id", request.request_id)
        if request.trace_id is not None:
            event.setdefault("trace_id", request.trace_id)
    return event


class Unbreakable:
    """A stream whose writes never fail: a full disk under the log must not end a request.

    The standard library's handlers do the same with their own errors.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """As the stream's own."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """As the stream's own."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logging(
    *,
    level: str,
    format: str | None,
    stream: TextIO | None = None,
    always: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Send structlog's and the standard library's records to ``stream``, in one form.

    Args:
        level: the least level that is written: ``debug``, ``info``, ``warning``, ``error``.
        format: ``console`` for people, ``json`` for machines; ``None`` asks whether ``stream`` is
            a terminal.
        stream: standard error when not given.
        always: what every line says, whoever writes it.
    """

    def add_always(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.update(always)
        return event

    out = sys.stderr if stream is None else stream
    is_console = out.isatty() if format is None else format == "console"
    shared: list[structlog.typing.Processor] = [
        add_always,
        _say_which_request,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if is_console
        else [
            # Never the frames' local variables: headers with keys and passwords are among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(serializer=_encode),
        ]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Unbreakable(out))),
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
