"""One line a request: what is in it, when it is written, and that nothing is lost."""

from __future__ import annotations

import io
import json

import pytest
import structlog
import trio
import trio.testing

from bulkhead_trio.observe.access_log import (
    MOST_LINES,
    AccessLog,
    JSONAccessLog,
    StructuredAccessLog,
    open_access_log,
)
from bulkhead_trio.policies.context import RequestContext

CONTEXT = RequestContext(request_id="r1")


def note(log: AccessLog, path: str = "/api/data") -> None:
    log.request(CONTEXT, "GET", path, 429, 0.0123456, {"tier": "free", "code": "rate_limited"})


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_says_what_happened() -> None:
    """Method, path, status, milliseconds, notes, and the request's number; the time in UTC."""
    stream = io.StringIO()
    note(JSONAccessLog(stream))
    (line,) = lines_of(stream)
    stamp = line.pop("timestamp")
    assert isinstance(stamp, str)
    assert len(stamp) == len("2026-02-11T12:00:00.000000Z")
    assert stamp.endswith("Z")
    assert line == {
        "event": "request", "method": "GET", "path": "/api/data", "status": 429,
        "duration_ms": 12.346, "tier": "free", "code": "rate_limited", "request_id": "r1",
        "level": "info",
    }  # fmt: skip


def test_line_of_a_traced_request_says_its_trace() -> None:
    """And one that is not traced says nothing of traces."""
    stream = io.StringIO()
    log = JSONAccessLog(stream)
    log.request(RequestContext(request_id="r", trace_id="t"), "GET", "/", None, 0.0, {})
    note(log)
    first, second = lines_of(stream)
    assert (first["trace_id"], first["status"]) == ("t", None)
    assert "trace_id" not in second


def test_numbers_in_notes_are_numbers() -> None:
    """So that whoever reads the lines can add them up."""
    stream = io.StringIO()
    notes: dict[str, str | float] = {"upstream": "1a2b3c4d", "tries": 2, "gateway_ms": 0.25}
    JSONAccessLog(stream).request(CONTEXT, "GET", "/x", 200, 0.5, notes)
    (line,) = lines_of(stream)
    assert {name: line[name] for name in notes} == notes
    with structlog.testing.capture_logs() as captured:
        StructuredAccessLog().request(CONTEXT, "GET", "/x", 200, 0.5, notes)
    assert {name: captured[0][name] for name in notes} == notes


@pytest.mark.parametrize(
    ("level", "quiet", "wanted"),
    [
        ("debug", True, True),
        ("debug", False, True),
        ("info", True, False),
        ("info", False, True),
        ("warning", True, False),
        ("warning", False, False),
        ("error", False, False),
    ],
)
@pytest.mark.parametrize("format", ["json", "console"])
def test_level_decides_who_gets_a_line(level: str, quiet: bool, wanted: bool, format: str) -> None:
    """Probes are for those who debug; whoever wants warnings wants no line a request."""
    log = open_access_log(level=level, format=format)
    assert log.is_wanted(is_quiet=quiet) is wanted


def test_format_decides_how_lines_are_written() -> None:
    """Those of people go the way of every other line."""
    assert isinstance(open_access_log(level="info", format="json"), JSONAccessLog)
    assert isinstance(open_access_log(level="info", format="console"), StructuredAccessLog)


def test_structured_line_goes_with_the_others() -> None:
    """Through structlog, with the same fields."""
    with structlog.testing.capture_logs() as captured:
        note(StructuredAccessLog())
    (line,) = captured
    assert line == {
        "event": "request", "log_level": "info", "method": "GET", "path": "/api/data",
        "status": 429, "duration_ms": 12.346, "tier": "free", "code": "rate_limited",
    }  # fmt: skip


async def test_lines_are_gathered_until_the_loop_has_a_moment() -> None:
    """Those of one round of the loop are one write, in their order; the last are not lost."""
    stream = io.StringIO()
    log = JSONAccessLog(stream)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        note(log, "/1")
        note(log, "/2")
        assert stream.getvalue() == ""
        await trio.testing.wait_all_tasks_blocked()
        assert [line["path"] for line in lines_of(stream)] == ["/1", "/2"]
        note(log, "/3")
        nursery.cancel_scope.cancel()
    assert [line["path"] for line in lines_of(stream)] == ["/1", "/2", "/3"]


async def test_lines_that_wait_are_bounded() -> None:
    """However many come in one round, no more than so many are held."""
    stream = io.StringIO()
    log = JSONAccessLog(stream)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for _ in range(MOST_LINES - 1):
            note(log)
        assert stream.getvalue() == ""
        note(log)
        assert len(lines_of(stream)) == MOST_LINES
        nursery.cancel_scope.cancel()
    assert len(lines_of(stream)) == MOST_LINES
