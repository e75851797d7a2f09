"""One request's way to an upstream and back: tries, timeouts, fallbacks, bodies.

    health → breaker → retry → balancer → transformation → upstream, or fallback

Bodies pass through in pieces of 64 KiB at most, in both directions at once; nothing is kept but
what a retry may need, up to a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

import trio

from bulkhead_trio.errors import (
    AddressForbidden,
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    NoUpstream,
    QueueTimeout,
    UpstreamBodyTooLarge,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from bulkhead_trio.gateway._header_rules import RequestFacts
from bulkhead_trio.gateway._outcome_rules import FIRST_FAILURE_STATUS
from bulkhead_trio.gateway._path_rules import target
from bulkhead_trio.gateway.exchange import Body, BodyTooLarge, Inbound
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.route import IDEMPOTENT, Destination, Retrying, Route
from bulkhead_trio.gateway.tally import Tally, class_of, outcome_of
from bulkhead_trio.gateway.upstream import Turn, Upstream
from bulkhead_trio.http.client import HTTPClient, StreamedResponse
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.http.tunnel import pump
from bulkhead_trio.policies.compartment import Slot
from bulkhead_trio.policies.deadline import Deadline
from bulkhead_trio.policies.retry import Reason
from bulkhead_trio.tiers import Passage

SMALL_BODY_BYTES = 16 * 1024
"""A body that says it is no longer is read before the request has a place: it then needs no task of
its own, and a client that sends it slowly keeps nobody else waiting."""

SWITCHING = 101

SHORT_SECONDS = 5.0
"""Below this a limit is kept to the moment, connecting included, which takes a cancel scope. Above
it the client's own limits do, which are looked at ten times a second."""

FAIR_SECONDS = 30.0
"""An upstream that has had so long when its caller's deadline passes was too slow, whatever the
caller had in mind; one that had less may have had too little."""


class Gateway(Protocol):
    """What all journeys have in common."""

    client: HTTPClient
    random: Callable[[], float]
    max_body_bytes: int | None

    def lasting(self, tier: str, tenant_id: str) -> AbstractContextManager[None]:
        """Count what lasts and does nothing most of the time."""


class AnswerBrokenOff(Exception):
    """The upstream has broken off in the middle of an answer that the client has a part of.

    Attributes:
        code: what it counts as.
    """

    code = "upstream_error"


class Place:
    """A place in a tier's compartment, which a tunnel gives back before it ends.

    Args:
        slot: the place.
        passage: counts the request.
    """

    __slots__ = ("_passage", "_slot")

    def __init__(self, slot: Slot, passage: Passage) -> None:
        self._slot: Slot | None = slot
        self._passage = passage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.__exit__(exc_type, exc, traceback)

    def give_back(self) -> None:
        """The request is done, as far as its tier goes."""
        self.__exit__(None, None, None)
        self._passage.end("ok")


NOT_ANSWERED = (UpstreamError, CircuitOpen, BulkheadFull, QueueTimeout)
"""Why an upstream has not answered; a fallback takes the place of each."""


class _NotGoodEnough(UpstreamError):
    """An answer that is the upstream's failure, where something better may be had."""


class Journey:
    """One request on its way.

    Args:
        gateway: what it has in common with others.
        route: the one that it matches.
        inbound: it.
        path: for upstreams, without the base path of their URLs.
        deadline: for the head of its answer; and for all of it, where its caller has asked so.
        tally: counts it.
    """

    def __init__(
        self,
        gateway: Gateway,
        route: Route,
        inbound: Inbound,
        path: bytes,
        deadline: Deadline,
        tally: Tally,
    ) -> None:
        self.deadline = deadline
        self._tally = tally
        self._gateway = gateway
        self._route = route
        self._inbound = inbound
        self._path = path
        self._body: Body | bytes | None = None
        self._tried: list[Upstream] = []
        self._tries = 0
        self._planned: tuple[float, int] | None = None
        self._has_begun = False
        self._is_falling_back = False

    async def prepare(self) -> None:
        """Look at its body before it takes anybody's place, and read a small one.

        Raises:
            BodyTooLarge: it says so itself.
            DeadlineExceeded: a small one has not come by then.
        """
        inbound = self._inbound
        most, length = self._gateway.max_body_bytes, _length(inbound)
        if most is not None and length is not None and length > most:
            raise BodyTooLarge
        retrying = self._route.retrying
        body = Body(inbound.client, keeps=0 if retrying is None else retrying.keeps, most=most)
        if length is not None and length <= SMALL_BODY_BYTES:
            with self.deadline.enforced():
                self._body = b"".join([piece async for piece in body])
        else:
            self._body = body

    async def make(self, place: Place) -> None:
        """Ask upstreams until one has an answer, and pass that on; errors as `Proxy.forward`."""
        route = self._route
        if route.retrying is not None:
            route.retrying.budget.count_call()
        while True:
            self._tries += 1
            try:
                await self._try(route.group, place, is_last=False)
            except NOT_ANSWERED as error:
                if self._has_begun:
                    self._tally.end(error.code)
                    raise AnswerBrokenOff from error
                if await self._waited(error):
                    continue
                if await self._fell_back(place):
                    return
                raise
            return

    # --- one try ---------------------------------------------------------------------------------

    async def _try(self, group: UpstreamGroup, place: Place, *, is_last: bool) -> None:
        upstream, turn = await self._enter(group)
        tally = self._tally
        try:
            with turn:
                await self._ask(upstream, turn, place, is_last=is_last)
        except (BulkheadFull, QueueTimeout) as error:
            tally.answered(error.code)
            # The client's own words have the upstream's address in them, which is nobody's affair.
            message = "As many requests are under way to the upstream as may be."
            raise type(error)(message, retry_after=error.retry_after) from error
        except _NotGoodEnough:
            tally.answered(class_of(tally.status))
            raise
        except BaseException as error:
            self._give_back_planned()
            tally.answered(outcome_of(error))
            raise
        tally.answered(class_of(tally.status))

    async def _enter(self, group: UpstreamGroup) -> tuple[Upstream, Turn]:
        """Choose an upstream, and have one request's place there.

        Raises:
            CircuitOpen: none that is up lets anybody in.
            BulkheadFull: all its places are taken, those in line too.
        """
        while True:
            upstream = group.pick(self._tried)
            is_new = upstream not in self._tried
            self._tried.append(upstream)
            try:
                try:
                    return upstream, upstream.enter_nowait()
                except trio.WouldBlock:
                    with self.deadline.enforced():
                        return upstream, await upstream.enter()
            except CircuitOpen:
                if not is_new:
                    raise
                # Its probe went to somebody else meanwhile; that was no try of ours.

    async def _ask(self, upstream: Upstream, turn: Turn, place: Place, *, is_last: bool) -> None:
        """Send the request, and pass the answer on."""
        inbound, route, deadline = self._inbound, self._route, self.deadline
        destination = route.destinations[upstream.url]
        now = self._tally.asked(destination.label)
        by = min(deadline.at, now + route.seconds(inbound.method))
        if by <= now:
            raise DeadlineExceeded("the deadline has passed")
        exchange = self._gateway.client.request(
            inbound.method,
            upstream.url,
            headers=self._headers(destination, by - now),
            content=self._body,
            target=target(destination.base, self._path, inbound.query),
            head_timeout=by - now,
        )
        if inbound.timeout is not None or (
            by - now < SHORT_SECONDS and not isinstance(self._body, Body)
        ):
            await self._punctual(exchange, turn, place, by, is_last=is_last)
            return
        try:
            async with exchange as response:
                await self._take(response, turn, place, None, is_last=is_last)
        except UpstreamTimeout:
            if not self._has_begun and trio.current_time() >= deadline.at:
                turn.failed()
                raise DeadlineExceeded("the deadline has passed") from None
            raise

    async def _punctual(
        self, exchange: Exchange, turn: Turn, place: Place, by: float, *, is_last: bool
    ) -> None:
        """Have it done ``by`` then, to the moment: the head of the answer, or all of it."""
        began = trio.current_time()
        with trio.CancelScope(deadline=by) as scope:
            async with exchange as response:
                await self._take(response, turn, place, scope, is_last=is_last)
        if not scope.cancelled_caught:
            return
        now = trio.current_time()
        if now < self.deadline.at:
            raise UpstreamTimeout("the upstream took too long to answer", origin="", phase="head")
        if now - began >= FAIR_SECONDS:
            turn.failed()
        raise DeadlineExceeded("the deadline has passed")

    async def _take(
        self,
        response: StreamedResponse,
        turn: Turn,
        place: Place,
        scope: trio.CancelScope | None,
        *,
        is_last: bool,
    ) -> None:
        """The head of an answer is there."""
        self._tally.status = status = response.status
        turn.answered(status)
        if not is_last and self._is_to_be_replaced(status):
            if status < FIRST_FAILURE_STATUS:
                turn.succeeded()
            raise _NotGoodEnough(f"the upstream answered {status}", origin="")
        if scope is not None:
            # What its caller has asked for holds for the body too; our own limits do not.
            scope.deadline = math.inf if self._inbound.timeout is None else self.deadline.at
        if status == SWITCHING:
            self._check_switch(response)
            if scope is not None:
                scope.deadline = math.inf
            await self._open_tunnel(response, turn, place)
        else:
            await self._pass_on(response, turn, place)

    def _headers(self, destination: Destination, seconds: float) -> list[tuple[bytes, bytes]]:
        inbound = self._inbound
        return self._route.request_headers.apply(
            inbound.headers,
            RequestFacts(
                peer=inbound.peer,
                scheme=inbound.scheme,
                request_id=inbound.request_id,
                parent_id=int(self._gateway.random() * 2**64) or 1,
                timeout=seconds,
                is_tunnel=inbound.tunnel is not None,
                is_trusted=inbound.peer_is_trusted,
                host=destination.authority,
            ),
        )

    async def _pass_on(self, response: StreamedResponse, turn: Turn, place: Place) -> None:
        client = self._inbound.client
        headers = self._route.response_headers.apply(response.headers)
        if response.is_complete:
            self._has_begun = True
            await client.answer(response.status, headers, await response.read_piece())
            return
        if not _is_endless(response):
            self._has_begun = True
            await client.begin_answer(response.status, headers)
            await self._pour(response)
            return
        turn.succeeded()  # its end says nothing, and a probe must not wait for it
        tier = str(self._inbound.notes["tier"])
        with self._gateway.lasting(tier, self._route.tenant_id):
            self._has_begun = True
            await client.begin_answer(response.status, headers)
            place.give_back()
            self._tally.lasts()
            await self._pour(response)

    async def _pour(self, response: StreamedResponse) -> None:
        client = self._inbound.client
        while piece := await response.read_piece():
            await client.write_piece(piece)
        await client.end_answer()

    def _check_switch(self, response: StreamedResponse) -> None:
        """Whether the upstream speaks what was asked for, and says so (RFC 9110, section 15.2.2).

        Raises:
            UpstreamError: it does not.
        """
        said = (response.header("upgrade") or "").strip().lower()
        if self._inbound.tunnel is None or said != "websocket":
            raise UpstreamError("the upstream switched to something else", origin="")

    async def _open_tunnel(self, response: StreamedResponse, turn: Turn, place: Place) -> None:
        open_tunnel = self._inbound.tunnel
        assert open_tunnel is not None  # noqa: S101  the client asks for no upgrade without one
        headers = self._route.response_headers.apply(response.headers, is_tunnel=True)
        self._has_begun = True
        ours = await open_tunnel(SWITCHING, headers)
        turn.succeeded()
        place.give_back()
        self._tally.lasts()
        await pump(ours, response.tunnel)

    # --- when it was not good enough -------------------------------------------------------------

    def _is_to_be_replaced(self, status: int) -> bool:
        """Whether something better than an answer with this status is to be had.

        Decided while the answer is still there: where no other try may be made, it is passed on.
        """
        route, retrying = self._route, self._route.retrying
        if (
            retrying is not None
            and not self._is_falling_back
            and status in retrying.statuses
            and self._may_ask_again(retrying)
            and self._plan(retrying)
        ):
            return True
        return status >= FIRST_FAILURE_STATUS and route.has_fallback

    def _may_ask_again(self, retrying: Retrying) -> bool:
        if self._inbound.method not in IDEMPOTENT and not retrying.non_idempotent:
            return False
        body = self._body
        if isinstance(body, Body):
            return body.can_be_sent_again
        return body is None or len(body) <= retrying.keeps

    def _plan(self, retrying: Retrying) -> bool:
        """Whether there is to be another try; it is granted then, and counted."""
        wait = retrying.schedule.wait(
            self._tries,
            delay=retrying.schedule.delay(self._tries, previous=0.0, random=self._gateway.random()),
            retry_after=None,
            now=trio.current_time(),
            deadline=self.deadline.at,
        )
        if isinstance(wait, Reason):
            return False
        grant = retrying.budget.take_nowait()
        if grant is None:
            return False
        self._planned = (wait, grant)
        return True

    def _give_back_planned(self) -> None:
        """What was planned when an answer came does not happen: something else went wrong."""
        if self._planned is not None:
            (_, grant), self._planned = self._planned, None
            assert self._route.retrying is not None  # noqa: S101  it has granted this
            self._route.retrying.budget.give_back(grant)

    async def _waited(self, error: Exception) -> bool:
        """Wait for the next try, if there is to be one."""
        retrying = self._route.retrying
        if retrying is None:
            return False
        if self._planned is None and not (
            self._is_worth_another(error, retrying) and self._plan(retrying)
        ):
            return False
        assert self._planned is not None  # noqa: S101  it was just made
        (wait, grant), self._planned = self._planned, None
        try:
            await trio.sleep(wait)
        except BaseException:
            retrying.budget.give_back(grant)
            raise
        return True

    def _is_worth_another(self, error: Exception, retrying: Retrying) -> bool:
        if isinstance(error, AddressForbidden | NoUpstream | UpstreamBodyTooLarge | _NotGoodEnough):
            return False
        if isinstance(error, UpstreamUnreachable):
            return True  # nobody has seen it
        if isinstance(error, UpstreamError):
            return self._may_ask_again(retrying)
        return False

    async def _fell_back(self, place: Place) -> bool:
        """Answer in the place of the upstream, if the route says how."""
        route = self._route
        if route.fallback_group is not None and not (
            isinstance(self._body, Body) and not self._body.can_be_sent_again
        ):
            self._tally.falls_back("upstream")
            self._is_falling_back = True
            try:
                await self._try(route.fallback_group, place, is_last=route.fallback is None)
            except NOT_ANSWERED as error:
                if self._has_begun:
                    self._tally.end(error.code)
                    raise AnswerBrokenOff from error
            else:
                return True
        if (answer := route.fallback) is None:
            return False
        self._tally.falls_back("answer")
        self._tally.status = answer.status
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        self._has_begun = True
        await self._inbound.client.answer(answer.status, headers, answer.body)
        return True


def _is_endless(response: StreamedResponse) -> bool:
    """Whether it is a stream of events, which lasts as long as somebody listens."""
    return (response.header("content-type") or "").startswith("text/event-stream")


def _length(inbound: Inbound) -> int | None:
    """What the request says of its body's length."""
    for name, value in inbound.headers:
        if name == b"content-length":
            return int(value)
    return None
