"""``/api/events`` over a real PostgreSQL."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkhead_trio.api._payload_rules import MOST_PAYLOAD_BYTES
from bulkhead_trio.api.data_plane import DataPlane
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.testing import ASGIClient

from .._world import operation
from ._world import EVENT, code_of, errors_of, open_world

PATH = "/api/events"


async def test_event_is_accepted_and_found_with_where_it_went(database: str) -> None:
    """202 with an id; every webhook that takes its type has a delivery, others have none."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        matching = [
            (await tenant.make_webhook(eventTypes=types))["id"]
            for types in (["order.*"], ["*"], ["order.completed", "x"])
        ]
        await tenant.make_webhook(eventTypes=["invoice.*"])
        sent = await tenant.ask("POST", PATH, EVENT)
        assert sent.status == 202
        path = f"{PATH}/{sent.json()['id']}"
        before = (await tenant.ask("GET", path)).json()
        assert (before["type"], before["payload"]) == (EVENT["type"], EVENT["payload"])
        assert before["deliveries"] == []
        await world.fan_out()
        after = (await tenant.ask("GET", path)).json()
        assert {each["webhookId"] for each in after["deliveries"]} == set(matching)
        assert {each["state"] for each in after["deliveries"]} == {"pending"}
        assert {each["eventId"] for each in after["deliveries"]} == {sent.json()["id"]}
        await world.try_webhooks("delivered", status=200)
        done = (await tenant.ask("GET", path)).json()
        assert {each["state"] for each in done["deliveries"]} == {"delivered"}


async def test_payload_is_kept_byte_for_byte(database: str) -> None:
    """Large numbers, the order of members, white space and escapes are what they were."""
    payload = (
        b'{ "z":1.10, "a": 123456789012345678901234567890,"e":1e999, "t":"\\u00e9\\ud83d\\ude00'
        b' \xc3\xa9\\u0000","a":[ ] }'
    )
    async with open_world(database) as world:
        tenant = await world.tenant()
        sent = await tenant.ask("POST", PATH, b'{"payload":' + payload + b' ,"type":"order.x"}')
        assert sent.status == 202, sent.body
        found = await world.app.get(f"{PATH}/{sent.json()['id']}", {"x-api-key": tenant.key})
        assert b'"payload":' + payload + b"," in found.body


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"payload": {}}, "$.type"),
        ({"type": "order.x"}, "$.payload"),
        ({"type": "", "payload": {}}, "$.type"),
        ({"type": "order..x", "payload": {}}, "$.type"),
        ({"type": "order.*", "payload": {}}, "$.type"),
        ({"type": "x" * 129, "payload": {}}, "$.type"),
        ({"type": 7, "payload": {}}, "$.type"),
        ({"type": "tier.breaker_opened", "payload": {}}, "$.type"),
        ({"type": "webhook.disabled", "payload": {}}, "$.type"),
        ({"type": "webhook", "payload": {}}, "$.type"),
        ({"type": "order.x", "payload": []}, "$.payload"),
        ({"type": "order.x", "payload": None}, "$.payload"),
        ({"type": "order.x", "payload": {"x": "y" * MOST_PAYLOAD_BYTES}}, "$.payload"),
        (b'{"type":"order.x","payload":{"a":"\xff"}}', "$.payload"),
        (b'{"type":"order.x","payload":{"a":"\\ud800"}}', "$"),
        (b'{"type":"order.x","payload":{"a":NaN}}', "$"),
        (b'{"type":"order.x","payload":{"a":' + b"[" * 200 + b"]" * 200 + b"}}", "$.payload"),
        (b'{"type":"order.x","payload":' + b'{"a":' * 50_000, "$"),
        ({"type": "order.x", "payload": {}, "tenantId": "another"}, "$.tenantId"),
        ({"type": None, "payload": {}}, "$.type"),
        (b'{"type":"\xff","payload":{}}', "$.type"),
        (b'{"type":"order.x","payload":{},"type":"order.y"}', "$.type"),
        (b'{"type":"order.x","payload":{}, "payl\\u006fad" : {} }', "$.payload"),
        ([], "$"),
        (None, "$"),
    ],
    ids=str,
)
async def test_event_that_cannot_be_is_refused(
    module_database: str, body: object, wrong: str
) -> None:
    """400 at its path, with the quota's headers."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("POST", PATH, body)
        assert errors_of(refused).keys() == {wrong}
        assert "x-ratelimit-remaining" in refused.headers


async def test_every_mistake_of_an_event_is_told(module_database: str) -> None:
    """At once, each with its path and in words that follow the member's name."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("POST", PATH, {"type": "tier.x", "payload": 7, "z": 1})
        assert errors_of(refused) == {
            "$.type": "is one that only the server itself may send",
            "$.payload": "must be an object",
            "$.z": "is not known here",
        }
        nothing = await tenant.ask("POST", PATH, {})
        assert errors_of(nothing) == {
            "$.type": "is missing; it must be an event type, such as order.completed",
            "$.payload": "is missing; it must be an object",
        }


async def test_query_of_an_event_is_refused(module_database: str) -> None:
    """Nothing is known there; the quota is told of all the same."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("POST", f"{PATH}?dryRun=true", EVENT)
        assert code_of(refused) == (400, "bad_request")
        assert refused.json()["detail"] == "dryRun is no parameter here"
        assert "x-ratelimit-remaining" in refused.headers


async def test_types_that_only_look_like_the_servers_are_accepted(module_database: str) -> None:
    """Names count, not letters."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        for type_ in ("tiers.x", "webhooks.x", "order.failed", "x.tier", "Tier.x"):
            assert (await tenant.ask("POST", PATH, {**EVENT, "type": type_})).status == 202


async def test_event_sent_again_is_accepted_once(database: str) -> None:
    """The same key and content: the same id; another content: 422; another key: another event."""
    async with open_world(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        await tenant.make_webhook()
        key = {"idempotency_key": "order-1"}
        first = await tenant.ask("POST", PATH, EVENT, **key)
        again = await tenant.ask("POST", PATH, EVENT, **key)
        assert (first.status, again.status) == (202, 202)
        assert again.json() == first.json()
        others: tuple[dict[str, object], ...] = ({"payload": {}}, {"type": "order.failed"})
        for members in others:
            refused = await tenant.ask("POST", PATH, {**EVENT, **members}, **key)
            assert code_of(refused) == (422, "idempotency_mismatch")
        fresh = await tenant.ask("POST", PATH, EVENT, idempotency_key="order-2")
        theirs = await other.ask("POST", PATH, EVENT, **key)
        assert len({each.json()["id"] for each in (first, fresh, theirs)}) == 3
        await world.fan_out()
        assert len(await tenant.items("/api/deliveries")) == 2


@pytest.mark.parametrize(
    ("payload", "other", "is_same"),
    [
        (b'{"a":1,"b":[2]}', b'{ "b": [2], "a": 1 }', True),
        (b'{"a":"\\u00e9"}', b'{"a":"\xc3\xa9"}', True),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":1e999}', b'{"a":1e999}', True),
        (b'{"a":1e999}', b'{"a":1e998}', False),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
    ],
)
async def test_content_is_what_a_payload_says(
    module_database: str, payload: bytes, other: bytes, is_same: bool
) -> None:
    """Not how it is written, unless that cannot be told apart."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        key = {"idempotency_key": "k"}
        bodies = [b'{"type":"order.x","payload":%b}' % each for each in (payload, other)]
        first, second = [await tenant.ask("POST", PATH, each, **key) for each in bodies]
        assert first.status == 202
        if is_same:
            assert second.json() == first.json()
        else:
            assert code_of(second) == (422, "idempotency_mismatch")


async def test_event_sent_many_times_at_once_is_accepted_once(database: str) -> None:
    """All get the one id."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        ids: set[str] = set()

        async def send() -> None:
            sent = await tenant.ask("POST", PATH, EVENT, idempotency_key="k")
            ids.add(sent.json()["id"])

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(send)
        assert len(ids) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\xe9"])
async def test_idempotency_key_that_is_none_is_refused(module_database: str, key: str) -> None:
    """400 `invalid_header`."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("POST", PATH, EVENT, idempotency_key=key)
        assert code_of(refused) == (400, "invalid_header")


async def test_quota_is_the_tenants_own(module_database: str) -> None:
    """429 with the contract's headers and how long to wait; another tenant's is whole."""
    async with open_world(module_database, rate=0.1, burst=2) as world:
        tenant, other = await world.tenant(), await world.tenant()
        for left in ("1", "0"):
            sent = await tenant.ask("POST", PATH, EVENT)
            assert (sent.status, sent.headers["x-ratelimit-remaining"]) == (202, left)
        refused = await tenant.ask("POST", PATH, EVENT)
        assert code_of(refused) == (429, "rate_limited")
        assert refused.headers["retry-after"] == str(refused.json()["retryAfter"])
        assert refused.headers["ratelimit-policy"] == '"events";q=2;w=20'
        assert (await other.ask("POST", PATH, EVENT)).status == 202


async def test_request_timeout_holds_for_the_commit(module_database: str) -> None:
    """504 where the database takes longer; what is no time is 400."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        wrong = await tenant.ask("POST", PATH, EVENT, x_request_timeout="soon")
        assert code_of(wrong) == (400, "invalid_header")
        late = await tenant.ask("POST", PATH, EVENT, x_request_timeout="0.000001")
        assert code_of(late) == (504, "deadline_exceeded")


async def test_events_of_another_tenant_are_nobodys(database: str) -> None:
    """404, as for an id that nobody has."""
    async with open_world(database) as world:
        owner, other = await world.tenant(), await world.tenant()
        sent = (await owner.ask("POST", PATH, EVENT)).json()["id"]
        for each in (sent, "evt_" + "0" * 32, "evt_x", sent.replace("evt_", "wh_"), "%ff"):
            answer = await other.ask("GET", f"{PATH}/{each}")
            assert code_of(answer) == (404, "not_found")


async def test_events_ask_for_a_key(module_database: str) -> None:
    """401 without one, 403 for a wrong one, before anything is read or counted."""
    async with open_world(module_database) as world:
        for method, path in (("POST", PATH), ("GET", f"{PATH}/evt_{'0' * 32}")):
            assert code_of(await world.ask(method, path, b"{")) == (401, "api_key_missing")
            assert code_of(await world.ask(method, path, key="x")) == (403, "api_key_invalid")


async def test_event_is_answered_before_the_framework(module_database: str) -> None:
    """The data plane has its route: what is behind it is never asked."""

    async def nobody(*_: Any) -> None:
        raise AssertionError("the framework was asked")

    async with open_world(module_database) as world:
        tenant = await world.tenant()
        plane = DataPlane(nobody, world.resources, gate=DrainGate(), max_body_bytes=10_000)
        headers = {"x-api-key": tenant.key}
        body = b'{"type":"order.x","payload":{}}'
        assert (await ASGIClient(plane).request("POST", PATH, headers, body)).status == 202


async def test_sample_of_an_event_can_be_run(module_database: str) -> None:
    """The line to copy sends an event that is accepted."""
    sample = shlex.split(operation(f"POST {PATH}")["x-codeSamples"][0]["source"])
    headers = dict(sample[at + 1].split(": ") for at, word in enumerate(sample) if word == "-H")
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        assert headers.pop("X-API-Key") == "$API_KEY"
        fields = {name.lower(): value for name, value in headers.items()}
        body = sample[sample.index("-d") + 1].encode()
        answer = await world.app.request("POST", PATH, {**fields, "x-api-key": tenant.key}, body)
        assert answer.status == 202


BODIES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda type_, payload: b'{"type":"%b","payload":%b}' % (type_, payload),
        st.sampled_from([b"order.x", b"tier.x", b"\\u006frder.x", b"x\\u0000"]),
        st.binary(max_size=60) | st.sampled_from([b"{}", b'{"a":"\\u0000"}', b'{"\\ud800":1}']),
    ),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(BODIES, min_size=10, max_size=10))
def test_any_body_is_accepted_or_refused_as_described(
    module_database: str, bodies: list[bytes]
) -> None:
    """Never a 500, and never a refusal by the database."""

    async def main() -> None:
        async with open_world(module_database) as world:
            tenant = await world.tenant()
            for body in bodies:
                answer = await tenant.ask("POST", PATH, body)
                assert answer.status in (202, 400), (body, answer.body)

    trio.run(main)
