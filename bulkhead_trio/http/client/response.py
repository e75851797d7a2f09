"""Answers: one that is still coming, and one that has been read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs

from bulkhead_trio.errors import UpstreamBodyTooLarge
from bulkhead_trio.http.client._response_rules import ResponseHead

if TYPE_CHECKING:
    from bulkhead_trio.http.client.exchange import Exchange
    from bulkhead_trio.http.client.upgraded import UpgradedStream
    from bulkhead_trio.http.tunnel import ByteStream

DEFAULT_MAX_BYTES = 10 * 1024 * 1024
"""Of a body that is read whole, unless its reader says."""


def _first(headers: list[tuple[bytes, bytes]] | tuple[tuple[bytes, bytes], ...],
           name: str) -> str | None:  # fmt: skip
    wanted = name.lower().encode("latin-1")
    for key, value in headers:
        if key == wanted:
            return value.decode("latin-1")
    return None


@attrs.frozen
class Response:
    """An answer that has been read.

    Attributes:
        status: 200 to 599.
        headers: names in lower case, values, in order.
        content: the body.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header; ``None`` where it is not there."""
        return _first(self.headers, name)


class StreamedResponse:
    """An answer whose body is still coming; it lasts as long as its request's ``async with``.

    Attributes:
        status: 200 to 599, or 101.
        reason: the words after it.
        headers: names in lower case, values, in order.
        is_http_11: or 1.0.
    """

    __slots__ = ("_exchange", "_ready", "headers", "is_complete", "is_http_11", "reason", "status")

    def __init__(self, exchange: Exchange, head: ResponseHead) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self.is_http_11 = head.is_http_11
        self.is_complete = False
        """Whether all of it has come, so that reading the rest waits for nothing."""
        self._exchange = exchange
        self._ready = b""

    def header(self, name: str) -> str | None:
        """The first value of a header; ``None`` where it is not there."""
        return _first(self.headers, name)

    async def read_piece(self) -> bytes:
        """The next piece of the body, at most 64 KiB; ``b""`` after the last.

        Nothing is read ahead: who does not ask makes the upstream wait.

        Raises:
            UpstreamError: the rest does not come, or is no body.
            UpstreamTimeout: it does not come in time.
            trio.ClosedResourceError: the ``async with`` block has been left.
        """
        if self._ready:
            piece, self._ready = self._ready, b""
            return piece
        return b"" if self.is_complete else await self._exchange.read_piece(self)

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The pieces of the body, for ``async for``; raises what `read_piece` does."""
        return _Pieces(self)

    async def aread(self, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
        """All of the body that has not been read yet.

        Args:
            max_bytes: the most that is taken.

        Raises:
            UpstreamBodyTooLarge: there is more.
            UpstreamError: as from `read_piece`.
        """
        piece = await self.read_piece()
        if self.is_complete and not self._ready and len(piece) <= max_bytes:
            return piece
        pieces: list[bytes] = []
        taken = 0
        while piece:
            pieces.append(piece)
            taken += len(piece)
            if taken > max_bytes:
                raise UpstreamBodyTooLarge(
                    f"an answer of {self._exchange.origin} has a body of more than"
                    f" {max_bytes} bytes",
                    origin=str(self._exchange.origin),
                    max_bytes=max_bytes,
                )
            piece = await self.read_piece()
        return b"".join(pieces)

    async def aread_whole(self, max_bytes: int = DEFAULT_MAX_BYTES) -> Response:
        """The answer with all of its body; raises what `aread` does."""
        body = await self.aread(max_bytes)
        return Response(self.status, tuple(self.headers), body)

    @property
    def tunnel(self) -> ByteStream:
        """After 101: the same as one end of a tunnel, for `bulkhead_trio.http.tunnel.pump`."""
        return self.stream

    @property
    def stream(self) -> UpgradedStream:
        """After 101: the connection, for what was upgraded to; it is closed with the block.

        Raises:
            RuntimeError: the answer is not 101.
        """
        if self.status != 101:
            raise RuntimeError(f"an answer with status {self.status} leaves no stream")
        return self._exchange.stream()

    def _have(self, piece: bytes) -> None:
        self._ready = piece


class _Pieces:
    """Iterates over a body. No generator: one that is thrown away half-way needs cleaning up."""

    __slots__ = ("_response",)

    def __init__(self, response: StreamedResponse) -> None:
        self._response = response

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._response.read_piece()
        if not piece:
            raise StopAsyncIteration
        return piece
