"""What a worker process is told at its start, and the line on which it is told.

The line is one end of a socket pair. The main process says what to do in one frame; the worker
answers with an empty frame when it serves, and from then on says now and then what it has counted.
The line's end is the other side's: a worker whose main process is gone drains and goes too.

A frame is its length in four bytes and so many bytes more. Configuration holds secrets: it never
stands on a command line, where other users of the machine could read it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import attrs
import trio

from bulkhead_trio.api.messages import Listener
from bulkhead_trio.app import Ground
from bulkhead_trio.config import Settings
from bulkhead_trio.observe.snapshots import ProcessSnapshot

MOST_FRAME_BYTES = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


@attrs.frozen
class Assignment:
    """What one worker process is to do.

    Attributes:
        worker: its number, from 0.
        settings: all of them, undivided.
        ground: what the main process has prepared.
        listeners: the descriptors of its listening sockets.
        directory: where the workers have their sockets for each other.
        past: what its predecessors of the same number have counted.
    """

    worker: int
    settings: Settings
    ground: Ground
    listeners: Mapping[Listener, tuple[int, ...]]
    directory: str
    past: ProcessSnapshot | None


class Line:
    """Frames to and from the other side.

    Args:
        stream: reliable, in order.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._unread = bytearray()

    async def send(self, frame: bytes) -> None:
        """Send one frame.

        Raises:
            trio.BrokenResourceError: the other side is gone.
        """
        await self._stream.send_all(_LENGTH.pack(len(frame)) + frame)

    async def receive(self) -> bytes | None:
        """The next frame; ``None`` when the other side is gone, or talks nonsense."""
        head = await self._read(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        return await self._read(length) if length <= MOST_FRAME_BYTES else None

    async def _read(self, size: int) -> bytes | None:
        while len(self._unread) < size:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._unread += data
        found = bytes(self._unread[:size])
        del self._unread[:size]
        return found

    async def aclose(self) -> None:
        """Go."""
        await self._stream.aclose()
