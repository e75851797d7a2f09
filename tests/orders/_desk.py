"""A desk on a scripted store, and what it must be at rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import trio

from bulkhead_trio import CircuitBreaker, Consecutive
from bulkhead_trio.database.orders import Order
from bulkhead_trio.orders import OrderDesk, OrderLimits, is_failure_of_the_store
from bulkhead_trio.testing import ScriptedOrderStore

HIGH, NORMAL, LOW = 0, 1, 2


def order(number: int, *, priority: int = NORMAL, amount: str = "10", user: str = "u") -> Order:
    return Order(f"order-{number}", user, Decimal(amount), priority)


def make_desk(store: ScriptedOrderStore, **limits: float) -> OrderDesk:
    breaker = CircuitBreaker(
        "orders", window=Consecutive(3), wait_in_open=15, record=is_failure_of_the_store
    )
    return OrderDesk(store, limits=OrderLimits(**limits), breaker=breaker)  # type: ignore[arg-type]


@asynccontextmanager
async def running(desk: OrderDesk) -> AsyncIterator[OrderDesk]:
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.run)
        yield desk
        nursery.cancel_scope.cancel()


def statuses(store: ScriptedOrderStore) -> dict[str, str]:
    return {order_id: record.status for order_id, record in store.records.items()}


def assert_at_rest(desk: OrderDesk) -> None:
    now = desk.statistics()
    assert (now.workers.active, now.workers.queued) == (0, 0)
    assert (now.intake.active, now.intake.queued) == (0, 0)
    assert now.breaker.probes == 0


async def settle(store: ScriptedOrderStore, *, within: float = 300.0) -> None:
    """Until no order is open any more."""
    with trio.fail_after(within):
        while any(status in ("queued", "processing") for status in statuses(store).values()):
            await trio.sleep(0.1)
