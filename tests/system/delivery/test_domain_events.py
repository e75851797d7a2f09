"""What happens inside and reaches a subscriber: orders that end, tiers whose breaker opens."""

from __future__ import annotations

import json

from bulkhead_trio.testing.receiver import ReceiverProcess

from .._client import ask, ask_data
from .._server import wait_until
from ..gateway._gateway import Gateway
from ._desk import Desk

FAILURES = 5
"""Of a tier's database that open its breaker."""


async def test_order_that_is_completed_reaches_its_tenant(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """Once, with the order's id, and under one id."""
    hook = await desk.subscribe(receiver.url(1), "order.completed")
    receiver.trust({1: [hook.secret]})
    order = {"orderId": f"order-{hook.id}", "amount": 5}
    answer = await desk.call("POST", "/api/orders", order, headers={"X-User-Id": "user-1"})
    assert answer.status == 202, str(answer)
    await wait_until(lambda: bool(receiver.arrivals()), "order.completed", timeout=15)
    (received,) = receiver.received(1)
    assert received.arrival.is_valid
    body = json.loads(received.body)
    assert body["type"] == "order.completed"
    assert body["data"]["orderId"] == order["orderId"]
    found = await desk.get(f"/api/events/{received.arrival.id}")
    assert found["type"] == "order.completed"


async def test_tier_whose_breaker_opens_and_closes_is_told(
    delivering: Gateway, receiver: ReceiverProcess
) -> None:
    """To those of the tier who asked for it by name, and to nobody of another tier."""
    pro = Desk(delivering, await delivering.tenant(tier="pro"))
    other = Desk(delivering, await delivering.tenant(tier="free"))
    await pro.subscribe(receiver.url(1), "tier.*")
    await other.subscribe(receiver.url(2), "tier.*")
    (server,) = delivering.servers
    for _ in range(FAILURES):
        answer = await ask_data(server.address, "pro", "?force_error=true")
        assert answer.status == 503, str(answer)
    await wait_until(lambda: bool(receiver.arrivals()), "tier.breaker_opened", timeout=15)
    (received,) = receiver.received(1)
    body = json.loads(received.body)
    assert body["type"] == "tier.breaker_opened"
    assert body["data"]["tier"] == "pro"
    assert receiver.received(2) == []
    await delivering.delete_tenants()
    assert (await ask(server.address, "/health")).status == 200
