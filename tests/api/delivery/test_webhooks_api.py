"""``/api/webhooks`` over a real PostgreSQL."""

from __future__ import annotations

import datetime
from uuid import UUID

import pytest
import trio
from standardwebhooks.webhooks import Webhook

from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.webhook_records import EndpointChange
from bulkhead_trio.database.work_records import Finished
from bulkhead_trio.delivery._signing_rules import WebhookSecret, sign
from bulkhead_trio.delivery.sealing import Sealer

from ...delivery._secrets import read_secret
from .._deliveries import SECRET_KEY
from ._world import HOOK, code_of, errors_of, open_world

PATHS = (
    ("POST", "/api/webhooks"),
    ("GET", "/api/webhooks"),
    ("GET", "/api/webhooks/{id}"),
    ("PATCH", "/api/webhooks/{id}"),
    ("DELETE", "/api/webhooks/{id}"),
    ("POST", "/api/webhooks/{id}/secret"),
    ("POST", "/api/webhooks/{id}/test"),
)


async def test_webhook_is_made_with_a_secret_that_is_shown_once(database: str) -> None:
    """201 with the whole object, its address, its version; the secret in no later answer."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.ask("POST", "/api/webhooks", {**HOOK, "description": "for orders"})
        body = made.json()
        assert made.status == 201
        assert body | {"id": "", "createdAt": "", "updatedAt": "", "secret": ""} == {
            "id": "", **HOOK, "description": "for orders", "fifo": False, "active": True,
            "disabledReason": None, "failingSince": None, "createdAt": "", "updatedAt": "",
            "version": 1, "secret": "",
        }  # fmt: skip
        assert made.headers["location"] == f"/api/webhooks/{body['id']}"
        assert made.headers["etag"] == '"1"'
        for path in (made.headers["location"], "/api/webhooks"):
            answer = await tenant.ask("GET", path)
            assert answer.status == 200
            assert b"whsec_" not in answer.body
        found = await tenant.ask("GET", made.headers["location"])
        del body["secret"]
        assert found.json() == body


async def test_secret_is_the_one_that_the_sealed_one_opens_to(database: str) -> None:
    """What is signed with what is kept, a receiver verifies with what was shown."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook()
        webhook_id = UUID(made["id"].removeprefix("wh_"))
        (kept,) = (await world.stores.webhooks.get(tenant.id, webhook_id)).secrets
        sealer = Sealer(SECRET_KEY, purpose="webhook secrets")
        opened = WebhookSecret(sealer.unseal(kept.sealed, bound_to=webhook_id))
        assert opened == read_secret(made["secret"])
        now = int(datetime.datetime.now(datetime.UTC).timestamp())
        headers = {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(now),
            "webhook-signature": sign([opened], "evt_1", now, b'{"a":1}'),
        }
        assert Webhook(made["secret"]).verify(b'{"a":1}', headers) == {"a": 1}
        assert made["secret"].encode() not in kept.sealed


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"url": "http://127.0.0.1/", "eventTypes": []}, {"$.url", "$.eventTypes"}),
        ({**HOOK, "fifo": 1, "filter": "x"}, {"$.fifo", "$.filter"}),
        ([], {"$"}),
        (b"{", {"$"}),
        (None, {"$"}),
    ],
)
async def test_webhook_that_cannot_be_is_refused(
    module_database: str, body: object, wrong: set[str]
) -> None:
    """400 with a line for each mistake, and nothing is made."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        assert errors_of(await tenant.ask("POST", "/api/webhooks", body)).keys() == wrong
        assert await tenant.items("/api/webhooks") == []
        other = await tenant.ask("POST", "/api/webhooks", HOOK, content_type="text/plain")
        assert code_of(other) == (415, "unsupported_media_type")


async def test_url_that_nobody_may_connect_to_says_why(module_database: str) -> None:
    """At its path."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        hook = {**HOOK, "url": "http://169.254.169.254/latest"}
        errors = errors_of(await tenant.ask("POST", "/api/webhooks", hook))
        assert errors == {"$.url": "169.254.169.254 may not be connected to: metadata"}


async def test_tenant_has_a_hundred_webhooks_at_most(database: str) -> None:
    """One more is in conflict with those that are there."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        for _ in range(100):
            await tenant.make_webhook()
        assert code_of(await tenant.ask("POST", "/api/webhooks", HOOK)) == (409, "conflict")
        other = await world.tenant()
        assert (await other.ask("POST", "/api/webhooks", HOOK)).status == 201


async def test_webhooks_are_listed_in_pages(database: str) -> None:
    """Newest first, each once; another tenant's are not among them."""
    async with open_world(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        made = [(await tenant.make_webhook())["id"] for _ in range(5)]
        await other.make_webhook()
        seen: list[str] = []
        path = "/api/webhooks?limit=2"
        while path:
            page = (await tenant.ask("GET", path)).json()
            seen += [each["id"] for each in page["items"]]
            cursor = page["nextCursor"]
            path = f"/api/webhooks?limit=2&cursor={cursor}" if cursor else ""
        assert seen == made[::-1]
        for query in ("limit=0", "limit=101", "cursor=x", "limit=1&limit=2"):
            refused = await tenant.ask("GET", f"/api/webhooks?{query}")
            assert code_of(refused) == (400, "bad_request"), query


async def test_patch_changes_what_it_says(database: str) -> None:
    """The rest stays; null takes away; a version more, unless nothing changes."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook(description="x")
        path = f"/api/webhooks/{made['id']}"
        first = await tenant.ask("PATCH", path, {"eventTypes": ["*"], "fifo": True})
        assert first.status == 200
        assert (first.json()["eventTypes"], first.json()["fifo"]) == (["*"], True)
        assert (first.json()["url"], first.json()["description"]) == (HOOK["url"], "x")
        assert first.headers["etag"] == '"2"'
        merge = {"content_type": "application/merge-patch+json"}
        second = await tenant.ask("PATCH", path, {"description": None}, **merge)
        assert (second.json()["description"], second.json()["version"]) == (None, 3)
        third = await tenant.ask("PATCH", path, second.json())
        assert (third.json(), third.headers["etag"]) == (second.json(), '"3"')


@pytest.mark.parametrize(
    ("patch", "wrong"),
    [
        ({"url": None}, {"$.url"}),
        ({"url": "http://10.0.0.1/", "eventTypes": ["!"]}, {"$.url", "$.eventTypes[0]"}),
        ({"id": "wh_x", "version": 7}, {"$.id", "$.version"}),
        ({"disabledReason": "because"}, {"$.disabledReason"}),
        ({"active": "yes"}, {"$.active"}),
        ({"secret": "whsec_x"}, {"$.secret"}),
        (
            {"id": "wh_x", "url": "x", "active": 1, "z": 1, "eventTypes": ["!", "a", "a", 7]},
            {"$.id", "$.url", "$.active", "$.z"}
            | {"$.eventTypes[0]", "$.eventTypes[2]", "$.eventTypes[3]"},
        ),
        (b'{"fifo":true,"fifo":false}', {"$.fifo"}),
    ],
)
async def test_patch_that_cannot_be_is_refused(
    module_database: str, patch: object, wrong: set[str]
) -> None:
    """400 with the paths, and the webhook is as it was."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook()
        path = f"/api/webhooks/{made['id']}"
        refused = await tenant.ask("PATCH", path, patch)
        assert errors_of(refused).keys() == wrong
        assert (await tenant.ask("GET", path)).headers["etag"] == '"1"'


async def test_if_match_lets_only_the_version_be_changed_that_was_read(database: str) -> None:
    """409 for a stale one, for PATCH and DELETE."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        path = f"/api/webhooks/{(await tenant.make_webhook())['id']}"
        assert (await tenant.ask("PATCH", path, {"fifo": True}, if_match='"1"')).status == 200
        for method, body in (("PATCH", {"fifo": False}), ("DELETE", None)):
            refused = await tenant.ask(method, path, body, if_match='"1"')
            assert code_of(refused) == (409, "conflict")
        wrong = await tenant.ask("PATCH", path, {"fifo": False}, if_match="1")
        assert code_of(wrong) == (400, "invalid_header")
        assert (await tenant.ask("DELETE", path, if_match='"2"')).status == 204


async def test_patches_at_the_same_time_are_all_kept(database: str) -> None:
    """Without If-Match, each changes what it names and undoes nobody's change."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        path = f"/api/webhooks/{(await tenant.make_webhook())['id']}"
        patches = ({"fifo": True}, {"description": "x"}, {"eventTypes": ["*"]})
        async with trio.open_nursery() as nursery:
            for patch in patches:
                nursery.start_soon(tenant.ask, "PATCH", path, patch)
        now = (await tenant.ask("GET", path)).json()
        assert (now["fifo"], now["description"], now["eventTypes"]) == (True, "x", ["*"])
        assert now["version"] == 4


async def test_disabled_webhook_says_why_and_is_brought_back(database: str) -> None:
    """A 410 disables it; what comes waits; active again, that goes out."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook()
        path = f"/api/webhooks/{made['id']}"
        await tenant.send()
        work = world.stores.webhook_work
        owner = tenant.id
        (claimed,) = await work.claim(owner, limit=1, lease_seconds=60, parallel=20)
        now = datetime.datetime.now(datetime.UTC)
        gone = Finished(
            item_id=claimed.item_id,
            attempts_before=0,
            attempt=AttemptRecord(1, now, 410, None, 3.0, "gone"),
            outcome="dead",
            endpoint=EndpointChange(is_failing=True, disable_reason="gone"),
        )
        assert await work.finish(owner, [gone]) == 1
        told = (await tenant.ask("GET", path)).json()
        assert (told["active"], told["disabledReason"]) == (False, "gone")
        assert told["failingSince"] is not None
        await tenant.send()
        assert await world.try_webhooks("delivered", status=200) == 0
        assert code_of(await tenant.ask("POST", f"{path}/test")) == (409, "conflict")
        back = await tenant.ask("PATCH", path, {"active": True})
        assert (back.json()["active"], back.json()["disabledReason"]) == (True, None)
        assert back.json()["failingSince"] is None
        assert await world.try_webhooks("delivered", status=200) == 1


async def test_disabled_webhook_is_told_of_without_its_query(database: str) -> None:
    """A token in it is no business of the tenant's other receivers."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook(url="https://example.com/hooks?token=secret&x=?")
        other = await tenant.make_webhook(eventTypes=["webhook.*"])
        await tenant.send()
        work = world.stores.webhook_work
        (claimed,) = await work.claim(tenant.id, limit=1, lease_seconds=60, parallel=20)
        gone = Finished(
            item_id=claimed.item_id,
            attempts_before=0,
            attempt=AttemptRecord(1, datetime.datetime.now(datetime.UTC), 410, None, 3.0, None),
            outcome="dead",
            endpoint=EndpointChange(is_failing=True, disable_reason="gone"),
        )
        assert await work.finish(tenant.id, [gone]) == 1
        await world.fan_out()
        (news,) = await tenant.items(f"/api/deliveries?webhookId={other['id']}")
        event = (await tenant.ask("GET", f"/api/events/{news['eventId']}")).json()
        assert event["type"] == "webhook.disabled"
        assert event["payload"] == {
            "webhookId": made["id"],
            "url": "https://example.com/hooks",
            "disabledReason": "gone",
        }


async def test_tenant_switches_its_webhook_off_and_on(database: str) -> None:
    """Without a reason, and nothing is lost meanwhile."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        path = f"/api/webhooks/{(await tenant.make_webhook())['id']}"
        off = await tenant.ask("PATCH", path, {"active": False})
        assert (off.json()["active"], off.json()["disabledReason"]) == (False, None)
        await tenant.send()
        assert await world.try_webhooks("delivered", status=200) == 0
        await tenant.ask("PATCH", path, {"active": True})
        assert await world.try_webhooks("delivered", status=200) == 1


async def test_deleted_webhook_is_gone(database: str) -> None:
    """204 without a body; nothing is sent to it any more."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        path = f"/api/webhooks/{(await tenant.make_webhook())['id']}"
        await tenant.send()
        gone = await tenant.ask("DELETE", path)
        assert (gone.status, gone.body) == (204, b"")
        assert (await tenant.ask("GET", path)).status == 404
        assert (await tenant.ask("DELETE", path)).status == 404
        assert await world.try_webhooks("delivered", status=200) == 0


async def test_new_secret_and_the_one_before_sign_for_a_while(database: str) -> None:
    """Both are kept, the older one until a moment that is told; 0 ends it at once."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook()
        path = f"/api/webhooks/{made['id']}/secret"
        first = await tenant.ask("POST", path)
        assert first.status == 200
        body = first.json()
        assert body["id"] == made["id"]
        assert read_secret(body["secret"]) != read_secret(made["secret"])
        until = datetime.datetime.fromisoformat(body["previousExpiresAt"])
        left = until - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(hours=23) < left <= datetime.timedelta(hours=24, minutes=1)
        webhook_id = UUID(made["id"].removeprefix("wh_"))
        kept = (await world.stores.webhooks.get(tenant.id, webhook_id)).secrets
        sealer = Sealer(SECRET_KEY, purpose="webhook secrets")
        opened = [WebhookSecret(sealer.unseal(s.sealed, bound_to=webhook_id)) for s in kept]
        assert opened == [read_secret(body["secret"]), read_secret(made["secret"])]
        short = await tenant.ask("POST", path, {"graceSeconds": 60})
        until = datetime.datetime.fromisoformat(short.json()["previousExpiresAt"])
        assert until - datetime.datetime.now(datetime.UTC) <= datetime.timedelta(seconds=61)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"graceSeconds": -1}, {"$.graceSeconds"}),
        ({"graceSeconds": 10**9}, {"$.graceSeconds"}),
        ({"graceSeconds": "day"}, {"$.graceSeconds"}),
        ({"secret": "whsec_mine"}, {"$.secret"}),
    ],
)
async def test_new_secret_that_cannot_be_is_refused(
    module_database: str, body: dict[str, object], wrong: set[str]
) -> None:
    """And the old one stays the only one."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook()
        refused = await tenant.ask("POST", f"/api/webhooks/{made['id']}/secret", body)
        assert errors_of(refused).keys() == wrong
        webhook_id = UUID(made["id"].removeprefix("wh_"))
        assert len((await world.stores.webhooks.get(tenant.id, webhook_id)).secrets) == 1


@pytest.mark.parametrize("fifo", [False, True])
async def test_test_event_goes_to_this_webhook_alone(database: str, fifo: bool) -> None:
    """Whatever types it takes; the answer names the delivery, which can be looked at."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        one = await tenant.make_webhook(fifo=fifo)
        other = await tenant.make_webhook(eventTypes=["*"])
        sent = await tenant.ask("POST", f"/api/webhooks/{one['id']}/test")
        assert sent.status == 202
        assert "x-ratelimit-remaining" in sent.headers
        await world.fan_out()
        delivery = (await tenant.ask("GET", f"/api/deliveries/{sent.json()['id']}")).json()
        assert (delivery["type"], delivery["webhookId"]) == ("webhook.test", one["id"])
        event = (await tenant.ask("GET", f"/api/events/{sent.json()['eventId']}")).json()
        assert event["payload"] == {"webhookId": one["id"]}
        assert [each["webhookId"] for each in event["deliveries"]] == [one["id"]]
        assert await tenant.items(f"/api/deliveries?webhookId={other['id']}") == []
        assert await world.try_webhooks("delivered", status=200) == 1


async def test_webhooks_of_another_tenant_are_nobodys(database: str) -> None:
    """404 for every way to one, as for an id that nobody has, and for one that is none."""
    async with open_world(database) as world:
        owner, other = await world.tenant(), await world.tenant()
        made = await owner.make_webhook()
        ids = (made["id"], "wh_" + "0" * 32, "wh_x", made["id"].replace("wh_", "evt_"))
        for method, path in PATHS[2:]:
            for each in ids:
                body = {"fifo": True} if method == "PATCH" else None
                answer = await other.ask(method, path.replace("{id}", each), body)
                assert code_of(answer) == (404, "not_found"), (method, path, each)
        now = (await owner.ask("GET", f"/api/webhooks/{made['id']}")).json()
        assert now["version"] == 1


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_webhooks_ask_for_a_key(module_database: str, method: str, path: str) -> None:
    """401 without one, 403 for a wrong one."""
    async with open_world(module_database) as world:
        path = path.replace("{id}", "wh_" + "0" * 32)
        assert code_of(await world.ask(method, path)) == (401, "api_key_missing")
        assert code_of(await world.ask(method, path, key="x")) == (403, "api_key_invalid")
