"""One connection to one Redis server: dialled by Trio, spoken by coredis.

coredis's own pool is not used. One connection carries any number of commands at the same time, and
the pool of 6.9 loses a place for good whenever an attempt to connect is cancelled, which is what a
deadline does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, cast

import trio
from coredis.connection import BaseConnection, TCPLocation
from coredis.exceptions import ConnectionError, RedisError

from bulkhead_trio.state._address_rules import RedisAddress
from bulkhead_trio.state._commands import Command

READ_BYTES = 65_536

GRACE_STEPS = 3
"""Turns of the event loop that an answer gets which may be there already when time is up: one to
read it, one to wake who waits for it, and one to spare."""


class _ByteStream:
    """A stream of Trio as coredis reads and writes one."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        """What has come; raises when nothing more will."""
        data = await self._stream.receive_some(READ_BYTES)
        if not data:
            raise ConnectionResetError("Redis closed the connection")
        return bytes(data)

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def __aenter__(self) -> _ByteStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A goodbye in TLS would wait for a Redis that hangs.
        await trio.aclose_forcefully(self._stream)


class _Connection(BaseConnection):
    """coredis's connection over a stream that is there already."""

    def __init__(self, stream: _ByteStream, address: RedisAddress, name: str) -> None:
        super().__init__(
            TCPLocation(address.host, address.port),
            db=address.database,
            username=address.username,
            password=address.password,
            client_name=name,
        )
        self._dialled = stream

    async def _connect(self) -> Any:
        return self._dialled

    def describe(self) -> str:
        return "a connection to Redis"


class _Start:
    """What coredis tells that it has shaken hands; in place of a nursery's task status."""

    def __init__(self) -> None:
        self.is_over = trio.Event()

    def started(self, value: object = None) -> None:  # noqa: ARG002
        """It has."""
        self.is_over.set()


async def _dial(address: RedisAddress) -> trio.abc.Stream:
    if address.path is not None:
        return await trio.open_unix_socket(address.path)
    context = address.tls_context()
    stream = await trio.open_tcp_stream(address.host, address.port)
    if context is None:
        return stream
    secret = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
    try:
        await secret.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(secret)
        if isinstance(error, trio.BrokenResourceError):
            raise OSError(f"no TLS with Redis: {error.__cause__ or error}") from error
        raise
    return secret


class Link:
    """A connection that is open, and has shaken hands.

    Attributes:
        lost: set once it is of no use any more.
    """

    def __init__(self, connection: _Connection) -> None:
        self.lost = trio.Event()
        self._connection = connection
        self._start = _Start()
        self._error: Exception | None = None

    @classmethod
    async def open(cls, nursery: trio.Nursery, address: RedisAddress, name: str) -> Link:
        """Connect; what reads and writes lives in ``nursery``.

        Raises:
            OSError: nobody is there, or a certificate is wrong.
            RedisError: Redis refuses us.
        """
        stream = await _dial(address)
        link = cls(_Connection(_ByteStream(stream), address, name))
        nursery.start_soon(link._keep)
        try:
            await link._start.is_over.wait()
        except BaseException:
            link.close()
            raise
        if link._error is not None:
            raise link._error
        return link

    async def _keep(self) -> None:
        try:
            await self._connection.run(task_status=cast("Any", self._start))
        except RedisError as error:
            self._error = error
        finally:
            self.lost.set()
            self._start.is_over.set()

    async def ask(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """The answers to ``commands``, sent at once; a `RedisError` in place of one is one too.

        A caller that is cancelled meanwhile goes when they are there, or at the deadline: its
        answers are not left behind on the connection.

        Args:
            commands: any number.
            deadline: on Trio's clock. What has not come by then breaks the connection off, so that
                nobody else ever reads the late answer.

        Raises:
            RedisError: the connection is not usable, or was lost.
            TimeoutError: the deadline has passed.
        """
        batch = self._connection.create_request_batch(cast("Any", commands))
        # Whether a late answer ends the connection is decided here, after a last look.
        batch.disconnect_on_cancellation = False
        try:
            with trio.CancelScope(deadline=deadline, shield=True):
                return _answers(await batch)
            # A busy event loop may be what is late: then the answer is there to be read.
            with trio.CancelScope(shield=True):
                for _ in range(GRACE_STEPS):
                    await trio.lowlevel.checkpoint()
            if not batch.complete:
                raise TimeoutError("Redis did not answer in time")
            return _answers(await batch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Break it off; whoever waits for an answer is told at once."""
        self._connection.invalidate()
        self.lost.set()

    async def listen(self, channels: Sequence[str], tell: Callable[[str, bytes], None]) -> None:
        """Tell of every message to ``channels`` until the connection is lost."""
        self._connection.send_command(b"SUBSCRIBE", *channels)
        pushes = cast(AsyncGenerator[list[Any], None], self._connection.push_messages)
        async with aclosing(pushes):
            try:
                async for push in pushes:
                    if push[0] == b"message":
                        tell(push[1].decode(), push[2])
            except RedisError:
                return


def _answers(found: list[Any]) -> list[Any]:
    """What Redis answered; where that did not come, coredis has put whatever broke in its place.

    Raises:
        ConnectionError: some did not come; coredis's.
    """
    for each in found:
        if isinstance(each, ConnectionError):
            raise each
        if isinstance(each, BaseException) and not isinstance(each, RedisError):
            raise ConnectionError("the connection to Redis was lost") from each
    return found
