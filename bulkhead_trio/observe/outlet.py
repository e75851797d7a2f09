"""Where log lines go: a stream whose reader may stall, or go, without holding up the event loop."""

from __future__ import annotations

import os
import select
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TextIO

import trio

ATOMIC_BYTES = select.PIPE_BUF
"""So much is written to a pipe in one piece or not at all (POSIX, ``write``), so that the lines of
several processes that share one stay whole. A line that is longer may be mixed with another's."""

MOST_WAITING_BYTES = 1024 * 1024
"""Of lines that nobody has read yet; some 4,000 of the access log's."""

RETRY_SECONDS = 0.25
"""How soon lines that wait are tried again when no further line comes."""

LAST_SECONDS = 1.0
"""What a process that ends gives a slow reader for its last lines."""

WriteSome = Callable[[bytes], int]
"""Writes what it can at once, and says how much; raises `BlockingIOError` if that is nothing."""


class Outlet:
    """Writes lines whole, and never waits for whoever reads them.

    A pipe, a terminal or a socket takes what there is room for. The rest waits, as much as
    ``most_waiting`` allows; what comes then is dropped and counted, until half of that has been
    read. What is no such thing, a file above all, is simply written to.

    Nothing is raised: a full disk, or a reader that has gone, must not end a request. What cannot
    be written for good is dropped as well.

    Args:
        stream: text. If it can make its writer wait, its descriptor is written to.
        on_dropped: told how many lines are missing, once there is room for saying so: after those
            that were kept, and before any other.
        most_waiting: bytes.

    Attributes:
        dropped: lines, since the start.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        on_dropped: Callable[[int], object] | None = None,
        most_waiting: int = MOST_WAITING_BYTES,
    ) -> None:
        self.dropped = 0
        self._stream = stream
        self._on_dropped = on_dropped
        self._most = most_waiting
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lock = threading.RLock()  # threads log too; held for no longer than a write takes
        self._waiting: deque[tuple[bytes, int]] = deque()  # pieces, and how many lines each ends
        self._waiting_bytes = 0
        self._unsaid = 0
        self._write_some = self._channel()

    @property
    def can_stall(self) -> bool:
        """Whether its reader could make a writer wait."""
        return self._write_some is not None

    @property
    def waiting_bytes(self) -> int:
        """Of lines that have not been written yet."""
        return self._waiting_bytes

    def write(self, text: str) -> None:
        """Write one entry: a line, or several that belong together."""
        if self._write_some is None:
            self._write_plainly(text, 1)
        else:
            self._put(text.encode(self._encoding, "backslashreplace"), 1)

    def flush(self) -> None:
        """Does nothing: all that can be written has been."""

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """Write lines of UTF-8, each without its end, in as few pieces as stay whole."""
        if self._write_some is None:
            all_of_them = [*lines, b""]
            self._write_plainly(b"\n".join(all_of_them).decode(), len(all_of_them) - 1)
            return
        piece: list[bytes] = []
        size = 0
        for line in lines:
            length = len(line) + 1
            if size + length > ATOMIC_BYTES and piece:
                self._put(b"\n".join([*piece, b""]), len(piece))
                piece, size = [], 0
            piece.append(line)
            size += length
        if piece:
            self._put(b"\n".join([*piece, b""]), len(piece))

    async def run(self) -> None:
        """Write what waits as soon as it is read again, until cancelled."""
        while True:
            await trio.sleep(RETRY_SECONDS)
            self.push()

    def push(self) -> None:
        """Write as much of what waits as there is room for."""
        with self._lock:
            self._push()
            if self._unsaid and self._waiting_bytes <= self._most // 2:
                missing, self._unsaid = self._unsaid, 0
                if self._on_dropped is not None:
                    self._on_dropped(missing)

    def finish(self) -> None:
        """Give a slow reader a moment for what waits; for the end of a process."""
        until = time.monotonic() + LAST_SECONDS
        self.push()
        while self._waiting and time.monotonic() < until:
            time.sleep(0.01)
            self.push()

    def _put(self, piece: bytes, lines: int) -> None:
        with self._lock:
            if self._waiting or self._unsaid:
                self.push()
            if self._unsaid or self._waiting_bytes + len(piece) > self._most:
                self.dropped += lines
                self._unsaid += lines
                return
            self._waiting.append((piece, lines))
            self._waiting_bytes += len(piece)
            self._push()

    def _push(self) -> None:
        while self._write_some is not None and self._waiting:
            piece, lines = self._waiting[0]
            try:
                written = self._write_some(piece)
            except BlockingIOError:
                return
            except OSError:
                self.dropped += lines
                written = len(piece)
            self._waiting_bytes -= written
            if written < len(piece):
                self._waiting[0] = piece[written:], lines
            else:
                self._waiting.popleft()

    def _write_plainly(self, text: str, lines: int) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self.dropped += lines

    def _channel(self) -> WriteSome | None:
        try:
            number = self._stream.fileno()
            mode = os.fstat(number).st_mode
        except (AttributeError, OSError, ValueError):
            return None  # not of the system
        is_pipe = stat.S_ISFIFO(mode)
        if not (is_pipe or stat.S_ISSOCK(mode) or os.isatty(number)):
            return None
        with suppress(OSError):
            self._stream.flush()
        if not stat.S_ISSOCK(mode):
            # A description of our own does not block. The one that was inherited is shared with
            # whoever else has it, and they may not expect that.
            with suppress(OSError):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                own = os.open(f"/proc/self/fd/{number}", flags)
                weakref.finalize(self, os.close, own).atexit = False
                return lambda piece: os.write(own, piece)
        return _polled(number, 1 if os.isatty(number) else ATOMIC_BYTES)


def _polled(number: int, room: int) -> WriteSome:
    """Write to a descriptor that blocks, and only when it would not.

    Args:
        number: the descriptor.
        room: bytes that there is room for where `poll` says that there is any: in a pipe, and in a
            socket, so much as stays in one piece, in a terminal's buffer one.
    """
    poll = select.poll()
    poll.register(number, select.POLLOUT)

    def write_some(piece: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(number, piece[:room])

    return write_some
