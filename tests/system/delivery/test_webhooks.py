"""A webhook's life: made, listed, changed, its secret shown once and rotated, deleted."""

from __future__ import annotations

import json
import uuid

import pytest
import trio

from bulkhead_trio.testing.receiver import ReceiverProcess

from .._client import ask
from .._problems import assert_problem
from .._server import wait_until
from ._desk import Desk
from ._receiver import is_signed_with
from .conftest import NewDesk, StartDelivering

HOOKS = "/api/webhooks"


async def test_webhook_shows_its_secret_once(desk: Desk, receiver: ReceiverProcess) -> None:
    """With the answer to POST, in the form of Standard Webhooks; nowhere afterwards."""
    made = await desk.subscribe(receiver.url(1), "order.*", description="shop")
    assert made.secret.startswith("whsec_")
    assert made.document["active"] is True
    assert made.document["eventTypes"] == ["order.*"]
    assert made.document["description"] == "shop"
    assert made.document["fifo"] is False
    found = await desk.webhook(made)
    assert found.items() >= {"id": made.id, "url": receiver.url(1), "active": True}.items()
    listed = await desk.all(HOOKS)
    assert [each["id"] for each in listed] == [made.id]
    for text in (json.dumps(found), json.dumps(listed)):
        assert "secret" not in json.loads(text)
        assert made.secret not in text
        assert made.secret.removeprefix("whsec_") not in text


async def test_webhook_can_be_changed_and_deleted(desk: Desk, receiver: ReceiverProcess) -> None:
    """PATCH says what is new, and events go there from then on; after DELETE it is not found."""
    made = await desk.subscribe(receiver.url(1), "order.*")
    answer = await desk.call(
        "PATCH", f"{HOOKS}/{made.id}", {"url": receiver.url(2), "eventTypes": ["user.created"]}
    )
    assert answer.status == 200, str(answer)
    assert (await desk.webhook(made))["eventTypes"] == ["user.created"]
    await desk.send("order.completed")
    sent = await desk.send("user.created")
    await wait_until(lambda: bool(receiver.arrivals()), "an arrival", timeout=10)
    await trio.sleep(0.3)  # for one that must not come
    assert [(each.endpoint, each.id) for each in receiver.arrivals()] == [(2, sent)]
    answer = await desk.call("DELETE", f"{HOOKS}/{made.id}")
    assert answer.status == 204, str(answer)
    for method in ("GET", "DELETE"):
        assert_problem(await desk.call(method, f"{HOOKS}/{made.id}"), 404, "not_found")
    assert await desk.all(HOOKS) == []


async def test_webhook_of_another_tenant_is_not_there(
    new_desk: NewDesk, receiver: ReceiverProcess
) -> None:
    """Neither to be seen nor changed, and it gets no event of another's."""
    ours, theirs = await new_desk(), await new_desk()
    hook = await ours.subscribe(receiver.url(1))
    path = f"{HOOKS}/{hook.id}"
    assert_problem(await theirs.call("GET", path), 404, "not_found")
    assert_problem(await theirs.call("PATCH", path, {"active": False}), 404, "not_found")
    assert_problem(await theirs.call("DELETE", path), 404, "not_found")
    assert_problem(await theirs.call("POST", f"{path}/secret"), 404, "not_found")
    assert_problem(await theirs.call("POST", f"{path}/test"), 404, "not_found")
    assert await theirs.all(HOOKS) == []
    await theirs.send()
    sent = await ours.send()
    await wait_until(lambda: bool(receiver.arrivals()), "an arrival", timeout=10)
    await trio.sleep(0.3)  # for one that must not come
    assert [each.id for each in receiver.arrivals()] == [sent]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        {},
        {"url": "http://127.0.0.1:1/"},
        {"eventTypes": ["*"]},
        {"url": "", "eventTypes": ["*"]},
        {"url": "ftp://127.0.0.1/", "eventTypes": ["*"]},
        {"url": "/relative", "eventTypes": ["*"]},
        {"url": "http://user:word@127.0.0.1/", "eventTypes": ["*"]},
        {"url": 7, "eventTypes": ["*"]},
        {"url": "http://127.0.0.1:1/", "eventTypes": []},
        {"url": "http://127.0.0.1:1/", "eventTypes": ["order.**"]},
        {"url": "http://127.0.0.1:1/", "eventTypes": ["*.completed"]},
        {"url": "http://127.0.0.1:1/", "eventTypes": [""]},
        {"url": "http://127.0.0.1:1/", "eventTypes": "order.*"},
        {"url": "http://127.0.0.1:1/", "eventTypes": ["*"], "fifo": "yes"},
    ],
    ids=str,
)
async def test_webhook_that_makes_no_sense_is_refused(desk: Desk, document: object) -> None:
    """400 that says where, and nothing is made."""
    members = assert_problem(await desk.call("POST", HOOKS, document), 400, "invalid_body")
    assert members["errors"], members
    assert await desk.all(HOOKS) == []


async def test_webhooks_need_a_key(desk: Desk) -> None:
    """401 without one, 403 for a wrong one, on every path."""
    address = desk.gateway.servers[0].address
    paths = [
        ("GET", HOOKS), ("POST", HOOKS), ("GET", f"{HOOKS}/wh_{uuid.uuid4().hex}"),
        ("POST", "/api/events"), ("GET", "/api/deliveries"), ("GET", "/api/dead-letters"),
        ("POST", "/api/notifications"),
    ]  # fmt: skip
    for method, path in paths:
        body = b"{}" if method == "POST" else None
        fields = {"Content-Type": "application/json"} if body else {}
        nobody = await ask(address, path, method=method, headers=fields, body=body)
        assert_problem(nobody, 401, "api_key_missing")
        fields["X-API-Key"] = "wrong"
        stranger = await ask(address, path, method=method, headers=fields, body=body)
        assert_problem(stranger, 403, "api_key_invalid")


@pytest.mark.parametrize("identity", ["nonsense", "wh_", f"wh_{'0' * 32}", f"evt_{'0' * 32}"])
async def test_webhook_with_an_id_of_no_webhook_is_not_found(desk: Desk, identity: str) -> None:
    """404, whatever the id looks like."""
    assert_problem(await desk.call("GET", f"{HOOKS}/{identity}"), 404, "not_found")


async def test_webhook_test_sends_something_to_it_alone(
    desk: Desk, receiver: ReceiverProcess
) -> None:
    """One signed request to this endpoint, whatever types it takes."""
    hook = await desk.subscribe(receiver.url(1), "order.completed")
    await desk.subscribe(receiver.url(2))
    receiver.trust({1: [hook.secret]})
    answer = await desk.call("POST", f"{HOOKS}/{hook.id}/test")
    assert answer.status in (200, 202), str(answer)
    await wait_until(lambda: bool(receiver.arrivals()), "an arrival", timeout=10)
    await trio.sleep(0.3)  # for one that must not come
    assert [(each.endpoint, each.is_valid) for each in receiver.arrivals()] == [(1, True)]


async def test_secret_that_is_rotated_signs_along(desk: Desk, receiver: ReceiverProcess) -> None:
    """Both sign for the grace time: whoever has the one or the other can verify."""
    hook = await desk.subscribe(receiver.url(1))
    newer = await desk.rotate(hook)
    assert newer.startswith("whsec_")
    assert newer != hook.secret
    receiver.trust({1: [hook.secret, newer]})  # both have to
    await desk.send()
    await desk.delivery_of(hook, "delivered")
    (received,) = receiver.received(1)
    assert received.arrival.is_valid
    assert len(received.headers["webhook-signature"].split()) == 2
    assert newer not in json.dumps(await desk.webhook(hook))
    body = received.body.encode()
    assert not is_signed_with("whsec_" + "A" * 32, received.headers, body)


async def test_secret_that_was_rotated_away_signs_no_more(
    start_delivering: StartDelivering, receiver: ReceiverProcess
) -> None:
    """After the grace time the new one signs alone."""
    gateway = start_delivering(variables={"WEBHOOK_SECRET_GRACE_SECONDS": "1"})
    desk = Desk(gateway, await gateway.tenant())
    hook = await desk.subscribe(receiver.url(1))
    newer = await desk.rotate(hook)
    receiver.trust({1: [newer]})
    await trio.sleep(1.2)  # the grace time
    await desk.send()
    await desk.delivery_of(hook, "delivered")
    (received,) = receiver.received(1)
    assert received.arrival.is_valid
    assert not is_signed_with(hook.secret, received.headers, received.body.encode())


async def test_request_is_as_the_standard_says(desk: Desk, receiver: ReceiverProcess) -> None:
    """The three headers, JSON with type, timestamp and data, and the event's id."""
    hook = await desk.subscribe(receiver.url(1))
    receiver.trust({1: [hook.secret]})
    payload = {"orderId": "ä-1", "amount": 12.5, "deep": {"list": [1, None, True]}}
    sent = await desk.send("order.completed", payload)
    delivery = await desk.delivery_of(hook, "delivered")
    (received,) = receiver.received(1)
    assert (received.method, received.target) == ("POST", "/e/1")
    assert received.arrival.is_valid
    assert received.headers["webhook-id"] == sent
    assert received.headers["webhook-timestamp"].isdigit()
    assert received.headers["content-type"].split(";")[0] == "application/json"
    body = json.loads(received.body)
    assert body.keys() == {"type", "timestamp", "data"}
    assert (body["type"], body["data"]) == ("order.completed", payload)
    assert "x-api-key" not in received.headers
    assert delivery["eventId"] == sent
    assert delivery["webhookId"] == hook.id
