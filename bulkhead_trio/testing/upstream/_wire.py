"""One connection from the upstream's side: bytes in and out, and whether the client is there."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import trio

from bulkhead_trio.testing.upstream.script import MOST_HEAD_BYTES

READ_BYTES = 65_536
HEAD_END = b"\r\n\r\n"
FINISH_SECONDS = 2.0
"""How long the rest of what the client sends is awaited before the connection is closed."""
LINGER_RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER on, for no time: closing throws away what was not sent, and sends RST."""


class Gone(Exception):
    """The client has gone."""


class Wire:
    """A stream with a memory of what was read and not used.

    Attributes:
        scope: cancelled, it ends whatever is under way here.

    Args:
        stream: the upstream's end of a connection.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._unread = bytearray()
        self.scope = trio.CancelScope()

    # --- reading ---------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """What comes next, ``b""`` at the end.

        Raises:
            Gone: the client reset the connection.
        """
        if self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            await trio.lowlevel.checkpoint()
            return data
        return await self._receive()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except trio.BrokenResourceError as error:
            raise Gone from error

    def give_back(self, data: bytes) -> None:
        """This was read too far."""
        self._unread[:0] = data

    async def head(self) -> bytes | None:
        """A whole request head; ``None`` where the client has no more to ask.

        Raises:
            Gone: the client went amid it, or sent more than `MOST_HEAD_BYTES`.
        """
        while (end := self._unread.find(HEAD_END)) < 0:
            if len(self._unread) > MOST_HEAD_BYTES:
                raise Gone
            data = await self._receive()
            if not data and not self._unread:
                return None
            if not data:
                raise Gone
            self._unread += data
        end += len(HEAD_END)
        head = bytes(self._unread[:end])
        del self._unread[:end]
        return head

    async def unless_gone(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait, but no longer than the client is there; what it sends meanwhile is kept.

        A client that only closed its own direction counts as gone.

        Raises:
            Gone: it went.
        """
        went: list[bool] = []

        async def watch() -> None:
            await self._look_out()
            went.append(True)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await wait()
            nursery.cancel_scope.cancel()
        if went:
            raise Gone

    async def _look_out(self) -> None:
        """Return when the client has gone; as long as it sends, there is no telling."""
        while len(self._unread) < MOST_HEAD_BYTES:
            try:
                data = await self._receive()
            except Gone:
                return
            if not data:
                return
            self._unread += data
        await trio.sleep_forever()

    # --- writing ---------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            Gone: the client has gone.
        """
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise Gone from error

    # --- its end ---------------------------------------------------------------------------------

    def will_reset(self) -> None:
        """Closing is to end with RST rather than FIN; in memory both are the same."""
        stream = self._stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if isinstance(stream, trio.SocketStream):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)

    async def finish(self) -> None:
        """End our direction, and read on for a while: closing amid what comes would be a reset."""
        with trio.move_on_after(FINISH_SECONDS):
            try:
                if not isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.aclose()
                    return
                await self._stream.send_eof()
                while await self._receive():
                    pass
            except (Gone, trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def close(self) -> None:
        """Close it at once, whatever is on its way; does nothing the second time."""
        await trio.aclose_forcefully(self._stream)
