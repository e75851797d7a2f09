"""The orders over ASGI, on a scripted store: each answer is the one that the document describes."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.testing import Answer, ASGIClient

from ._world import assert_as_described, make_world, operation, running

ORDERS = "/api/orders"
ONE = "/api/orders/{orderId}"


async def post(client: ASGIClient, body: object, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"x-user-id": "user-7", "content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request("POST", ORDERS, fields, raw)


async def test_order_is_answered_as_described(autojump_clock: MockClock) -> None:
    """Accepted, looked up, sent again, in conflict."""
    world = make_world()
    async with running(world) as client:
        first = await post(client, {"orderId": "a/ b", "amount": 0.1, "priority": "low"})
        assert first.json() == {"message": "Order queued", "orderId": "a/ b", "queueSize": 0}
        await trio.sleep(1)
        found = await client.get("/api/orders/a%2F%20b")
        assert (found.json()["status"], found.json()["amount"]) == ("completed", 0.1)
        again = await post(client, {"orderId": "a/ b", "amount": 0.10})
        assert again.json()["message"] == "Order already queued"
        conflict = await post(client, {"orderId": "a/ b", "amount": 2})
        assert conflict.status == 409
    for answer in (first, again, conflict):
        assert_as_described(ORDERS, answer)
        assert "x-ratelimit-remaining" in answer.headers
    assert_as_described(ONE, found)


async def test_refusals_of_orders_are_as_described(autojump_clock: MockClock) -> None:
    """Each for its reason, the quota's headers wherever the quota was asked."""
    world = make_world()
    good = {"orderId": "x", "amount": 1}
    async with running(world) as client:
        answers = {
            "invalid_header": await post(client, good, x_user_id=""),
            "api_key_invalid": await post(client, good, x_api_key="nobody's"),
            "invalid_body": await post(client, {"orderId": "x"}),
            "unsupported_media_type": await post(client, good, content_type="text/plain"),
        }
        world.orders.is_away = True
        answers["database_unavailable"] = await post(client, good)
        answers["rate_limited"] = await post(client, good)
        await post(client, good, x_user_id="another")
        answers["circuit_open"] = await post(client, good, x_user_id="another")
    for code, answer in answers.items():
        assert answer.json()["code"] == code
        assert_as_described(ORDERS, answer)
    assert answers["rate_limited"].json()["retryAfter"] == 10


async def test_order_that_is_not_there_is_as_described(autojump_clock: MockClock) -> None:
    """404, also for an id that is no text."""
    async with running(make_world()) as client:
        for target in ("/api/orders/nobody", "/api/orders/%ff"):
            answer = await client.get(target)
            assert answer.json()["code"] == "not_found"
            assert_as_described(ONE, answer)


@pytest.mark.parametrize("path", [ORDERS, ONE, "/api/metrics"])
async def test_orders_ask_for_a_key_in_production(autojump_clock: MockClock, path: str) -> None:
    """All three."""
    async with running(make_world(is_public=False)) as client:
        method = "POST" if path == ORDERS else "GET"
        answer = await client.request(method, path.replace("{orderId}", "x"))
    assert answer.json()["code"] == "api_key_missing"
    assert_as_described(path, answer)


async def test_sample_of_an_order_can_be_run(autojump_clock: MockClock) -> None:
    """The line to copy sends an order that is accepted; the next one finds it."""
    sample = shlex.split(operation(ORDERS)["x-codeSamples"][0]["source"])
    headers = dict(sample[at + 1].split(": ") for at, word in enumerate(sample) if word == "-H")
    body = sample[sample.index("-d") + 1].encode()
    async with running(make_world()) as client:
        answer = await client.request("POST", ORDERS, headers, body)
        assert answer.status == 202
        assert (await client.get("/api/orders/order-1")).status == 200


BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {
            "orderId": st.text(max_size=3) | st.integers(),
            "amount": st.integers() | st.floats() | st.text(max_size=3),
        },
        optional={"priority": st.sampled_from(["high", "low", "none", 1])},
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=60, deadline=None)
@given(BODIES)
def test_any_body_is_accepted_or_refused_as_described(body: bytes) -> None:
    """Never a 500."""

    async def main() -> Any:
        async with running(make_world()) as client:
            answer = await post(client, body)
            assert answer.status in (202, 400), answer.body
            assert_as_described(ORDERS, answer)

    trio.run(main, clock=MockClock(autojump_threshold=0))
