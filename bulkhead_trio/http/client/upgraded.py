"""What is left of a connection after 101: a stream of bytes, for another protocol."""

from __future__ import annotations

import trio

from bulkhead_trio.http.client.connection import Connection
from bulkhead_trio.http.client.wire import NEVER, READ_BYTES, LimitPassed


class UpgradedStream(trio.abc.Stream):
    """The connection, beginning with what came after the answer's head.

    Reading has no limit of its own: in another protocol silence may be usual. It is a stream of
    Trio's, and one end of a tunnel as well (`bulkhead_trio.http.tunnel`).

    Args:
        connection: it; its exchange gives it back.
        write_seconds: the longest time in which the peer takes nothing.
    """

    def __init__(self, connection: Connection, write_seconds: float) -> None:
        self._connection = connection
        self._write_seconds = write_seconds
        self._rest = connection.reader.take_rest()
        self._is_over = False
        self._has_ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it.

        Raises:
            trio.BrokenResourceError: the peer is gone, or takes nothing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._has_ended:
            raise trio.ClosedResourceError
        try:
            await self._connection.send_all(bytes(data), self._write_seconds)
        except (OSError, LimitPassed) as error:
            raise trio.BrokenResourceError(str(error) or "it does not read") from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until something could be sent.

        Raises:
            trio.BrokenResourceError: the peer takes nothing.
        """
        try:
            await self._connection.wire.writable(self._write_seconds)
        except LimitPassed as error:
            raise trio.BrokenResourceError("it does not read") from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What comes next, ``b""`` at the end.

        Raises:
            trio.BrokenResourceError: the peer is gone.
        """
        if max_bytes is None:
            max_bytes = READ_BYTES
        if max_bytes < 1:
            raise ValueError("max_bytes must be 1 or more")
        if self._rest or self._is_over:
            await trio.lowlevel.checkpoint()
        else:
            try:
                self._rest = await self._connection.receive(NEVER, trio.current_time())
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            except trio.ClosedResourceError:
                if not self._is_over:
                    raise
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def read_piece(self) -> bytes:
        """What comes next, 64 KiB at most; as `receive_some`."""
        return await self.receive_some()

    async def write(self, data: bytes) -> None:
        """As `send_all`."""
        await self.send_all(data)

    async def send_eof(self) -> None:
        """Finish on this side. Under TLS that is the end of both: it knows no half.

        Raises:
            trio.BrokenResourceError: the peer is gone, or takes nothing.
        """
        await trio.lowlevel.checkpoint()
        if self._has_ended:
            return
        self._has_ended = True
        self._is_over = self._connection.is_tls
        try:
            await self._connection.send_eof()
        except (OSError, LimitPassed) as error:
            raise trio.BrokenResourceError(str(error) or "it does not read") from error

    async def aclose(self) -> None:
        """Close the connection."""
        self._connection.close()
        await trio.lowlevel.checkpoint()
