"""Everything that is no path of ours: the caller's key, its rate limit, and on to the gateway.

Part of the data plane: a request whose tenant is known is refused, or on its way to its upstream,
without a task or a scope of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog
import trio

from bulkhead_trio.api._asgi import EXCHANGE, Receive, Scope, Send
from bulkhead_trio.api._problem import problem, problem_of
from bulkhead_trio.api._wire import rate_limit_headers, tenant_quota_words
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Headers, Response, read_timeout
from bulkhead_trio.errors import (
    ApiKeyInvalid,
    ApiKeyMissing,
    BulkheadTrioError,
    InvalidHeader,
    RateLimited,
    TierInvalid,
    UpstreamError,
    UpstreamTimeout,
)
from bulkhead_trio.gateway.answering import AnswerBrokenOff
from bulkhead_trio.gateway.exchange import BodyTooLarge, Fields, Inbound
from bulkhead_trio.gateway.proxy import MOST_SECONDS, Proxy
from bulkhead_trio.http._forwarding_rules import Network, is_trusted
from bulkhead_trio.http.engine.errors import AnswerCutOff, ClientGone
from bulkhead_trio.http.extensions import CANCELS, extensions_of
from bulkhead_trio.http.tunnel import TUNNEL, ByteStream
from bulkhead_trio.policies.deadline import Deadline
from bulkhead_trio.policies.rate import Decision
from bulkhead_trio.tenancy import Caller
from bulkhead_trio.tenancy.identify import KeyDirectory

POLICY = "tenant"
"""The name of a tenant's rate limit, as its callers are told of it."""

_log = structlog.get_logger("bulkhead_trio.gateway")


class TenantLimits(Protocol):
    """Decides whether a tenant's request may pass; those of `bulkhead_trio.state` do."""

    def acquire(
        self, tenant_id: str, limit: int, window_seconds: float
    ) -> Decision | Awaitable[Decision]:
        """Take one unit of a tenant's quota, if there is one; a refusal is no exception."""


class Exchange(Protocol):
    """What the edge knows of a request and its answer."""

    notes: dict[str, str | float]
    has_started: bool
    began: float

    @property
    def request_id(self) -> str:
        """The request's."""

    async def respond(self, response: Response, *, closes: bool = False) -> None:
        """Answer with an answer of ours, all at once."""

    async def pass_on(self, status: int, headers: Fields, body: bytes | None) -> None:
        """Answer with somebody else's: all of it, or, where ``body`` is ``None``, its head."""

    async def send(self, message: Any) -> None:
        """ASGI's ``send``."""

    async def open_tunnel(self, headers: Iterable[tuple[bytes, bytes]]) -> ByteStream:
        """Answer 101."""


class GatewayPlane:
    """An ASGI application: proxies what tenants send.

    Args:
        proxy: knows their routes.
        directory: knows their keys.
        limits: of tenants.
        tiers: names of those that exist.
        gate: counts requests under way.
        trusted_proxies: networks whose forwarding headers are believed.
    """

    def __init__(
        self,
        proxy: Proxy,
        directory: KeyDirectory,
        limits: TenantLimits,
        *,
        tiers: Sequence[str],
        gate: DrainGate,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._trusted_proxies = tuple(trusted_proxies)
        self._proxy = proxy
        self._directory = directory
        self._limits = limits
        self._tiers = frozenset(tiers)
        self._gate = gate

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,  # noqa: ARG002  the edge's exchange has it
    ) -> None:
        """The ASGI entry, for the scope ``http`` and behind the edge."""
        exchange: Exchange = scope[EXCHANGE]
        client = _Client(exchange, receive)
        extensions = extensions_of(scope)
        try:
            if CANCELS in extensions:
                with self._gate.counted():
                    await self._serve(scope, client)
            else:
                with self._gate.passage():
                    await client.while_there(self._serve, scope)
        except BulkheadTrioError as error:
            await self._refuse(client, error, scope)
        except BodyTooLarge as error:
            exchange.notes["code"] = "body_too_large"
            if exchange.has_started:
                raise AnswerCutOff from error
            detail = "A body that is passed on may not have so many bytes."
            await client.refuse(problem("body_too_large", detail, instance=_instance(scope)))
        except AnswerBrokenOff as error:
            exchange.notes["code"] = "upstream_error"
            raise AnswerCutOff from error

    async def _serve(self, scope: Scope, client: _Client) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        caller = self._directory.find(_key_in(headers))
        if not isinstance(caller, Caller):
            caller = await _in_time(caller, headers, client.exchange.began)
        tenant = caller.tenant
        notes = client.exchange.notes
        notes["tenant"] = tenant.id
        if tenant.tier not in self._tiers:
            raise TierInvalid("Your tenant's tier does not exist on this server.")
        notes["tier"] = tenant.tier
        if (quota := tenant.rate_limit) is not None:
            decision = self._limits.acquire(tenant.id, quota.limit, quota.window_seconds)
            if not isinstance(decision, Decision):
                decision = await decision
            client.extra = rate_limit_headers(POLICY, decision, wall_clock=time.time())
            if not decision.allowed:
                raise RateLimited(
                    tenant_quota_words(quota.limit, decision),
                    retry_after=math.ceil(decision.retry_after),
                )
        await self._proxy.forward(self._inbound(scope, client), caller)

    def _inbound(self, scope: Scope, client: _Client) -> Inbound:
        headers = scope["headers"]
        exchange = client.exchange
        extensions = extensions_of(scope)
        address = scope.get("client")
        return Inbound(
            method=scope["method"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            headers=headers,
            peer=address[0] if address else "",
            peer_is_trusted=is_trusted(address, self._trusted_proxies),
            scheme=scope["scheme"],
            request_id=exchange.request_id,
            timeout=_timeout_in(headers),
            has_body=_has_body(headers),
            client=client,
            tunnel=client.open_tunnel if TUNNEL in extensions else None,
            notes=exchange.notes,
            began=exchange.began,
        )

    async def _refuse(self, client: _Client, error: BulkheadTrioError, scope: Scope) -> None:
        exchange = client.exchange
        exchange.notes["code"] = error.code
        if error.code == "internal":
            _log.error("request_failed", exc_info=error)
        if exchange.has_started:
            raise AnswerCutOff from error
        if isinstance(error, UpstreamError):
            # What is said to whom it concerns has names of the inside in it.
            _log.info("upstream_failed", reason=error.message, route=exchange.notes.get("route"))
            response = problem(
                error.code,
                _said_of(error),
                instance=_instance(scope),
                retry_after=error.retry_after,
            )
        else:
            response = problem_of(error, instance=_instance(scope))
        await client.refuse(response)


class _Client:
    """The gateway's view of whoever has sent a request, over ASGI.

    Attributes:
        exchange: what the edge knows.
        extra: header fields that every answer has.
    """

    __slots__ = ("_body_is_over", "_has_all", "_receive", "exchange", "extra")

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self.exchange = exchange
        self.extra: tuple[tuple[bytes, bytes], ...] = ()
        self._has_all = False
        self._receive = receive
        self._body_is_over: trio.Event | None = None

    async def refuse(self, response: Response) -> None:
        """Answer with an answer of ours."""
        await self.exchange.respond(response.with_headers(self.extra) if self.extra else response)

    # --- what the gateway wants of it ------------------------------------------------------------

    async def read_piece(self) -> bytes:
        """The next piece of the request's body; ``b""`` after the last."""
        while not self._has_all:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body: bytes = message.get("body", b"")
            if not message.get("more_body", False):
                self._end_body()
            if body:
                return body
        return b""

    async def answer(self, status: int, headers: Fields, body: bytes) -> None:
        """Answer, all at once."""
        await self.exchange.pass_on(status, self._with_ours(headers), body)

    async def begin_answer(self, status: int, headers: Fields) -> None:
        """Begin an answer whose body follows in pieces."""
        await self.exchange.pass_on(status, self._with_ours(headers), None)

    def _with_ours(self, headers: Fields) -> Fields:
        """With what every answer of the tenant says, in place of what the upstream says of that."""
        if not self.extra:
            return headers
        ours = {name for name, _ in self.extra}
        return [*(field for field in headers if field[0] not in ours), *self.extra]

    async def write_piece(self, piece: bytes) -> None:
        """Send a piece of the body."""
        await self.exchange.send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end_answer(self) -> None:
        """It was the last."""
        await self.exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def open_tunnel(
        self,
        status: int,  # noqa: ARG002  there is but one
        headers: Iterable[tuple[bytes, bytes]],
    ) -> ByteStream:
        """Answer 101."""
        return await self.exchange.open_tunnel(self._with_ours([*headers]))

    # --- servers that only tell when it goes -----------------------------------------------------

    def _end_body(self) -> None:
        self._has_all = True
        if self._body_is_over is not None:
            self._body_is_over.set()

    async def while_there(
        self, work: Callable[[Scope, _Client], Awaitable[None]], scope: Scope
    ) -> None:
        """Do ``work`` for as long as the client is there.

        While the body is still coming nobody listens for its going but whoever reads it.

        Raises:
            ClientGone: it has gone, and the work was cancelled.
        """
        over = self._body_is_over = trio.Event()
        if not _has_body(scope["headers"]):
            over.set()
        is_done = False
        errors: list[Exception] = []
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await over.wait()
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await work(scope, self)
                is_done = True
            except Exception as error:  # noqa: BLE001  it leaves the nursery in no group
                errors.append(error)
            nursery.cancel_scope.cancel()
        if errors:
            raise errors[0]
        if not is_done:
            raise ClientGone


def _has_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            return True
    return False


def _key_in(headers: Sequence[tuple[bytes, bytes]]) -> str:
    keys = [value for name, value in headers if name == b"x-api-key"]
    if not keys:
        raise ApiKeyMissing("Send your API key in the header X-API-Key.")
    if len(keys) > 1:
        raise ApiKeyInvalid("This API key is not known.")
    return keys[0].decode("latin-1").strip()


async def _in_time(
    caller: Awaitable[Caller], headers: Sequence[tuple[bytes, bytes]], began: float
) -> Caller:
    """Whose key it is, by the request's deadline.

    Raises:
        DeadlineExceeded: that is not known by then.
    """
    try:
        asked = _timeout_in(headers)
    except InvalidHeader:
        asked = None  # which is told when it is known to whom
    with Deadline.counted_from(began, limit=MOST_SECONDS, asked=asked).enforced():
        return await caller


def _timeout_in(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """Seconds that the caller gives us."""
    for name, _ in headers:
        if name == b"x-request-timeout":
            given = Headers(headers).get("x-request-timeout")
            return None if given is None else read_timeout(given)
    return None


def _said_of(error: UpstreamError) -> str:
    if error.retry_after is not None:
        return "Every upstream of this route is down."
    if isinstance(error, UpstreamTimeout):
        return "The upstream took too long."
    return "The upstream could not be reached, or gave no answer."


def _instance(scope: Scope) -> str:
    path: bytes = scope["raw_path"]
    return path.decode("ascii", errors="replace")
