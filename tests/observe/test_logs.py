"""Log lines: one JSON object each, with what was bound to the request."""

from __future__ import annotations

import io
import json
import logging
import secrets
from collections.abc import Iterator

import pytest
import structlog

from bulkhead_trio.observe.logs import configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Logging sent to memory, and put back as it was."""
    root, coredis = logging.getLogger(), logging.getLogger("coredis")
    handlers, level, level_of_coredis = root.handlers[:], root.level, coredis.level
    stream = io.StringIO()
    configure_logging(level="info", format=None, stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    coredis.setLevel(level_of_coredis)


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


def test_log_has_no_lines_of_the_redis_client(lines: io.StringIO) -> None:
    """It would say every failed handshake with a traceback; what matters of it we say ourselves."""
    logging.getLogger("coredis.connection").error("handshake", exc_info=OSError("away"))
    assert decoded(lines) == []


def test_log_line_with_an_exception_stays_one_line(lines: io.StringIO) -> None:
    """A traceback is data of the line, not more lines."""
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    (line,) = decoded(lines)
    assert "ValueError" in json.dumps(line["exception"])


@pytest.mark.parametrize("format", ["json", "console"])
def test_log_line_of_an_exception_has_no_local_variables(format: str) -> None:
    """Keys and passwords are in the frames that an exception passes, and never in the log."""
    password = secrets.token_hex()
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(level="info", format=format, stream=stream)
    try:
        raise ValueError(len(password))
    except ValueError:
        structlog.get_logger("test").exception("failed")
        logging.getLogger("some.library").exception("failed too")
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
    said = stream.getvalue()
    assert "ValueError" in said
    assert password not in said


class Rude:
    """Shows itself as it likes."""

    def __repr__(self) -> str:
        return "\x1b[2J"


def test_console_line_cannot_steer_the_terminal() -> None:
    """Whatever a client sends, and whoever logs it: escapes are shown, not sent."""
    rude = "/\x1b[31mred\x9b2J\x07\r\n\u202etxt"
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(level="info", format="console", stream=stream)
    try:
        log = structlog.get_logger("test")
        log.info(rude, path=rude, error=ValueError(rude), nested=[rude], rude=Rude(), plain="as is")
        logging.getLogger("some.library").warning("careful: %s", rude)
        try:
            raise ValueError(rude)
        except ValueError:
            log.exception("failed", stack_info=True)
            logging.getLogger("some.library").exception("failed too", stack_info=True)
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
    said = stream.getvalue()
    assert said.replace("\n", "").isprintable()
    assert "red" in said
    assert "plain=as is" in said or "plain='as is'" in said
    first, second = said.splitlines()[:2]
    assert "\\x1b[31mred" in first
    assert "careful: /\\x1b[31mred" in second


def test_log_to_a_full_disk_is_no_error() -> None:
    """A line that cannot be written is lost, and nothing else."""

    class Full(io.StringIO):
        def write(self, *_: str) -> int:
            raise OSError(28, "No space left on device")

    configure_logging(level="info", format="json", stream=Full())
    try:
        structlog.get_logger("test").info("happened")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
