"""A request to be passed on, and its answer, as the gateway sees them: without ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import attrs

from bulkhead_trio.http.tunnel import OpenTunnel

Fields = list[tuple[bytes, bytes]]
"""Header fields: names in lower case, and values, in order."""


class Client(Protocol):
    """Whoever has sent a request: the other end of its bodies."""

    async def read_piece(self) -> bytes:
        """The next piece of the request's body; ``b""`` after the last."""

    async def answer(self, status: int, headers: Fields, body: bytes) -> None:
        """Answer, all at once."""

    async def begin_answer(self, status: int, headers: Fields) -> None:
        """Begin an answer whose body follows in pieces."""

    async def write_piece(self, piece: bytes) -> None:
        """Send a piece of the body; waits while the client does not read."""

    async def end_answer(self) -> None:
        """It was the last."""


@attrs.define(eq=False)
class Inbound:
    """A request as it came in.

    Attributes:
        method: as it was sent.
        raw_path: as it was sent.
        query: as it was sent, without the question mark.
        headers: all of them.
        peer: the address of whoever is connected; empty where there is none.
        peer_is_trusted: whether its forwarding headers are believed.
        scheme: ``http`` or ``https``.
        request_id: ours.
        timeout: what the caller has asked for, in seconds.
        has_body: whether a body follows.
        client: the other end.
        tunnel: opens one, where the request asks for a WebSocket.
        notes: for the request's log line.
        began: when it arrived, on Trio's clock.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: Fields
    peer: str
    peer_is_trusted: bool
    scheme: str
    request_id: str
    timeout: float | None
    has_body: bool
    client: Client
    tunnel: OpenTunnel | None
    notes: dict[str, str | float]
    began: float


class Body:
    """A request's body, which may be sent more than once as long as little of it has come.

    Args:
        client: gives its pieces.
        keeps: bytes that are kept for another try; 0 for none.
        most: bytes that are passed on at all; ``None`` without a bound.
    """

    __slots__ = (
        "_client",
        "_has_ended",
        "_keeps",
        "_kept",
        "_left",
        "_most",
        "_size",
        "is_too_large",
    )

    def __init__(self, client: Client, *, keeps: int, most: int | None) -> None:
        self._client = client
        self._keeps = keeps
        self._most = most
        self._kept: list[bytes] | None = []
        self._size = 0
        self._has_ended = False
        self.is_too_large = False

    @property
    def can_be_sent_again(self) -> bool:
        """Whether all that has come of it has been kept."""
        return self._kept is not None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Its pieces from the first on; only while `can_be_sent_again`."""
        for piece in self._kept or ():
            yield piece
        while not self._has_ended:
            piece = await self._client.read_piece()
            if not piece:
                self._has_ended = True
                return
            self._size += len(piece)
            if self._most is not None and self._size > self._most:
                self.is_too_large = True
                raise BodyTooLarge
            self._keep(piece)
            yield piece

    def _keep(self, piece: bytes) -> None:
        if self._kept is None:
            return
        if self._size > self._keeps:
            self._kept = None
        else:
            self._kept.append(piece)


class BodyTooLarge(Exception):
    """More of a body has come than is passed on.

    Attributes:
        code: what it counts as.
    """

    code = "body_too_large"
