"""``/api/deliveries`` and ``/api/dead-letters`` over a real PostgreSQL."""

from __future__ import annotations

import datetime

import pytest
import trio

from ._world import MAIL, Tenant, code_of, errors_of, open_world

LETTERS = "/api/dead-letters"
NOBODY = "dlv_" + "0" * 32


async def deliver_to_death(tenant: Tenant, *types: str) -> list[str]:
    """An event of each type, given up at once; the deliveries' ids, newest first."""
    for each in types:
        await tenant.send(type=each)
    await tenant.world.try_webhooks("dead", status=404)
    return [each["id"] for each in await tenant.items("/api/deliveries?state=dead")]


async def test_delivery_is_shown_with_every_try(database: str) -> None:
    """When, what was answered, what went wrong, how long it took; and what comes next."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        hook = await tenant.make_webhook()
        event_id = await tenant.send()
        (pending,) = await tenant.items("/api/deliveries")
        assert pending | {"id": "", "createdAt": ""} == {
            "id": "", "eventId": event_id, "type": "order.completed", "webhookId": hook["id"],
            "state": "pending", "attemptCount": 0, "createdAt": "", "nextAttemptAt": None,
            "endedAt": None,
        }  # fmt: skip
        path = f"/api/deliveries/{pending['id']}"
        assert (await tenant.ask("GET", path)).json()["attempts"] == []
        assert await world.try_webhooks("retry", status=503) == 1
        told = (await tenant.ask("GET", path)).json()
        assert (told["state"], told["attemptCount"]) == ("retrying", 1)
        wait = datetime.datetime.fromisoformat(told["nextAttemptAt"]) - datetime.datetime.now(
            datetime.UTC
        )
        assert 0 < wait.total_seconds() <= 300
        (attempt,) = told["attempts"]
        assert attempt | {"at": ""} == {
            "number": 1, "at": "", "status": 503, "error": None, "durationMs": 12.5,
            "response": "not today",
        }  # fmt: skip


async def test_deliveries_are_filtered_by_state_and_webhook(database: str) -> None:
    """Either, both, or neither."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        one = await tenant.make_webhook(eventTypes=["a"])
        two = await tenant.make_webhook(eventTypes=["b", "c"])
        for type_, outcome in (("a", "delivered"), ("b", "dead"), ("c", "retry")):
            await tenant.send(type=type_)
            await world.try_webhooks(outcome)  # type: ignore[arg-type]
        await tenant.send(type="a")

        async def types(query: str) -> list[str]:
            return [each["type"] for each in await tenant.items(f"/api/deliveries{query}")]

        assert await types("") == ["a", "c", "b", "a"]
        assert await types("?state=delivered") == ["a"]
        assert await types("?state=dead") == ["b"]
        assert await types("?state=retrying") == ["c"]
        assert await types("?state=pending") == ["a"]
        assert await types(f"?webhookId={two['id']}") == ["c", "b"]
        assert await types(f"?webhookId={one['id']}&state=pending") == ["a"]
        assert await types(f"?webhookId={one['id']}&state=dead") == []
        other = await world.tenant()
        assert await other.items(f"/api/deliveries?webhookId={one['id']}") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=gone", "state"),
        ("webhookId=x", "webhookId"),
        ("webhookId=evt_" + "0" * 32, "webhookId"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
    ],
)
async def test_query_that_cannot_be_is_refused(
    module_database: str, query: str, field: str
) -> None:
    """400, and the words begin with the field's name."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask("GET", f"/api/deliveries?{query}")
        assert code_of(refused) == (400, "bad_request")
        assert refused.json()["detail"].startswith(field)


@pytest.mark.parametrize(
    "target",
    [
        "GET /api/deliveries?webhookid=x",
        "GET /api/dead-letters?since=2026-02-11T12:00:00Z",
        "GET /api/webhooks?state=dead",
        f"GET /api/deliveries/dlv_{'0' * 32}?full=true",
        "POST /api/dead-letters/replay?type=order.*",
    ],
)
async def test_parameter_that_is_not_known_is_refused(module_database: str, target: str) -> None:
    """A filter that is spelled wrongly would show, or replay, everything."""
    method, path = target.split()
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        refused = await tenant.ask(method, path)
        assert code_of(refused) == (400, "bad_request")
        assert refused.json()["detail"].endswith("is no parameter here")


async def test_deliveries_are_listed_in_pages(database: str) -> None:
    """Newest first, each once, whatever comes meanwhile."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        await tenant.make_webhook()
        events = [await tenant.send() for _ in range(5)]
        seen: list[str] = []
        path = "/api/deliveries?limit=2&state=pending"
        while path:
            page = (await tenant.ask("GET", path)).json()
            seen += [each["eventId"] for each in page["items"]]
            await tenant.send()
            cursor = page["nextCursor"]
            path = f"/api/deliveries?limit=2&state=pending&cursor={cursor}" if cursor else ""
        assert seen == events[::-1]


async def test_delivery_is_replayed(database: str) -> None:
    """202, pending again under the same event; the tries before it stay in its history."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        await tenant.make_webhook()
        (dead,) = await deliver_to_death(tenant, "order.x")
        again = await tenant.ask("POST", f"/api/deliveries/{dead}/replay")
        assert (again.status, again.json()["state"]) == (202, "pending")
        assert await world.try_webhooks("delivered", status=200) == 1
        told = (await tenant.ask("GET", f"/api/deliveries/{dead}")).json()
        assert [each["status"] for each in told["attempts"]] == [404, 200]
        assert (await tenant.ask("POST", f"/api/deliveries/{dead}/replay")).status == 202
        assert await world.try_webhooks("delivered", status=200) == 1


async def test_dead_letters_are_of_both_kinds(database: str) -> None:
    """Newest first, each with its kind, in pages that divide both lists."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        await tenant.make_webhook()
        made: list[str] = []
        for number in range(3):
            made += (await deliver_to_death(tenant, "order.x"))[:1]
            subject = {**MAIL, "subject": f"{number}"}
            made.append((await tenant.ask("POST", "/api/notifications", subject)).json()["id"])
            assert await world.try_notifications("dead") == 1
        letters = await tenant.items(LETTERS)
        assert [each["id"] for each in letters] == made[::-1]
        assert [each["kind"] for each in letters] == ["notification", "webhook"] * 3
        assert letters[0]["subject"] == "2"
        for limit in range(1, 7):
            seen: list[str] = []
            path = f"{LETTERS}?limit={limit}"
            while path:
                page = (await tenant.ask("GET", path)).json()
                assert len(page["items"]) <= limit
                seen += [each["id"] for each in page["items"]]
                cursor = page["nextCursor"]
                path = f"{LETTERS}?limit={limit}&cursor={cursor}" if cursor else ""
            assert seen == made[::-1], limit
        for kind in ("webhook", "notification"):
            found = await tenant.items(f"{LETTERS}?kind={kind}")
            assert [each["kind"] for each in found] == [kind] * 3


async def test_dead_letters_are_filtered(database: str) -> None:
    """By the webhook, by a type or a pattern, by when they were made."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        hook = await tenant.make_webhook(eventTypes=["*"])
        await deliver_to_death(tenant, "order.a", "order.b.c")
        await trio.sleep(0.01)
        middle = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        await deliver_to_death(tenant, "invoice.a")
        await tenant.ask("POST", "/api/notifications", MAIL)
        await world.try_notifications("dead")

        async def types(query: str) -> list[str | None]:
            return [each["type"] for each in await tenant.items(f"{LETTERS}?{query}")]

        assert await types("") == [None, "invoice.a", "order.b.c", "order.a"]
        assert await types("type=order.*") == ["order.b.c", "order.a"]
        assert await types("type=order.a") == ["order.a"]
        assert await types("type=*") == ["invoice.a", "order.b.c", "order.a"]
        assert await types(f"from={middle}") == [None, "invoice.a"]
        assert await types(f"to={middle}") == ["order.b.c", "order.a"]
        assert await types(f"from={middle}&to={middle}") == []
        assert len(await types(f"webhookId={hook['id']}")) == 3
        assert await types(f"webhookId=wh_{'0' * 32}") == []
        for query in ("type=!", "from=yesterday", "to=2026-02-11T12:00:00", "kind=x"):
            refused = await tenant.ask("GET", f"{LETTERS}?{query}")
            assert code_of(refused) == (400, "bad_request"), query


async def test_dead_letter_is_shown_and_replayed(database: str) -> None:
    """With every try; replayed, it is one no longer."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        await tenant.make_webhook()
        (dead,) = await deliver_to_death(tenant, "order.x")
        mail = (await tenant.ask("POST", "/api/notifications", MAIL)).json()["id"]
        await world.try_notifications("dead")
        for letter in (dead, mail):
            path = f"{LETTERS}/{letter}"
            shown = (await tenant.ask("GET", path)).json()
            assert (shown["state"], len(shown["attempts"])) == ("dead", 1)
            again = await tenant.ask("POST", f"{path}/replay")
            assert (again.status, again.json()["state"]) == (202, "pending")
            assert code_of(await tenant.ask("GET", path)) == (404, "not_found")
            assert code_of(await tenant.ask("POST", f"{path}/replay")) == (404, "not_found")
        assert await tenant.items(LETTERS) == []
        assert await world.try_webhooks("delivered", status=200) == 1
        assert await world.try_notifications("delivered") == 1


async def test_dead_letters_are_replayed_by_filter(database: str) -> None:
    """Those alone that it describes, and how many they were."""
    async with open_world(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        for each in (tenant, other):
            await each.make_webhook(eventTypes=["*"])
            await deliver_to_death(each, "order.a", "order.b", "invoice.a")
        await tenant.ask("POST", "/api/notifications", MAIL)
        await world.try_notifications("dead")
        replay = f"{LETTERS}/replay"
        first = await tenant.ask("POST", replay, {"type": "order.*"})
        assert (first.status, first.json()) == (202, {"replayed": 2, "nextCursor": None})
        now = datetime.datetime.now(datetime.UTC).isoformat()
        nothing = await tenant.ask("POST", replay, {"from": now})
        assert nothing.json()["replayed"] == 0
        mail = await tenant.ask("POST", replay, {"kind": "notification"})
        assert mail.json()["replayed"] == 1
        rest = await tenant.ask("POST", replay)
        assert rest.json()["replayed"] == 1
        assert await tenant.items(LETTERS) == []
        assert len(await other.items(LETTERS)) == 3


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"webhookId": "x"}, {"$.webhookId"}),
        ({"type": 7, "from": "x", "to": None}, {"$.type", "$.from", "$.to"}),
        ({"state": "dead"}, {"$.state"}),
        ({"kind": "mail"}, {"$.kind"}),
        ({"cursor": "x"}, {"$.cursor"}),
        ({"cursor": "wx"}, {"$.cursor"}),
        ([], {"$"}),
    ],
)
async def test_replay_filter_that_cannot_be_is_refused(
    module_database: str, body: object, wrong: set[str]
) -> None:
    """A filter that is spelled wrongly would replay everything."""
    async with open_world(module_database) as world:
        tenant = await world.tenant()
        assert errors_of(await tenant.ask("POST", f"{LETTERS}/replay", body)).keys() == wrong


async def test_deliveries_of_another_tenant_are_nobodys(database: str) -> None:
    """404 for every way to one, and nothing of it is in a list."""
    async with open_world(database) as world:
        owner, other = await world.tenant(), await world.tenant()
        await owner.make_webhook()
        (dead,) = await deliver_to_death(owner, "order.x")
        for each in (dead, NOBODY, "x", "%ff"):
            for method, path in (
                ("GET", f"/api/deliveries/{each}"),
                ("POST", f"/api/deliveries/{each}/replay"),
                ("GET", f"{LETTERS}/{each}"),
                ("POST", f"{LETTERS}/{each}/replay"),
            ):
                answer = await other.ask(method, path)
                assert code_of(answer) == (404, "not_found"), (method, path)
        assert await other.items("/api/deliveries") == []
        assert await other.items(LETTERS) == []
        assert (await other.ask("POST", f"{LETTERS}/replay")).json()["replayed"] == 0
        assert len(await owner.items(LETTERS)) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/deliveries"),
        ("GET", f"/api/deliveries/{NOBODY}"),
        ("POST", f"/api/deliveries/{NOBODY}/replay"),
        ("GET", LETTERS),
        ("POST", f"{LETTERS}/replay"),
        ("GET", f"{LETTERS}/{NOBODY}"),
        ("POST", f"{LETTERS}/{NOBODY}/replay"),
    ],
)
async def test_deliveries_ask_for_a_key(module_database: str, method: str, path: str) -> None:
    """401 without one, 403 for a wrong one."""
    async with open_world(module_database) as world:
        assert code_of(await world.ask(method, path)) == (401, "api_key_missing")
        assert code_of(await world.ask(method, path, key="x")) == (403, "api_key_invalid")
