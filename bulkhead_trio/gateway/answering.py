"""An upstream's answer on its way to the client: whole, in pieces, without an end, as a tunnel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from bulkhead_trio.errors import UpstreamError
from bulkhead_trio.gateway._location_rules import Asked
from bulkhead_trio.gateway.exchange import Inbound
from bulkhead_trio.gateway.place import Place
from bulkhead_trio.gateway.route import FixedAnswer, Route
from bulkhead_trio.gateway.tally import Tally
from bulkhead_trio.gateway.upstream import Turn
from bulkhead_trio.http.client import StreamedResponse
from bulkhead_trio.http.tunnel import pump

SWITCHING = 101

Lasting: TypeAlias = Callable[[str, str], AbstractContextManager[None]]
"""Counts what lasts, by tier and tenant; see `Proxy.lasting`."""


class AnswerBrokenOff(Exception):
    """The upstream has broken off in the middle of an answer that the client has a part of.

    Attributes:
        code: what it counts as.
    """

    code = "upstream_error"


class Answering:
    """Gives one request its answer.

    Args:
        route: whose rules hold.
        inbound: the request.
        tally: counts it.
        place: its own, in its tier's compartment; what lasts gives it back.
        lasting: counts what lasts.

    Attributes:
        has_begun: whether the client has a part of the answer: no other can be given then.
        asked: where the request was sent last.
        authorization: what its upstream was told last of who asks; empty: nothing of ours.
    """

    __slots__ = (
        "_inbound", "_lasting", "_place", "_route", "_tally", "asked", "authorization", "has_begun",
    )  # fmt: skip

    def __init__(
        self, route: Route, inbound: Inbound, tally: Tally, place: Place, lasting: Lasting
    ) -> None:
        self._route = route
        self._inbound = inbound
        self._tally = tally
        self._place = place
        self._lasting = lasting
        self.has_begun = False
        self.asked: Asked | None = None
        self.authorization = b""

    async def with_fixed(self, answer: FixedAnswer) -> None:
        """Answer in the place of an upstream."""
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        self.has_begun = True
        await self._inbound.client.answer(answer.status, headers, answer.body)

    async def with_response(self, response: StreamedResponse, turn: Turn) -> None:
        """Pass an upstream's answer on."""
        client = self._inbound.client
        headers = self._route.response_headers.apply(response.headers, asked=self.asked)
        if response.is_complete:
            self.has_begun = True
            await client.answer(response.status, headers, await response.read_piece())
            return
        if not _is_endless(response):
            self.has_begun = True
            await client.begin_answer(response.status, headers)
            await self._pour(response)
            return
        turn.succeeded()  # its end says nothing, and a probe must not wait for it
        tier = str(self._inbound.notes["tier"])
        with self._lasting(tier, self._route.tenant_id):
            self.has_begun = True
            await client.begin_answer(response.status, headers)
            self._lasts()
            await self._pour(response)

    async def with_tunnel(self, response: StreamedResponse, turn: Turn) -> None:
        """Connect the client with an upstream that has switched to what it asked for.

        Raises:
            UpstreamError: it has not: it speaks something else, or says so (RFC 9110, section
                15.2.2).
        """
        said = (response.header("upgrade") or "").strip().lower()
        open_tunnel = self._inbound.tunnel
        if open_tunnel is None or said != "websocket":
            raise UpstreamError("the upstream switched to something else", origin="")
        headers = self._route.response_headers.apply(response.headers, is_tunnel=True)
        self.has_begun = True
        ours = await open_tunnel(SWITCHING, headers)
        turn.succeeded()
        self._lasts()
        await pump(ours, response.tunnel)

    async def _pour(self, response: StreamedResponse) -> None:
        client = self._inbound.client
        while piece := await response.read_piece():
            await client.write_piece(piece)
        await client.end_answer()

    def _lasts(self) -> None:
        """From now on it counts as what lasts, and keeps nobody else's place."""
        self._place.give_back()
        self._tally.lasts()


def _is_endless(response: StreamedResponse) -> bool:
    """Whether it is a stream of events, which lasts as long as somebody listens."""
    return (response.header("content-type") or "").startswith("text/event-stream")
