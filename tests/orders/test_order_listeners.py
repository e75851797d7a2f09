"""The order desk's listeners: told of every end, once, and never in anybody's way."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio import CircuitBreaker, Consecutive
from bulkhead_trio.orders import OrderDesk, OrderEnded, OrderLimits, is_failure_of_the_store
from bulkhead_trio.orders.desk import MOST_FAILURES
from bulkhead_trio.testing import ScriptedOrderStore

from ._desk import assert_at_rest, order, running, settle, statuses


def desk_told(store: ScriptedOrderStore, *listeners: object) -> OrderDesk:
    breaker = CircuitBreaker(
        "orders", window=Consecutive(3), wait_in_open=15, record=is_failure_of_the_store
    )
    return OrderDesk(
        store,
        limits=OrderLimits(rate=1000, burst=1000),
        breaker=breaker,
        listeners=listeners,  # type: ignore[arg-type]
    )


async def test_listener_is_told_of_a_completed_order(autojump_clock: MockClock) -> None:
    """Once, when it is completed in the store."""
    store = ScriptedOrderStore(seconds=0.1)
    told: list[OrderEnded] = []
    status_when_told: list[str] = []

    def listener(ended: OrderEnded) -> None:
        told.append(ended)
        status_when_told.append(statuses(store)[ended.order_id])

    async with running(desk_told(store, listener)) as desk:
        await desk.accept(order(1))
        await desk.accept(order(1))
        await settle(store)
        await trio.sleep(120)
        assert_at_rest(desk)
    assert told == [OrderEnded("order-1", "completed", attempts=1)]
    assert status_when_told == ["completed"]


async def test_listener_is_told_of_a_failed_order_when_it_is_given_up(
    autojump_clock: MockClock,
) -> None:
    """Attempts that fail on the way say nothing; the last one does."""
    store = ScriptedOrderStore()
    store.broken = {"order-1"}
    told: list[OrderEnded] = []
    async with running(desk_told(store, told.append)) as desk:
        for number in (1, 2):
            await desk.accept(order(number))
        await settle(store)
        await trio.sleep(120)
    assert sorted(told, key=lambda each: each.order_id) == [
        OrderEnded("order-1", "failed", attempts=MOST_FAILURES),
        OrderEnded("order-2", "completed", attempts=1),
    ]


async def test_listener_of_one_desk_only_hears_what_ended_there(autojump_clock: MockClock) -> None:
    """An order that another process completed meanwhile is that one's to tell."""
    store = ScriptedOrderStore(seconds=1.0)
    told: list[str] = []
    first = desk_told(store, lambda _: told.append("first"))
    second = desk_told(store, lambda _: told.append("second"))
    async with running(first), running(second):
        await first.accept(order(1))
        second._enqueue("order-1", 1)
        await settle(store)
        await trio.sleep(120)
    assert store.ledger == ["order-1"]
    assert len(told) == 1


async def test_listener_that_raises_harms_no_order(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the order stays completed, and the next ones are done."""

    def listener(ended: OrderEnded) -> None:
        raise RuntimeError(ended.order_id)

    store = ScriptedOrderStore()
    told: list[OrderEnded] = []
    async with running(desk_told(store, listener, told.append)) as desk:
        for number in (1, 2):
            await desk.accept(order(number))
        await settle(store)
        await trio.sleep(120)
        assert_at_rest(desk)
    assert store.ledger == ["order-1", "order-2"]
    assert [ended.status for ended in told] == ["completed", "completed"]
    assert caplog.text.count("a listener raised") == 2
