"""The access log: one line a request, cheap enough that a flood of refusals can have one each."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, TextIO

import msgspec
import structlog
import trio

from bulkhead_trio.observe.logs import log_outlet
from bulkhead_trio.observe.outlet import Outlet
from bulkhead_trio.policies.context import RequestContext

MOST_LINES = 256
"""Kept at most before they are written; a line is written when the loop next has a moment."""


class AccessLog(Protocol):
    """Where the lines go."""

    def is_wanted(self, *, is_quiet: bool) -> bool:
        """Whether a request gets a line; a quiet one only for those who debug."""

    def request(
        self,
        context: RequestContext,
        method: str,
        path: str,
        status: int | None,
        seconds: float,
        notes: Mapping[str, str | float],
    ) -> None:
        """One request has ended.

        Args:
            context: its numbers.
            method: its method.
            path: its path, without the query, which may hold what is not to be seen.
            status: of the answer; ``None`` where there was none.
            seconds: that it took.
            notes: what else is to be said of it.
        """


class StructuredAccessLog:
    """Lines as every other line is written.

    Args:
        level: the least that is written.
    """

    def __init__(self, level: str = "info") -> None:
        self._log = structlog.get_logger("bulkhead_trio.access")
        self._threshold = logging.getLevelNamesMapping()[level.upper()]

    def is_wanted(self, *, is_quiet: bool) -> bool:
        """Whether a request gets a line."""
        return self._threshold <= (logging.DEBUG if is_quiet else logging.INFO)

    def request(
        self,
        context: RequestContext,  # noqa: ARG002  the log's own processor says it
        method: str,
        path: str,
        status: int | None,
        seconds: float,
        notes: Mapping[str, str | float],
    ) -> None:
        """One request has ended."""
        milliseconds = round(seconds * 1000, 3)
        self._log.info(
            "request", method=method, path=path, status=status, duration_ms=milliseconds, **notes
        )


class JSONAccessLog:
    """Lines of JSON, as those of the other log but written many at a time.

    A line of the general log costs some 40 us, as much as all else that a refusal takes; one of
    these a tenth of it. `run` has to be running for lines to be gathered; without it each is
    written at once.

    Args:
        stream: where the general log goes when not given.
        is_debug: whether quiet requests get lines.
        always: what every line says.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        is_debug: bool = False,
        always: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self._always = dict(always)
        self._outlet = log_outlet() if stream is None else Outlet(stream)
        self._is_debug = is_debug
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode
        self._lines: list[bytes] = []
        self._wake: trio.Event | None = None
        self._second = (0, "")

    def is_wanted(self, *, is_quiet: bool) -> bool:
        """Whether a request gets a line."""
        return self._is_debug or not is_quiet

    def request(
        self,
        context: RequestContext,
        method: str,
        path: str,
        status: int | None,
        seconds: float,
        notes: Mapping[str, str | float],
    ) -> None:
        """One request has ended."""
        line: dict[str, Any] = {
            "event": "request",
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            **notes,
            "request_id": context.request_id,
            "level": "info",
            "timestamp": self._timestamp(),
            **self._always,
        }
        if context.trace_id is not None:
            line["trace_id"] = context.trace_id
        self._lines.append(self._encode(line))
        if self._wake is None or len(self._lines) >= MOST_LINES:
            self._write()
        elif len(self._lines) == 1:
            self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Gather lines and write them until cancelled; the last ones are written then."""
        try:
            self._wake = trio.Event()
            task_status.started()
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                self._write()
        finally:
            self._wake = None
            self._write()

    def _timestamp(self) -> str:
        now = time.time()  # a log says what the wall clock says
        second = int(now)
        if second != self._second[0]:
            self._second = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._second[1]}{int((now - second) * 1_000_000):06d}Z"

    def _write(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self._outlet.write_lines(lines)


def open_access_log(
    *, level: str, format: str | None, always: Mapping[str, object] = MappingProxyType({})
) -> AccessLog:
    """The access log that goes with `configure_logging` of the same arguments."""
    is_console = sys.stderr.isatty() if format is None else format == "console"
    if is_console or level not in ("debug", "info"):
        return StructuredAccessLog(level)
    return JSONAccessLog(is_debug=level == "debug", always=always)
