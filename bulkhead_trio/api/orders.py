"""``/api/orders``: orders in, and what became of them."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from bulkhead_trio.api._callers import belongs_to
from bulkhead_trio.api._problem import problem_of
from bulkhead_trio.api._wire import rate_limit_headers, wire_time
from bulkhead_trio.api.messages import Request, Response, invalid_body
from bulkhead_trio.api.routes import Route, finish
from bulkhead_trio.database.orders import Order, OrderRecord
from bulkhead_trio.errors import InvalidHeader, NotFound, RateLimited
from bulkhead_trio.observe._totals_rules import total
from bulkhead_trio.observe.snapshots import CensusTaker
from bulkhead_trio.orders import OrderDesk
from bulkhead_trio.policies.queue import Priority
from bulkhead_trio.tenancy import ApiKeyGuard, Caller

LONGEST_ID = 128
"""Characters of an order's or a user's id."""

MOST_DIGITS = 60
LARGEST_EXPONENT = 40
"""An amount is a decimal number, exact to its last digit; these bound what keeping one costs."""

PRIORITIES = {"high": Priority.HIGH, "normal": Priority.NORMAL, "low": Priority.LOW}
_NAMES = {int(priority): name for name, priority in PRIORITIES.items()}

_OF_TENANT = " "
"""Between a tenant's id and its user's: in neither is there a space."""

_USER_ID = re.compile(r"[!-~]{1,128}")


class OrderBody(msgspec.Struct, rename="camel"):
    """What is sent."""

    order_id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
    amount: Any
    priority: Literal["high", "normal", "low"] = "normal"


_DECODER = msgspec.json.Decoder(OrderBody, float_hook=Decimal)


class OrdersResource:
    """Takes orders, says what became of them, and how the desk is doing.

    Args:
        desk: where they go.
        guard: who may come.
        census: takes the numbers of all processes' desks.
    """

    name = "orders"

    def __init__(self, desk: OrderDesk, guard: ApiKeyGuard, census: CensusTaker) -> None:
        self._desk = desk
        self._guard = guard
        self._census = census

    def routes(self) -> tuple[Route, ...]:
        """All three."""
        return (
            Route("POST", "/api/orders", self.post, reads_body=True, is_hot=True),
            Route("GET", "/api/orders/{orderId}", self.get),
            Route("GET", "/api/metrics", self.metrics),
        )

    def post(self, request: Request) -> Response | Awaitable[Response]:
        """Who is it → the user's quota → the body → the desk."""
        caller = self._guard.check(request.headers.get("x-api-key"))
        if caller is None or isinstance(caller, Caller):
            return self._post(caller, request)
        return self._post_when_known(caller, request)

    async def _post_when_known(self, caller: Awaitable[Caller], request: Request) -> Response:
        begun = self._post(await caller, request)
        return begun if isinstance(begun, Response) else await begun

    def _post(self, caller: Caller | None, request: Request) -> Response | Awaitable[Response]:
        user_id = _user_id(request)
        if caller is not None:
            belongs_to(request, caller.tenant.id)
            # Two tenants may call their users the same.
            user_id = f"{caller.tenant.id}{_OF_TENANT}{user_id}"
        decision = self._desk.take_quota(user_id)
        headers = rate_limit_headers("orders", decision, wall_clock=time.time())
        if decision.allowed:
            return self._accept_with_quota(request, user_id, headers)
        refused = RateLimited(
            f"A user may send {decision.limit} orders per {decision.window:g} seconds.",
            retry_after=decision.retry_after,
        )
        request.notes["code"] = refused.code
        return problem_of(refused, instance=request.target).with_headers(headers)

    async def _accept_with_quota(
        self, request: Request, user_id: str, headers: tuple[tuple[bytes, bytes], ...]
    ) -> Response:
        # Errors become answers here already, since the quota's headers belong on those as well.
        return (await finish(self._accept(request, user_id), request)).with_headers(headers)

    async def _accept(self, request: Request, user_id: str) -> Response:
        timeout = request.timeout()
        order = _order(request, user_id)
        accepted = await self._desk.accept(order, timeout=timeout)
        message = "Order queued" if accepted.is_new else "Order already queued"
        body = {"message": message, "orderId": order.order_id, "queueSize": accepted.waiting}
        return Response.json(body, status=202)

    async def get(self, request: Request) -> Response:
        """One order; a tenant's is there for that tenant only."""
        caller = await self._identify(request)
        order_id = request.path_values["orderId"]
        if not is_order_id(order_id):
            raise NotFound("There is no order with this id.")
        record = await self._desk.find(order_id, timeout=request.timeout())
        owner, of_tenant, _ = record.order.user_id.partition(_OF_TENANT)
        if of_tenant and (caller is None or caller.tenant.id != owner):
            raise NotFound("There is no order with this id.")
        return Response.json(_wire(record))

    async def metrics(self, request: Request) -> Response:
        """What the desks of all processes hold; asks nothing that could be held up.

        But for whose a key is, where one is sent that nothing is known of.
        """
        await self._identify(request)
        orders = total(await self._census.take()).orders
        return Response.json(
            {
                "queueSize": orders.queued + orders.elsewhere,
                "queueFull": orders.is_full,
                "activeConcurrency": orders.active,
                "queuedConcurrency": orders.pending,
                "circuitBreakerState": orders.breaker.state,
                "circuitBreakerFailures": orders.breaker.failures,
            }
        )

    async def _identify(self, request: Request) -> Caller | None:
        caller = self._guard.check(request.headers.get("x-api-key"))
        if caller is not None and not isinstance(caller, Caller):
            caller = await caller
        if caller is not None:
            belongs_to(request, caller.tenant.id)
        return caller


def is_order_id(text: str) -> bool:
    """Whether an order can have this id: PostgreSQL keeps any character but NUL."""
    return 1 <= len(text) <= LONGEST_ID and "\0" not in text


def _user_id(request: Request) -> str:
    user_id = request.headers.get("x-user-id")
    if user_id is None or not _USER_ID.fullmatch(user_id):
        raise InvalidHeader("X-User-Id must be 1 to 128 visible ASCII characters.")
    return user_id


def _order(request: Request, user_id: str) -> Order:
    body = request.json(_DECODER)
    if not is_order_id(body.order_id):
        raise invalid_body("$.orderId", "must not contain the character NUL")
    return Order(body.order_id, user_id, _amount(body.amount), int(PRIORITIES[body.priority]))


def _amount(value: object) -> Decimal:
    """The exact number; the path of a body's mistake is the same whatever it is."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise invalid_body("$.amount", "must be a number")
    if value <= 0:
        raise invalid_body("$.amount", "must be above 0")
    amount = Decimal(value)
    if len(amount.as_tuple().digits) > MOST_DIGITS or abs(amount.adjusted()) > LARGEST_EXPONENT:
        raise invalid_body(
            "$.amount", f"must have at most {MOST_DIGITS} digits, and no extreme size"
        )
    return amount


def _wire(record: OrderRecord) -> dict[str, Any]:
    return {
        "orderId": record.order.order_id,
        "amount": record.order.amount,
        "priority": _NAMES[record.order.priority],
        "status": record.status,
        "attempts": record.attempts,
        "createdAt": wire_time(record.created_at),
        "updatedAt": wire_time(record.updated_at),
    }
