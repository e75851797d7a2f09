"""Log lines: one JSON object each, with what was bound to the request."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bulkhead_trio.observe.logs import configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Logging sent to memory, and put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(level="info", format=None, stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def decoded(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log_line_has_what_is_bound(lines: io.StringIO) -> None:
    """A stream that is no terminal gets JSON, bound values included; debug lines do not appear."""
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("test").info("happened", number=1)
        structlog.get_logger("test").debug("unseen")
    (line,) = decoded(lines)
    assert (line["event"], line["number"], line["request_id"]) == ("happened", 1, "r1")
    assert (line["level"], str(line["timestamp"])[-1]) == ("info", "Z")


def test_log_line_of_the_standard_library_is_of_the_same_form(lines: io.StringIO) -> None:
    """Libraries that log on their own end in the same stream, in the same form."""
    with structlog.contextvars.bound_contextvars(request_id="r2"):
        logging.getLogger("some.library").warning("careful: %s", "edge")
    (line,) = decoded(lines)
    assert (line["event"], line["request_id"]) == ("careful: edge", "r2")


def test_log_line_with_an_exception_stays_one_line(lines: io.StringIO) -> None:
    """A traceback is data of the line, not more lines."""
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    (line,) = decoded(lines)
    assert "ValueError" in json.dumps(line["exception"])
