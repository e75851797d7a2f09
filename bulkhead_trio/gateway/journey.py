"""One request's way to an upstream and back: tries, timeouts, fallbacks.

    health → breaker → retry → balancer → transformation → upstream, or fallback

Bodies pass through in pieces of 64 KiB at most, in both directions at once; nothing is kept but
what a retry may need, up to a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from bulkhead_trio.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    QueueTimeout,
    UpstreamError,
    UpstreamTimeout,
)
from bulkhead_trio.gateway._header_rules import RequestFacts
from bulkhead_trio.gateway._outcome_rules import FIRST_FAILURE_STATUS
from bulkhead_trio.gateway._path_rules import target
from bulkhead_trio.gateway.answering import SWITCHING, AnswerBrokenOff, Answering
from bulkhead_trio.gateway.exchange import Body, BodyTooLarge, Inbound
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.place import Place
from bulkhead_trio.gateway.retries import NotGoodEnough, Retries
from bulkhead_trio.gateway.route import Destination, Route
from bulkhead_trio.gateway.tally import Tally, class_of, outcome_of
from bulkhead_trio.gateway.upstream import Turn, Upstream
from bulkhead_trio.http.client import HTTPClient, StreamedResponse
from bulkhead_trio.http.client.exchange import Exchange
from bulkhead_trio.policies.deadline import Deadline

SMALL_BODY_BYTES = 16 * 1024
"""A body that says it is no longer is read before the request has a place: it then needs no task of
its own, and a client that sends it slowly keeps nobody else waiting."""

SHORT_SECONDS = 5.0
"""Below this a limit is kept to the moment, connecting included, which takes a cancel scope. Above
it the client's own limits do, which are looked at ten times a second."""

FAIR_SECONDS = 30.0
"""An upstream that has had so long when its caller's deadline passes was too slow, whatever the
caller had in mind; one that had less may have had too little."""

UNAUTHORIZED = 401

NOT_ANSWERED = (UpstreamError, CircuitOpen, BulkheadFull, QueueTimeout)
"""Why an upstream has not answered; a fallback takes the place of each."""


class Gateway(Protocol):
    """What all journeys have in common."""

    client: HTTPClient
    random: Callable[[], float]
    max_body_bytes: int | None

    def lasting(self, tier: str, tenant_id: str) -> AbstractContextManager[None]:
        """Count what lasts and does nothing most of the time."""


class Journey:
    """One request on its way.

    Args:
        gateway: what it has in common with others.
        route: the one that it matches.
        inbound: it.
        path: for upstreams, without the base path of their URLs.
        taken_off: what of the request's own path is not in it.
        deadline: for the head of its answer; and for all of it, where its caller has asked so.
        tally: counts it.
    """

    def __init__(
        self,
        gateway: Gateway,
        route: Route,
        inbound: Inbound,
        path: bytes,
        taken_off: bytes,
        deadline: Deadline,
        tally: Tally,
    ) -> None:
        self.deadline = deadline
        self._tally = tally
        self._gateway = gateway
        self._route = route
        self._inbound = inbound
        self._path = path
        self._taken_off = taken_off
        self._body: Body | bytes | None = None
        self._tried: list[Upstream] = []
        self._retries: Retries | None = None

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
        route, inbound = self._route, self._inbound
        answering = Answering(route, inbound, self._tally, place, self._gateway.lasting)
        if route.retrying is not None:
            self._retries = Retries(
                route.retrying, inbound.method, self.deadline.at, self._gateway.random
            )
        try:
            while True:
                try:
                    await self._try(route.group, answering)
                except NOT_ANSWERED as error:
                    if answering.has_begun:
                        raise
                    if self._retries is not None and await self._retries.wait(error, self._body):
                        continue
                    if await self._fell_back(answering):
                        return
                    raise
                return
        except NOT_ANSWERED as error:
            if not answering.has_begun:
                raise
            self._tally.end(error.code)
            raise AnswerBrokenOff from error

    async def _fell_back(self, answering: Answering) -> bool:
        """Answer in the place of the upstreams, if the route says how."""
        route = self._route
        if route.fallback_group is not None and not (
            isinstance(self._body, Body) and not self._body.can_be_sent_again
        ):
            self._tally.falls_back("upstream")
            self._retries = None
            try:
                await self._try(route.fallback_group, answering, is_last=route.fallback is None)
            except NOT_ANSWERED:
                if answering.has_begun:
                    raise
            else:
                return True
        if (answer := route.fallback) is None:
            return False
        self._tally.falls_back("answer")
        self._tally.status = answer.status
        await answering.with_fixed(answer)
        return True

    # --- one try ---------------------------------------------------------------------------------

    async def _try(
        self, group: UpstreamGroup, answering: Answering, *, is_last: bool = False
    ) -> None:
        if self._retries is not None:
            self._retries.tries += 1
        if (identity := self._route.identity) is not None:
            # Before anybody is chosen: that there is no token is no failure of an upstream's.
            with self.deadline.enforced():
                await identity.ready()
        upstream, turn = await self._enter(group)
        tally = self._tally
        try:
            with turn:
                await self._ask(upstream, turn, answering, is_last=is_last)
        except (BulkheadFull, QueueTimeout) as error:
            tally.answered(error.code)
            # The client's own words have the upstream's address in them, which is nobody's affair.
            message = "As many requests are under way to the upstream as may be."
            raise type(error)(message, retry_after=error.retry_after) from error
        except NotGoodEnough:
            tally.answered(class_of(tally.status))
            raise
        except BaseException as error:
            if self._retries is not None:
                self._retries.give_back()
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

    async def _ask(
        self, upstream: Upstream, turn: Turn, answering: Answering, *, is_last: bool
    ) -> None:
        """Send the request, and pass the answer on."""
        inbound, route, deadline = self._inbound, self._route, self.deadline
        destination = route.destinations[upstream.url]
        now = self._tally.asked(destination.label)
        by = min(deadline.at, now + route.seconds(inbound.method))
        if by <= now:
            raise DeadlineExceeded("the deadline has passed")
        answering.asked = destination.asked(self._taken_off)
        headers = self._headers(destination, by - now)
        if route.identity is not None:
            answering.authorization = await route.identity.authorization(upstream.url)
            headers.append((b"authorization", answering.authorization))
        exchange = self._gateway.client.request(
            inbound.method,
            upstream.url,
            headers=headers,
            content=self._body,
            target=target(destination.base, self._path, inbound.query),
            head_timeout=by - now,
        )
        if inbound.timeout is not None or (
            by - now < SHORT_SECONDS and not isinstance(self._body, Body)
        ):
            await self._punctual(exchange, turn, answering, by, is_last=is_last)
            return
        try:
            async with exchange as response:
                await self._take(response, turn, answering, None, is_last=is_last)
        except UpstreamTimeout:
            if not answering.has_begun and trio.current_time() >= deadline.at:
                turn.failed()
                raise DeadlineExceeded("the deadline has passed") from None
            raise

    async def _punctual(
        self, exchange: Exchange, turn: Turn, answering: Answering, by: float, *, is_last: bool
    ) -> None:
        """Have it done ``by`` then, to the moment: the head of the answer, or all of it."""
        began = trio.current_time()
        with trio.CancelScope(deadline=by) as scope:
            async with exchange as response:
                await self._take(response, turn, answering, scope, is_last=is_last)
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
        answering: Answering,
        scope: trio.CancelScope | None,
        *,
        is_last: bool,
    ) -> None:
        """The head of an answer is there."""
        self._tally.status = status = response.status
        turn.answered(status)
        if status == UNAUTHORIZED and answering.authorization and self._route.identity is not None:
            self._route.identity.refused(answering.authorization)
        if not is_last and self._makes_way(status):
            if status < FIRST_FAILURE_STATUS:
                turn.succeeded()
            raise NotGoodEnough(f"the upstream answered {status}", origin="")
        if scope is not None:
            # What its caller has asked for holds for the body too; our own limits do not.
            scope.deadline = math.inf if self._inbound.timeout is None else self.deadline.at
        if status == SWITCHING:
            if scope is not None:
                scope.deadline = math.inf
            await answering.with_tunnel(response, turn)
        else:
            await answering.with_response(response, turn)

    def _makes_way(self, status: int) -> bool:
        """Whether something better than an answer with this status is to be had."""
        if self._retries is not None and self._retries.replace(status, self._body):
            return True
        return status >= FIRST_FAILURE_STATUS and self._route.has_fallback

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


def _length(inbound: Inbound) -> int | None:
    """What the request says of its body's length."""
    for name, value in inbound.headers:
        if name == b"content-length":
            return int(value)
    return None
