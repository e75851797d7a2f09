"""Sending every WebSocket message back, over a handshake of wsproto's."""

from __future__ import annotations

from collections import deque

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from bulkhead_trio.testing.upstream._request import Malformed
from bulkhead_trio.testing.upstream._wire import Gone, Wire
from bulkhead_trio.testing.upstream.script import Ending, WebSocket


class EchoingWebSocket:
    """One connection that became a WebSocket, from the head of its request on.

    Args:
        wire: it.
        head: of the request, raw.
        step: what it does.
    """

    def __init__(self, wire: Wire, head: bytes, step: WebSocket) -> None:
        self._wire = wire
        self._step = step
        self._head = head
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._events: deque[Event] = deque()
        self._left = step.close_after

    async def run(self) -> Ending:
        """Shake hands and echo until either side ends it; says what becomes of the connection.

        Raises:
            Malformed: this is no handshake, or no frame.
            Gone: the client went without a closing handshake.
        """
        try:
            self._take(self._head)
            return await self._run()
        except RemoteProtocolError as error:
            raise Malformed(str(error)) from error

    async def _run(self) -> Ending:
        while self._left != 0:
            event = await self._next()
            if isinstance(event, Request):
                await self._send(AcceptConnection(subprotocol=self._step.subprotocol))
                for text in self._step.greeting:
                    await self._send(TextMessage(data=text))
            elif isinstance(event, Ping):
                await self._send(event.response())
            elif isinstance(event, CloseConnection):
                await self._send(event.response())
                return "close"
            elif isinstance(event, TextMessage | BytesMessage):
                await self._echo(event)
        return await self._end()

    async def _echo(self, event: TextMessage | BytesMessage) -> None:
        is_last = event.message_finished
        if isinstance(event, TextMessage):
            await self._send(TextMessage(data=event.data, message_finished=is_last))
        else:
            await self._send(BytesMessage(data=bytes(event.data), message_finished=is_last))
        if is_last and self._left is not None:
            self._left -= 1

    async def _end(self) -> Ending:
        if self._step.how != "goodbye":
            return self._step.how
        await self._send(CloseConnection(code=self._step.code))
        while not isinstance(await self._next(), CloseConnection):
            pass
        return "close"

    async def _next(self) -> Event:
        while not self._events:
            data = await self._wire.receive()
            if not data:
                raise Gone
            self._take(data)
        return self._events.popleft()

    def _take(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._events.extend(self._protocol.events())

    async def _send(self, event: Event) -> None:
        await self._wire.send(self._protocol.send(event))
