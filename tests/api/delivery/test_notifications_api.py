"""``/api/notifications`` over a real PostgreSQL."""

from __future__ import annotations

import pytest
import trio

from bulkhead_trio.api.notifications import LONGEST_BODY

from ._world import MAIL, code_of, errors_of, open_world

PATH = "/api/notifications"


async def test_notification_is_accepted_and_found_with_every_try(database: str) -> None:
    """202 with an id; then what became of it."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        sent = await tenant.ask("POST", PATH, MAIL)
        assert sent.status == 202
        assert "x-ratelimit-remaining" in sent.headers
        path = f"{PATH}/{sent.json()['id']}"
        told = (await tenant.ask("GET", path)).json()
        assert told | {"createdAt": ""} == {
            "id": sent.json()["id"], **MAIL, "state": "pending", "attemptCount": 0,
            "createdAt": "", "nextAttemptAt": None, "endedAt": None, "attempts": [],
        }  # fmt: skip
        assert await world.try_notifications("delivered") == 1
        told = (await tenant.ask("GET", path)).json()
        assert (told["state"], told["attemptCount"]) == ("delivered", 1)
        assert [each["number"] for each in told["attempts"]] == [1]


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"channel": "pigeon"}, {"$.channel"}),
        ({"channel": None, "to": 7}, {"$.channel", "$.to"}),
        ({"to": "ada"}, {"$.to"}),
        ({"to": "ada@example.com\r\nBcc: all@example.com"}, {"$.to"}),
        ({"to": "ada@example.com, bob@example.com"}, {"$.to"}),
        ({"to": "Ada <ada@example.com>"}, {"$.to"}),
        ({"to": "ada\0@example.com"}, {"$.to"}),
        ({"to": "a" * 250 + "@example.com"}, {"$.to"}),
        ({"subject": "Hello\nBcc: all@example.com"}, {"$.subject"}),
        ({"subject": "\r"}, {"$.subject"}),
        ({"subject": "x" * 999}, {"$.subject"}),
        ({"body": "\0"}, {"$.body"}),
        ({"body": "x" * (LONGEST_BODY + 1)}, {"$.body"}),
        ({"body": None, "subject": 7}, {"$.body", "$.subject"}),
        ({"from": "bob@example.com"}, {"$.from"}),
        ({"channel": "http", "to": "ada@example.com"}, {"$.to"}),
        ({"channel": "http", "to": "http://127.0.0.1/"}, {"$.to"}),
        ({"channel": "http", "to": "https://u:p@example.com/"}, {"$.to"}),
        ({"channel": "http", "to": "https://example.com/#x"}, {"$.to"}),
    ],
)
async def test_notification_that_cannot_be_is_refused_member_by_member(
    module_database: str, members: dict[str, object], wrong: set[str]
) -> None:
    """400 with a line for each mistake; nothing reaches a mail's head."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("POST", PATH, {**MAIL, **members})
        assert errors_of(refused).keys() == wrong


async def test_notification_by_http_goes_to_a_url(module_database: str) -> None:
    """One that something may be sent to."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        body = {**MAIL, "channel": "http", "to": "https://example.com/in"}
        assert (await tenant.ask("POST", PATH, body)).status == 202


async def test_channel_that_is_not_configured_is_unavailable(module_database: str) -> None:
    """503 `channel_unavailable`; the other one works; a mistake in the body comes first."""
    async with open_world(module_database, channels=("http",)) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("POST", PATH, MAIL)
        assert code_of(refused) == (503, "channel_unavailable")
        assert errors_of(await tenant.ask("POST", PATH, {**MAIL, "to": "x"})).keys() == {"$.to"}
        body = {**MAIL, "channel": "http", "to": "https://example.com/in"}
        assert (await tenant.ask("POST", PATH, body)).status == 202


async def test_notification_sent_again_is_accepted_once(database: str) -> None:
    """The same key and content: the same id; another content: 422."""
    async with open_world(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        key = {"idempotency_key": "mail-1"}
        first = await tenant.ask("POST", PATH, MAIL, **key)
        again = await tenant.ask("POST", PATH, MAIL, **key)
        assert again.json() == first.json()
        for members in ({"to": "bob@example.com"}, {"subject": "x"}, {"body": "x"}):
            refused = await tenant.ask("POST", PATH, {**MAIL, **members}, **key)
            assert code_of(refused) == (422, "idempotency_mismatch")
        theirs = await other.ask("POST", PATH, MAIL, **key)
        assert theirs.json() != first.json()
        assert await world.try_notifications("delivered") == 2


async def test_notification_sent_many_times_at_once_is_accepted_once(database: str) -> None:
    """All get the one id."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        ids: set[str] = set()

        async def send() -> None:
            sent = await tenant.ask("POST", PATH, MAIL, idempotency_key="k")
            ids.add(sent.json()["id"])

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(send)
        assert len(ids) == 1
        assert await world.try_notifications("delivered") == 1


async def test_quota_is_shared_with_events(module_database: str) -> None:
    """What is spent on one is not there for the other."""
    async with open_world(module_database, rate=0.1, burst=2) as world:
        tenant = await world.tenant()
        assert (await tenant.ask("POST", PATH, MAIL)).status == 202
        event = {"type": "order.x", "payload": {}}
        assert (await tenant.ask("POST", "/api/events", event)).status == 202
        assert code_of(await tenant.ask("POST", PATH, MAIL)) == (429, "rate_limited")


async def test_notifications_of_another_tenant_are_nobodys(module_database: str) -> None:
    """404, as for an id that nobody has; 401 without a key."""
    async with open_world(module_database) as world:
        owner, other = await world.tenant(), await world.tenant()
        sent = (await owner.ask("POST", PATH, MAIL)).json()["id"]
        for each in (sent, "ntf_" + "0" * 32, "x"):
            assert code_of(await other.ask("GET", f"{PATH}/{each}")) == (404, "not_found")
        for method, path in (("POST", PATH), ("GET", f"{PATH}/{sent}")):
            assert code_of(await world.ask(method, path)) == (401, "api_key_missing")
