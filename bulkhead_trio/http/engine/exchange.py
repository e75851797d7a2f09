"""One request and its answer, as ASGI sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from bulkhead_trio.http.engine._answer_rules import (
    LAST_CHUNK,
    AnswerHead,
    Framing,
    answer_head,
    chunk,
)
from bulkhead_trio.http.engine._body_rules import BodyDecoder, decoder_for
from bulkhead_trio.http.engine._head_rules import NO_BODY, Head
from bulkhead_trio.http.engine.errors import ClientGone, LocalProtocolError, ProtocolError
from bulkhead_trio.http.extensions import CANCELS, RESPOND

if TYPE_CHECKING:
    from bulkhead_trio.http.engine.connection import Connection

SMALL_BYTES = 4096
"""An answer, or the end of one, that may wait until the others of its round are ready as well."""

_ASGI = {"version": "3.0", "spec_version": "2.5"}


class Exchange:
    """One request and its answer.

    Attributes:
        head: the request's.
        has_started: whether any of the answer has been sent.
        is_over: whether all of it has.
    """

    __slots__ = (
        "_answer", "_connection", "_decoder", "_held", "_left", "_owes_continue", "_pending",
        "has_started", "head", "is_over", "leaves_open",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: Head) -> None:
        self.head = head
        self._connection = connection
        self._decoder: BodyDecoder | None = None if head.body == NO_BODY else decoder_for(head.body)
        self._owes_continue = head.expects_continue and self._decoder is not None
        self._answer: AnswerHead | None = None
        self._held = b""
        self._left = 0
        self._pending = self._decoder is None
        self.has_started = False
        self.is_over = False
        self.leaves_open = head.keeps_alive

    def asgi_scope(self) -> dict[str, Any]:
        """The request for the application."""
        head, connection = self.head, self._connection
        raw_path, _, query = head.target.partition(b"?")
        path = raw_path.decode("ascii")
        if "%" in path:
            path = unquote_to_bytes(raw_path).decode("utf-8", errors="replace")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1" if head.is_http_11 else "1.0",
            "method": head.method,
            "scheme": "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": connection.client,
            "server": connection.server,
            "extensions": {CANCELS: {}, RESPOND: self.respond},
        }
        if connection.serving.state is not None:
            scope["state"] = dict(connection.serving.state)
        return scope

    # --- the request -----------------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """ASGI's ``receive``: the body piece by piece; then, that the client has gone."""
        decoder = self._decoder
        if decoder is None:
            if self._owes_body_event():
                return {"type": "http.request", "body": b"", "more_body": False}
            if not self.is_over:
                await self._connection.until_gone()
            return {"type": "http.disconnect"}
        try:
            body = await self._next_body(decoder)
        except (ProtocolError, OSError) as error:
            await self._connection.fail(error)
            return {"type": "http.disconnect"}
        if decoder.is_complete:
            self._decoder = None
            self._pending = False
        return {"type": "http.request", "body": body, "more_body": not decoder.is_complete}

    async def _next_body(self, decoder: BodyDecoder) -> bytes:
        if self._held or decoder.is_complete:
            body, self._held = self._held, b""
            return body
        if self._owes_continue:
            self._owes_continue = False
            if not self.has_started:  # in the middle of an answer it would be a part of that
                await self._connection.tell_to_go_on()
        return await self._connection.read_body(decoder)

    def _owes_body_event(self) -> bool:
        """An application may ask once for a body that is not there."""
        if self._pending:
            self._pending = False
            return True
        return False

    # --- the answer ------------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI's ``send``. Where the client has gone, the application is cancelled.

        Raises:
            ClientGone: it has, and whoever calls this is not cancelled with the application.
            LocalProtocolError: the message is none, or not one that may come now.
        """
        kind = message["type"]
        try:
            if kind == "http.response.start":
                self._start(message["status"], message.get("headers", ()))
            elif kind == "http.response.body":
                body, more = message.get("body", b""), message.get("more_body", False)
                await self._send_body(body, more=more)
            else:
                raise LocalProtocolError(f"there is no message {kind!r} for HTTP")
        except (ProtocolError, OSError) as error:
            await self._connection.fail(error)
            raise ClientGone from error

    async def respond(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        last: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """A whole answer at once; otherwise as `send`.

        Args:
            status: of the answer.
            headers: of it; what is made of a tuple is remembered.
            body: all of it.
            last: headers that differ from answer to answer.

        Raises:
            LocalProtocolError: it is none, or not one that may come now.
        """
        try:
            self._start(status, headers, last, remembers=True)
            await self._send_body(body, more=False)
        except (ProtocolError, OSError) as error:
            await self._connection.fail(error)
            raise ClientGone from error

    def _start(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        last: Iterable[tuple[bytes, bytes]] = (),
        *,
        remembers: bool = False,
    ) -> None:
        if self._answer is not None:
            raise LocalProtocolError("the answer has been begun already")
        head = self.head
        self._answer = answer = answer_head(
            status,
            headers,
            last,
            date_line=self._connection.serving.date_line,
            is_to_head=head.method == "HEAD",
            is_http_11=head.is_http_11,
            remembers=remembers,
        )
        self._left = answer.length
        if answer.says_close or answer.framing is Framing.CLOSE:
            self.leaves_open = False
        if self._decoder is not None:
            # What has not come yet of the body would have to be waited for, or, where the client
            # was to be told to send it, may come or not: the connection ends with this answer.
            # What has come is held for an application that goes on reading while it answers.
            self._held = self._connection.body_so_far(self._decoder)
            if self._owes_continue or not self._decoder.is_complete:
                self.leaves_open = False

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        answer = self._answer
        if answer is None or self.is_over:
            raise LocalProtocolError("there is no answer that this could be the body of")
        if answer.framing is _BY_LENGTH:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                self.leaves_open = False
                raise LocalProtocolError("the body is not as long as Content-Length says")
            data = body
        else:
            data = _framed(answer.framing, body, more=more)
        if not self.has_started:
            self.has_started = True
            data = answer.wire + self._connection_line() + data
        self.is_over = not more
        if not data:
            return
        can_wait = self.is_over and self.leaves_open and len(data) <= SMALL_BYTES
        if not (can_wait and self._connection.write_soon(data)):
            await self._connection.write(data)

    def _connection_line(self) -> bytes:
        if not self.leaves_open or self._connection.serving.is_draining:
            self.leaves_open = False
            return b"connection: close\r\n\r\n"
        if not self.head.is_http_11:
            return b"connection: keep-alive\r\n\r\n"
        return b"\r\n"

    def finish(self) -> None:
        """The application has returned: is its answer whole?

        Raises:
            LocalProtocolError: the application has left its answer undone.
        """
        if not self.is_over:
            raise LocalProtocolError("the application returned before its answer was complete")


_BY_LENGTH = Framing.LENGTH


def _framed(framing: Framing, body: bytes, *, more: bool) -> bytes:
    """A piece of a body whose length nobody has said."""
    match framing:
        case Framing.CHUNKED:
            data = chunk(body) if body else b""
            return data if more else data + LAST_CHUNK
        case Framing.CLOSE:
            return body
        case _:
            return b""
