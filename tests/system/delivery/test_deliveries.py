"""Deliveries over HTTP: their tries, their ends, and how the dead come back."""

from __future__ import annotations

import json

import pytest
import trio

from bulkhead_trio.testing.receiver import (
    Answers,
    Behaviour,
    InTurn,
    ReceiverProcess,
    Resets,
    busy,
    dead,
    gone,
    ok,
    redirecting,
    slow,
)

from .._problems import assert_problem
from .._server import wait_until
from ._desk import Desk
from .conftest import NewDesk

TRIES = 4
"""The first, and as many as the schedule of the tests has."""
ALL_TRIES_SECONDS = 20.0
"""For all of them, a second or so apart, each up to a second long."""


async def test_delivery_says_what_became_of_it(desk: Desk, receiver: ReceiverProcess) -> None:
    """One attempt with its status, its duration, and a part of the answer."""
    receiver.behave({1: Answers(status=201, body="thank you")})
    hook = await desk.subscribe(receiver.url(1))
    await desk.send()
    delivery = await desk.delivery_of(hook, "delivered")
    (attempt,) = delivery["attempts"]
    assert attempt.keys() >= {"at", "status", "error", "durationMs", "response"}
    assert (attempt["status"], attempt["error"], attempt["response"]) == (201, None, "thank you")
    assert 0 <= attempt["durationMs"] < 5000


async def test_delivery_is_tried_again_until_it_is_taken(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """Same id and same bytes each time, signed anew; retrying between."""
    steps = (Answers(status=503), Answers(status=500, body="oh"), Answers())
    receiver.behave({1: InTurn(steps=steps)})
    hook = await desk.subscribe(receiver.url(1))
    receiver.trust({1: [hook.secret]})
    sent = await desk.send()
    await desk.delivery_of(hook, "retrying")
    delivery = await desk.delivery_of(hook, "delivered", timeout=ALL_TRIES_SECONDS)
    assert [each["status"] for each in delivery["attempts"]] == [503, 500, 200]
    arrivals = receiver.arrivals()
    assert [each.id for each in arrivals] == [sent] * 3
    assert all(each.is_valid for each in arrivals)
    assert len({each.digest for each in arrivals}) == 1
    stamps = [int(each.headers["webhook-timestamp"]) for each in receiver.received(1)]
    assert stamps[0] < stamps[-1]


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [(dead(), 503), (slow(3.0), None), (Resets(), None), (Answers(status=408), 408)],
    ids=["503", "slow", "reset", "408"],
)
async def test_delivery_that_is_never_taken_is_a_dead_letter(
    desk: Desk, receiver: ReceiverProcess, behaviour: Behaviour, status: int | None
) -> None:
    """After all tries; each is there with its status or its error."""
    receiver.behave({1: behaviour})
    hook = await desk.subscribe(receiver.url(1))
    sent = await desk.send()
    delivery = await desk.delivery_of(hook, "dead", timeout=ALL_TRIES_SECONDS)
    assert [each["status"] for each in delivery["attempts"]] == [status] * TRIES
    if status is None:
        assert all(each["error"] for each in delivery["attempts"])
    letters = await desk.all("/api/dead-letters")
    assert [each["id"] for each in letters] == [delivery["id"]]
    assert letters[0]["eventId"] == sent
    assert len(receiver.arrivals()) == TRIES


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
async def test_delivery_that_is_refused_for_good_is_not_tried_again(
    desk: Desk, receiver: ReceiverProcess, status: int
) -> None:
    """A 4xx that would be the same again: one try, and a dead letter."""
    receiver.behave({1: Answers(status=status)})
    hook = await desk.subscribe(receiver.url(1))
    await desk.send()
    delivery = await desk.delivery_of(hook, "dead")
    assert [each["status"] for each in delivery["attempts"]] == [status]
    assert (await desk.webhook(hook))["active"] is True


async def test_redirect_is_not_followed(desk: Desk, receiver: ReceiverProcess) -> None:
    """It is no success, and nothing goes where it points to."""
    receiver.behave({1: redirecting(receiver.url(2))})
    hook = await desk.subscribe(receiver.url(1))
    await desk.send()
    delivery = await desk.delivery_of(hook, "dead", timeout=ALL_TRIES_SECONDS)
    assert {each["status"] for each in delivery["attempts"]} == {307}
    assert {each.endpoint for each in receiver.arrivals()} == {1}


async def test_retry_after_is_honoured(desk: Desk, receiver: ReceiverProcess) -> None:
    """The next try is no earlier than the receiver asked for."""
    receiver.behave({1: InTurn(steps=(busy(3), Answers()), is_last_kept=True)})
    hook = await desk.subscribe(receiver.url(1))
    await desk.send()
    await desk.delivery_of(hook, "delivered", timeout=ALL_TRIES_SECONDS)
    first, second = receiver.arrivals()
    assert second.at - first.at >= 2.9


async def test_endpoint_that_is_gone_is_disabled_and_comes_back(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """410: no request any more; `active: true` brings it back, and replay what it missed."""
    receiver.behave({1: gone()})
    hook = await desk.subscribe(receiver.url(1), "order.*")
    watcher = await desk.subscribe(receiver.url(2), "webhook.*")
    first = await desk.send()

    async def is_disabled() -> bool:
        return not (await desk.webhook(hook))["active"]

    await desk.until(is_disabled, "disabled")
    found = await desk.webhook(hook)
    assert found["active"] is False
    assert found["disabledReason"]
    meanwhile = await desk.send()
    await trio.sleep(0.5)  # for one that must not come
    assert [each.arrival.id for each in receiver.received(1)] == [first]
    await desk.delivery_of(watcher, "delivered")
    (told,) = receiver.received(2)
    assert json.loads(told.body)["type"] == "webhook.disabled"

    receiver.behave({1: ok()})
    answer = await desk.call("PATCH", f"/api/webhooks/{hook.id}", {"active": True})
    assert answer.status == 200, str(answer)
    assert (await desk.webhook(hook))["active"] is True
    assert (await desk.webhook(hook)).get("disabledReason") is None
    after = await desk.send()

    async def nothing_waits() -> bool:
        states = {each["state"] for each in await desk.deliveries(hook)}
        return states <= {"delivered", "dead"}

    await desk.until(nothing_waits, "nothing waits")
    for letter in await desk.all("/api/dead-letters"):
        answer = await desk.call("POST", f"/api/dead-letters/{letter['id']}/replay")
        assert answer.status in (200, 202), str(answer)

    async def all_delivered() -> bool:
        return {each["state"] for each in await desk.deliveries(hook)} == {"delivered"}

    await desk.until(all_delivered, "all delivered")
    assert {each.arrival.id for each in receiver.received(1)} == {first, meanwhile, after}


async def test_dead_letter_is_replayed_with_the_same_id(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """By its own path and by the delivery's; a new try, the same webhook-id, the same bytes."""
    receiver.behave({1: Answers(status=400)})
    hook = await desk.subscribe(receiver.url(1))
    sent = await desk.send()
    delivery = await desk.delivery_of(hook, "dead")
    answer = await desk.call("POST", f"/api/dead-letters/{delivery['id']}/replay")
    assert answer.status in (200, 202), str(answer)
    await wait_until(lambda: len(receiver.arrivals()) == 2, "the second try", timeout=10)
    await desk.delivery_of(hook, "dead")
    receiver.behave({1: ok()})
    answer = await desk.call("POST", f"/api/deliveries/{delivery['id']}/replay")
    assert answer.status in (200, 202), str(answer)
    again = await desk.delivery_of(hook, "delivered")
    assert [each["status"] for each in again["attempts"]] == [400, 400, 200]
    assert {each.id for each in receiver.arrivals()} == {sent}
    assert len({each.digest for each in receiver.arrivals()}) == 1
    assert await desk.all("/api/dead-letters") == []


async def test_deliveries_are_listed_by_state_and_webhook(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """Each filter alone and both; in pages; a word that is no state is refused."""
    receiver.behave({2: Answers(status=400)})
    good, bad = await desk.subscribe(receiver.url(1)), await desk.subscribe(receiver.url(2))
    for _ in range(5):
        await desk.send()

    async def are_over() -> bool:
        states = [each["state"] for each in await desk.all("/api/deliveries")]
        return sorted(states) == ["dead"] * 5 + ["delivered"] * 5

    await desk.until(are_over, "five delivered and five dead")
    assert {d["webhookId"] for d in await desk.all("/api/deliveries", state="dead")} == {bad.id}
    assert len(await desk.deliveries(good, state="delivered", limit=2)) == 5
    assert await desk.deliveries(good, state="dead") == []
    assert len(await desk.all("/api/dead-letters", limit=2)) == 5
    assert_problem(await desk.call("GET", "/api/deliveries?state=lost"), 400)
    assert_problem(await desk.call("GET", "/api/deliveries?webhookId=nonsense"))


async def test_delivery_of_another_tenant_is_not_there(
    new_desk: NewDesk, receiver: ReceiverProcess
) -> None:
    """Neither to be seen nor replayed."""
    ours, theirs = await new_desk(), await new_desk()
    hook = await ours.subscribe(receiver.url(1))
    await ours.send()
    delivery = await ours.delivery_of(hook, "delivered")
    for method, path in (
        ("GET", f"/api/deliveries/{delivery['id']}"),
        ("POST", f"/api/deliveries/{delivery['id']}/replay"),
        ("POST", f"/api/dead-letters/{delivery['id']}/replay"),
    ):
        assert_problem(await theirs.call(method, path), 404, "not_found")
    assert await theirs.all("/api/deliveries") == []


async def test_fifo_endpoint_gets_events_one_by_one_in_their_order(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """A try that fails holds back those behind it."""
    receiver.behave(
        {1: InTurn(steps=(Answers(), Answers(status=503), Answers()), is_last_kept=True)}
    )
    await desk.subscribe(receiver.url(1), fifo=True)
    sent = [await desk.send("order.completed", {"n": n}) for n in range(10)]
    await wait_until(lambda: receiver.sums()[1].taken >= 10 if receiver.sums() else False,
                     "ten taken", timeout=ALL_TRIES_SECONDS)  # fmt: skip
    assert [each.id for each in receiver.arrivals()] == [sent[0], sent[1], *sent[1:]]
    assert receiver.sums()[1].most_in_flight == 1


async def test_endpoint_that_hangs_holds_no_more_than_its_share(
    new_desk: NewDesk, receiver: ReceiverProcess
) -> None:
    """No more than four requests at once to one endpoint; others are served meanwhile."""
    bad, good = await new_desk(), await new_desk()
    receiver.behave({1: slow(0.8)})
    await bad.subscribe(receiver.url(1))
    await good.subscribe(receiver.url(2))
    for _ in range(20):
        await bad.send()
    sent = await good.send()
    await wait_until(
        lambda: sent in {each.id for each in receiver.arrivals() if each.endpoint == 2},
        "the other's", timeout=2,
    )  # fmt: skip
    await wait_until(lambda: receiver.sums()[1].taken >= 8, "eight taken", timeout=10)
    assert receiver.sums()[1].most_in_flight <= 4


async def test_fan_out_goes_on_while_deliveries_are_stuck(
    new_desk: NewDesk, receiver: ReceiverProcess
) -> None:
    """With every worker waiting for somebody slow, a new event gets its deliveries at once."""
    stuck, other = await new_desk(), await new_desk()
    for desk, numbers in ((stuck, range(1, 6)), (other, range(6, 11))):
        for number in numbers:
            receiver.behave({number: slow(0.9)})
            await desk.subscribe(receiver.url(number), "slow.one")
        for _ in range(8):
            await desk.send("slow.one")
    await wait_until(lambda: len(receiver.arrivals()) >= 20, "all are stuck", timeout=10)
    receiver.behave({11: ok()})
    hook = await other.subscribe(receiver.url(11), "quick.one")
    await other.send("quick.one")

    async def is_fanned_out() -> bool:
        return len(await other.deliveries(hook)) == 1

    await other.until(is_fanned_out, "fanned out", timeout=2)
    await other.delivery_of(hook, "delivered", timeout=15)
