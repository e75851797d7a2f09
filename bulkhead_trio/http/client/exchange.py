"""One request and its answer."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from types import TracebackType

import trio

from bulkhead_trio.errors import (
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from bulkhead_trio.http.client._request_rules import IDEMPOTENT, RequestHead
from bulkhead_trio.http.client._response_rules import (
    MOST_INTERIM_ANSWERS,
    ResponseHead,
    UntilCloseDecoder,
    response_decoder,
)
from bulkhead_trio.http.client._url_rules import Origin
from bulkhead_trio.http.client.connection import Connection
from bulkhead_trio.http.client.limits import ClientLimits
from bulkhead_trio.http.client.pool import OriginPool
from bulkhead_trio.http.client.response import StreamedResponse
from bulkhead_trio.http.client.sending import Content, Sending
from bulkhead_trio.http.client.upgraded import UpgradedStream
from bulkhead_trio.http.client.wire import NEVER, LimitPassed
from bulkhead_trio.http.engine._body_rules import BodyDecoder
from bulkhead_trio.http.engine._head_rules import NO_BODY
from bulkhead_trio.http.engine.errors import ProtocolError

WITH_THE_HEAD_BYTES = 64 * 1024
"""A body up to this goes out with its head; a longer one would have to be copied for that."""


SMALL_BYTES = 4096
"""A request that may go out together with those of others."""


class StaleConnection(Exception):
    """A kept connection ended before anything of an answer came, and sending again is safe."""


class Exchange:
    """One request and its answer: ``async with exchange as response:``.

    The connection goes back to its pool as soon as all of the answer has come, at the latest at the
    end of the block; where something of it has not come by then, the connection is closed.

    Args:
        origin: whom it is with.
        find_pool: the pool that gives the connection, asked for when the block is entered: until
            then an exchange holds nothing, and the pools of its origin may come and go.
        limits: for waiting.
        method: of the request.
        head: of the request.
        content: its body.
        timeout: seconds for everything together; ``None`` for no limit beside the client's.
        head_timeout: seconds for the answer's head; ``None`` for the client's limit.
        is_idempotent: whether it does no more when it is sent twice; ``None``: as its method says.
    """

    __slots__ = (
        "_connection", "_content", "_deadline", "_decoder", "_find_pool", "_head", "_head_seconds",
        "_is_idempotent", "_is_over",
        "_kept_for", "_limits", "_may_be_kept", "_method", "_sending", "_stream", "_timeout",
        "origin",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        find_pool: Callable[[Origin], OriginPool],
        limits: ClientLimits,
        method: str,
        head: RequestHead,
        content: Content,
        *,
        timeout: float | None,
        head_timeout: float | None = None,
        is_idempotent: bool | None = None,
    ) -> None:
        self.origin = origin
        self._find_pool = find_pool
        self._limits = limits
        self._method = method
        self._head = head
        self._content = content
        self._timeout = timeout
        self._head_seconds = limits.head if head_timeout is None else head_timeout
        self._deadline = NEVER
        self._connection: Connection | None = None
        self._decoder: BodyDecoder | None = None
        self._sending: Sending | None = None
        self._stream: UpgradedStream | None = None
        self._kept_for: int | None = None
        self._is_over = False
        self._may_be_kept = False
        self._is_idempotent = method in IDEMPOTENT if is_idempotent is None else is_idempotent

    async def __aenter__(self) -> StreamedResponse:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._timeout is not None:
            self._deadline = trio.current_time() + self._timeout
        # Nothing is waited for between finding it and having a place in it.
        self._connection = await self._find_pool(self.origin).acquire(
            self._deadline, may_repeat=self._may_repeat
        )
        try:
            try:
                head = await self._ask(self._connection)
            except StaleConnection:
                await self._stop_sending()
                head = await self._ask_again()
            response = StreamedResponse(self, head)
            try:
                self._begin(response, head)
            except ProtocolError as error:
                raise self._no_answer(error) from error
        except BaseException as error:
            await self._leave(type(error), error, error.__traceback__)
            raise
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None or self._sending is not None:  # there is more to do
            await self._leave(kind, error, traceback)

    # --- asking ----------------------------------------------------------------------------------

    async def _ask_again(self) -> ResponseHead:
        """Send the request on a new connection; what fails there is no matter of staleness."""
        stale, self._connection = self._connection, None
        assert stale is not None  # noqa: S101  it was asked on
        self._connection = await stale.pool.replace(stale, self._deadline)
        return await self._ask(self._connection)

    async def _ask(self, connection: Connection) -> ResponseHead:
        """Send the request, and read the answer's head.

        Raises:
            StaleConnection: the connection had ended, and the request may be sent on another one.
            UpstreamError: there is no answer.
        """
        phase = "write"
        try:
            await self._send(connection)
            phase = "head"
            return await self._read_head(connection)
        except ProtocolError as error:
            raise self._no_answer(error) from error
        except OSError as error:
            raise self._broken_off(error) from error
        except LimitPassed:
            raise self._too_slow(phase) from None

    async def _send(self, connection: Connection) -> None:
        """Send the head and what can be sent with it; a task of its own sends the rest."""
        wire, content = self._head.wire, self._content
        is_whole = False
        if content is None:
            is_whole = True
        elif isinstance(content, bytes):
            is_whole = len(content) <= WITH_THE_HEAD_BYTES and not self._head.expects_continue
            if is_whole:
                wire += content
        if is_whole and len(wire) <= SMALL_BYTES and self._is_idempotent and not connection.is_tls:
            # Where it does not get out, it may be sent again as if it had: so it can wait for
            # others to go with it.
            connection.wire.send_soon(wire)
            return
        try:
            sent = await connection.send_some(wire, self._limits.write)
        except OSError as error:
            # On a plain connection nothing of it has been sent; under TLS nobody knows.
            is_unsent = connection.uses > 0 and not connection.is_tls
            if is_unsent or self._may_be_sent_again(connection):
                raise StaleConnection from error
            raise
        if is_whole:
            if sent < len(wire):
                await self._send_beside(connection, memoryview(wire)[sent:])
            return
        if sent < len(wire):
            await connection.send_all(wire[sent:], self._limits.write)
        rest = memoryview(content) if isinstance(content, bytes) else content
        assert rest is not None  # noqa: S101  it would be whole
        await self._send_beside(connection, rest)

    async def _send_beside(
        self, connection: Connection, rest: memoryview | AsyncIterable[bytes]
    ) -> None:
        sending = Sending(connection, self._limits, self._head, rest)
        await sending.start()
        self._sending = sending

    async def _read_head(self, connection: Connection) -> ResponseHead:
        """The answer's head; those before it that are not the answer yet are passed over."""
        reader = connection.reader
        now = trio.current_time()
        by = min(self._deadline, now + self._head_seconds)
        has_begun = False
        for _ in range(MOST_INTERIM_ANSWERS):
            while (head := reader.next_head(self._method)) is None:
                try:
                    data = await connection.receive(by, now)
                except LimitPassed:
                    now = trio.current_time()
                    by = self._head_by(now)
                    if by <= now:
                        raise
                    continue
                except OSError as error:
                    if not has_begun and self._may_be_sent_again(connection):
                        raise StaleConnection from error
                    raise
                if not data:
                    if not has_begun and self._may_be_sent_again(connection):
                        raise StaleConnection
                    raise ConnectionResetError("the connection ended before the answer's head did")
                has_begun = True
                reader.feed(data)
                now = trio.current_time()
            if not head.is_interim:
                return head
            has_begun = True
            if head.status == 100 and self._sending is not None:
                self._sending.go_on()
        raise ProtocolError("there are too many interim answers")

    def _head_by(self, now: float) -> float:
        """Until when the head has to have come: counted from when the request had been sent.

        As long as its body is on its way, nobody can say that the answer is late: the peer has a
        limit of its own for taking the body, and where the body comes from is not its affair.
        """
        sending = self._sending
        if sending is None:
            return now
        since = now if sending.ended_at is None else sending.ended_at
        return min(self._deadline, since + self._head_seconds)

    def _may_be_sent_again(self, connection: Connection) -> bool:
        """RFC 9112, section 9.3.1: an idempotent request whose connection was closed as it came."""
        return connection.uses > 0 and self._may_repeat

    @property
    def _may_repeat(self) -> bool:
        """Whether it does no more when it is sent twice, and can be."""
        return self._is_idempotent and (self._content is None or isinstance(self._content, bytes))

    # --- the answer ------------------------------------------------------------------------------

    def _begin(self, response: StreamedResponse, head: ResponseHead) -> None:
        """Take what has come with the head; often that is everything.

        Raises:
            ProtocolError: it is no body, or 101 although nobody has asked for that.
        """
        connection = self._connection
        assert connection is not None  # noqa: S101  the head has come on it
        if head.status == 101:
            if not self._head.wants_upgrade:
                raise ProtocolError("the answer upgrades although nobody has asked for that")
            self._stream = UpgradedStream(connection, self._limits.write)
            response.is_complete = True
            return
        self._may_be_kept = head.keeps_alive and not self._head.says_close
        self._kept_for = head.kept_for
        if head.body == NO_BODY:
            self._complete(response)
            return
        self._decoder = decoder = response_decoder(head.body)
        if piece := connection.reader.next_body(decoder):
            response._have(piece)
        if decoder.is_complete:
            self._complete(response)

    async def read_piece(self, response: StreamedResponse) -> bytes:
        """The next piece of the body, off the wire; for `StreamedResponse`."""
        connection, decoder = self._connection, self._decoder
        if connection is None or decoder is None:
            raise trio.ClosedResourceError("this answer's block has been left")
        limits, reader = self._limits, connection.reader
        try:
            while (piece := reader.next_body(decoder)) is None:
                now = trio.current_time()
                by = min(self._deadline, now + limits.read_gap)
                data = await connection.receive(by, now)
                if data:
                    reader.feed(data)
                elif isinstance(decoder, UntilCloseDecoder):
                    self._complete(response)
                    return b""
                else:
                    raise ConnectionResetError("the connection ended before the body did")
        except ProtocolError as error:
            raise self._no_answer(error) from error
        except OSError as error:
            raise self._broken_off(error) from error
        except LimitPassed:
            raise self._too_slow("body") from None
        if decoder.is_complete:
            self._complete(response)
        return piece

    def stream(self) -> UpgradedStream:
        """What 101 has left; for `StreamedResponse`."""
        if self._stream is None:
            raise trio.ClosedResourceError("this answer's block has been left")
        return self._stream

    # --- the end ---------------------------------------------------------------------------------

    def _complete(self, response: StreamedResponse) -> None:
        """All of the answer has come."""
        response.is_complete = True
        self._is_over = True
        self._decoder = None
        if self._sending is None or self._sending.is_done:
            self._give_connection_back()

    def _give_connection_back(self) -> None:
        """Keep the connection for others, where nothing is left of this exchange on it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        is_sent = self._sending is None or self._sending.is_done
        if self._is_over and is_sent and self._may_be_kept and not connection.reader.has_rest:
            connection.pool.release(connection, self._kept_for)
        else:
            connection.pool.discard(connection)

    async def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream = self._decoder = None
        self._give_connection_back()
        await self._stop_sending(kind, error, traceback)

    async def _stop_sending(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending.stop(kind, error, traceback)

    # --- what went wrong -------------------------------------------------------------------------

    def _no_answer(self, error: ProtocolError) -> UpstreamProtocolError:
        return UpstreamProtocolError(f"{self.origin}: {error.reason}", origin=str(self.origin))

    def _broken_off(self, error: OSError) -> UpstreamError:
        return UpstreamError(f"{self.origin} broke off: {error}", origin=str(self.origin))

    def _too_slow(self, phase: str) -> UpstreamTimeout:
        what = {"write": "take a request", "head": "answer", "body": "send the rest of an answer"}
        return UpstreamTimeout(
            f"{self.origin} took too long to {what[phase]}", origin=str(self.origin), phase=phase
        )
