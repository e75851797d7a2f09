"""Structured logs: one event a line, with the request's id bound to every line of the request."""

from __future__ import annotations

import atexit
import io
import logging
import sys
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, TextIO, cast

import msgspec
import structlog

from bulkhead_trio.observe.outlet import Outlet
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


def _printable(text: str, *, kept: str = "") -> str:
    """With escapes in the place of what is not to be printed, but for the characters ``kept``.

    Control characters could change the colours, the title or the contents of a terminal; some
    others, such as those that turn the direction of writing, what seems to stand there.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in kept else each.encode("unicode_escape").decode()
        for each in text
    )


def _make_printable(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For a terminal: much of what is logged comes from clients."""
    for name, value in event.items():
        if name in ("stack", "exception"):
            event[name] = _printable(str(value), kept="\n\t")
        elif name == "event":
            event[name] = _printable(str(value))
        elif name != "exc_info" and not (isinstance(value, str) and value.isprintable()):
            event[name] = _Shown(_printable(repr(value)))
    return event


class _Shown:
    """A value as it is to be shown."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _printable_traceback(into: TextIO, error: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    into.write(_printable(text.getvalue(), kept="\n\t"))


def log_outlet() -> Outlet:
    """Where `configure_logging` sends the lines of this process; before that, standard error."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.stream, Outlet):
            return handler.stream
    return Outlet(sys.stderr)


def _say_dropped(lines: int) -> None:
    """Say that lines are missing, where they are."""
    structlog.get_logger("bulkhead_trio.observe").warning("log_lines_dropped", lines=lines)


def configure_logging(
    *,
    level: str,
    format: str | None,
    stream: TextIO | None = None,
    always: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Send structlog's and the standard library's records to ``stream``, in one form.

    Nobody waits for whoever reads them; `Outlet` says what happens to lines that nobody reads.

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
    outlet = Outlet(out, on_dropped=_say_dropped)
    if outlet.can_stall:
        atexit.register(outlet.finish)
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
            _make_printable,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=_printable_traceback
            ),
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
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, outlet)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(outlet)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    # It logs a traceback for each handshake that fails; a Redis that is away is logged once, by us.
    logging.getLogger("coredis").setLevel(logging.CRITICAL)
