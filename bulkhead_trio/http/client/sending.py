"""A request's body that does not go out with its head: sent beside the reading of the answer.

An upstream may answer before it has read everything, and may not read on until its answer is read;
so sending and reading wait independently of each other, in two tasks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from types import TracebackType

import trio

from bulkhead_trio.errors import InvalidRequest, UpstreamTimeout
from bulkhead_trio.http.client._request_rules import BodyFraming, RequestHead
from bulkhead_trio.http.client.connection import Connection
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.wire import LimitPassed

Content = bytes | AsyncIterable[bytes] | None


class Sending:
    """Sends the rest of a request in a task of its own.

    It has a nursery that is open until `stop`; what goes wrong with the body's source cancels
    everything in it, and is raised by `stop`.

    Attributes:
        is_done: whether everything has been sent.
        ended_at: since when nothing more is sent, on Trio's clock; ``None`` while something is.

    Args:
        connection: where to.
        limits: for waiting.
        head: of the request, which has been sent.
        content: what is left of the body: bytes to be sent as they are, or pieces to be framed.
    """

    def __init__(
        self,
        connection: Connection,
        limits: ClientLimits,
        head: RequestHead,
        content: memoryview | AsyncIterable[bytes],
    ) -> None:
        self.is_done = False
        self.ended_at: float | None = None
        self._connection = connection
        self._limits = limits
        self._head = head
        self._content = content
        self._go_on = trio.Event()
        self._error: Exception | None = None
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def start(self) -> None:
        """Begin to send."""
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._run)

    def go_on(self) -> None:
        """The peer has asked for the body."""
        self._go_on.set()

    async def stop(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Send no more, whether all has been sent or not.

        Args:
            kind: the type of what the block round the request ends with, if anything.
            error: that.
            traceback: its traceback.

        Raises:
            Exception: what the body's source raised.
        """
        assert self._nursery is not None  # noqa: S101  it was started
        self._nursery.cancel_scope.cancel()
        if self._error is not None and _is_cancellation(error):
            # The nursery's own, perhaps: what cancelled it is what went wrong.
            await self._manager.__aexit__(kind, error, traceback)
        else:
            # Whatever the block ends with goes on as it is, in no group.
            await self._manager.__aexit__(None, None, None)
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        try:
            if self._head.expects_continue:
                with trio.move_on_after(self._limits.go_on):
                    await self._go_on.wait()
            if isinstance(self._content, memoryview):
                await self._connection.send_all(self._content, self._limits.write)
                self.is_done = True
            else:
                self.is_done = await self._send_pieces(aiter(self._content))
        except OSError:
            pass  # the peer reads no more; it may still say why
        except trio.ClosedResourceError:
            pass  # the client was closed; whoever reads learns of it too
        except LimitPassed:
            origin = str(self._connection.pool.origin)
            self._fail(
                UpstreamTimeout(
                    f"{origin} took too long to take a request", origin=origin, phase="write"
                )
            )
        finally:
            self.ended_at = trio.current_time()

    async def _send_pieces(self, pieces: AsyncIterator[bytes]) -> bool:
        """Send what ``pieces`` gives; says whether that was all."""
        framing = BodyFraming(self._head.body)
        try:
            while True:
                try:
                    data = framing.piece(await anext(pieces))
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
                    self._fail(error)
                    return False
                if data:
                    await self._connection.send_all(data, self._limits.write)
            if (end := self._end(framing)) is None:
                return False
            if end:
                await self._connection.send_all(end, self._limits.write)
            return True
        finally:
            if isinstance(pieces, AsyncGenerator):
                await self._close(pieces)

    def _end(self, framing: BodyFraming) -> bytes | None:
        try:
            return framing.end()
        except InvalidRequest as error:
            self._fail(error)
            return None

    async def _close(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Let a generator that is not at its end clean up, here and now."""
        try:
            await pieces.aclose()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        assert self._nursery is not None  # noqa: S101  this runs in it
        if self._error is None:
            self._error = error
        self._nursery.cancel_scope.cancel()


def _is_cancellation(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
