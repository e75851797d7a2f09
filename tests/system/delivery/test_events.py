"""Events over HTTP: taken once, found again, matched by type, and counted against a quota."""

from __future__ import annotations

import pytest
import trio

from bulkhead_trio.testing.receiver import ReceiverProcess

from .._problems import assert_problem
from .._server import wait_until
from ._desk import Desk
from .conftest import NewDesk, StartDelivering

EVENTS = "/api/events"


async def test_event_is_there_after_its_answer(desk: Desk) -> None:
    """202 with an id, by which it can be had."""
    sent = await desk.send("order.completed", {"orderId": "a"})
    assert sent.startswith("evt_")
    found = await desk.get(f"{EVENTS}/{sent}")
    assert found["id"] == sent
    assert found["type"] == "order.completed"
    assert found["payload"] == {"orderId": "a"}


async def test_event_of_another_tenant_is_not_found(new_desk: NewDesk) -> None:
    """404, as for one that never was."""
    ours, theirs = await new_desk(), await new_desk()
    sent = await ours.send()
    assert_problem(await theirs.call("GET", f"{EVENTS}/{sent}"), 404, "not_found")
    assert_problem(await theirs.call("GET", f"{EVENTS}/evt_{'0' * 32}"), 404, "not_found")
    assert_problem(await theirs.call("GET", f"{EVENTS}/nonsense"), 404, "not_found")


async def test_event_with_the_same_key_is_taken_once(
    new_desk: NewDesk, receiver: ReceiverProcess
) -> None:
    """The same id again and one delivery; with another payload 422; another tenant is another."""
    desk, other = await new_desk(), await new_desk()
    hook = await desk.subscribe(receiver.url(1))
    sent = {await desk.send("order.completed", {"n": 1}, key="key-1") for _ in range(3)}
    assert len(sent) == 1
    ids: list[str] = []

    async def again() -> None:
        ids.append(await desk.send("order.completed", {"n": 2}, key="key-2"))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(again)
    assert len(set(ids)) == 1
    document = {"type": "order.completed", "payload": {"n": 3}}
    answer = await desk.call("POST", EVENTS, document, headers={"Idempotency-Key": "key-1"})
    assert_problem(answer, 422, "idempotency_mismatch")
    assert await other.send("order.completed", {"n": 3}, key="key-1") not in sent

    async def both_are_delivered() -> bool:
        return [d["state"] for d in await desk.deliveries(hook)] == ["delivered"] * 2

    await desk.until(both_are_delivered, "two deliveries")
    assert sorted(each.id for each in receiver.arrivals()) == sorted({*sent, *ids})


@pytest.mark.parametrize(
    ("types", "taken"),
    [
        (["*"], ["order.completed", "order.failed", "user.created", "orders"]),
        (["order.*"], ["order.completed", "order.failed"]),
        (["order.completed"], ["order.completed"]),
        (["order.failed", "user.*"], ["order.failed", "user.created"]),
    ],
    ids=str,
)
async def test_event_goes_to_those_who_want_its_type(
    desk: Desk, receiver: ReceiverProcess, types: list[str], taken: list[str]
) -> None:
    """All types, a group, or exactly one."""
    hook = await desk.subscribe(receiver.url(1), *types)
    sent = {
        kind: await desk.send(kind)
        for kind in ("order.completed", "order.failed", "user.created", "orders")
    }
    await wait_until(lambda: len(receiver.arrivals()) >= len(taken), "arrivals", timeout=10)
    await trio.sleep(0.3)  # for one that must not come
    assert {each.id for each in receiver.arrivals()} == {sent[kind] for kind in taken}
    assert len(await desk.deliveries(hook)) == len(taken)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"{", b"[]", {}, {"payload": {}}, {"type": "", "payload": {}},
        {"type": 7, "payload": {}}, {"type": "a b", "payload": {}}, {"type": "*", "payload": {}},
        {"type": "order.*", "payload": {}}, {"type": "x" * 1000, "payload": {}},
    ],
    ids=str,
)  # fmt: skip
async def test_event_that_is_none_is_refused(desk: Desk, document: object) -> None:
    """400 that says where."""
    members = assert_problem(await desk.call("POST", EVENTS, document), 400, "invalid_body")
    assert members["errors"], members


async def test_event_that_nobody_wants_is_kept(desk: Desk) -> None:
    """It is taken, and makes no delivery."""
    sent = await desk.send("nobody.cares")
    assert (await desk.get(f"{EVENTS}/{sent}"))["id"] == sent
    assert await desk.all("/api/deliveries") == []


async def test_quota_of_events_is_a_tenants_own(start_delivering: StartDelivering) -> None:
    """429 with the contract's headers; another tenant is not touched, an exempt one never."""
    # Whoever is exempt has to be there before the server starts: another one makes it.
    first = start_delivering()
    exempt = await first.tenant()
    quota = {"EVENTS_RATE": "1", "EVENTS_BURST": "5", "EVENTS_EXEMPT_TENANTS": exempt.id}
    gateway = start_delivering(variables=quota, database=first.servers[0].database)
    desk = Desk(gateway, await gateway.tenant())
    answers = [await desk.call("POST", EVENTS, {"type": "a", "payload": {}}) for _ in range(8)]
    assert [answer.status for answer in answers[:5]] == [202] * 5
    refused = [answer for answer in answers if answer.status == 429]
    assert refused, "nothing was refused"
    assert_problem(refused[0], 429, "rate_limited")
    for answer in (answers[0], refused[0]):
        for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"):
            assert answer.header(name) is not None, str(answer)
        assert answer.header("RateLimit") is not None
        assert answer.header("RateLimit-Policy") is not None
    await Desk(gateway, await gateway.tenant()).send()
    for _ in range(20):
        await Desk(gateway, exempt).send()
