"""A tenant that is switched off: what is its own stays, and waits."""

from __future__ import annotations

from uuid import UUID

from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.delivery_records import NotificationDraft
from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.tenants import TenantChanges

from ._world import MAIL, Tenant, World, code_of, open_world


async def switch(world: World, tenant: Tenant, *, active: bool) -> None:
    await world.stores.tenants.update(
        str(tenant.id), TenantChanges(active=active), None, Author("tests")
    )


async def put_event(world: World, tenant_id: UUID) -> None:
    """An event that the server raises, of an order that was sent before."""
    await world.stores.events.add([EventDraft(tenant_id, "order.completed", b"{}")])
    await world.fan_out()


async def put_letter(world: World, tenant_id: UUID, channel: str) -> None:
    await world.stores.notifications.add(
        NotificationDraft(tenant_id, channel, "https://example.com/", "Hello", "Ada")
    )


async def test_tenant_that_is_switched_off_has_nothing_sent(database: str) -> None:
    """What waits and what comes stays where it is; others are served; then all of it goes out."""
    async with open_world(database) as world:
        tenant, other = await world.tenant(), await world.tenant()
        for each in (tenant, other):
            await each.make_webhook()
            await each.send()
            assert (await each.ask("POST", "/api/notifications", MAIL)).status == 202
        await switch(world, tenant, active=False)
        await put_event(world, tenant.id)
        await put_letter(world, tenant.id, "http")  # a channel that nothing waited on
        assert await world.try_webhooks("delivered", status=200) == 1
        assert await world.try_notifications("delivered") == 1
        assert len(await other.items("/api/deliveries?state=delivered")) == 1
        await switch(world, tenant, active=True)
        assert await world.try_webhooks("delivered", status=200) == 2
        assert await world.try_notifications("delivered") == 2
        assert len(await tenant.items("/api/deliveries?state=delivered")) == 2


async def test_try_that_is_under_way_ends_and_its_retry_waits(database: str) -> None:
    """Switched off in the middle of a try, nothing of the tenant's is tried once more."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        await tenant.make_webhook()
        await tenant.send()
        await world.try_webhooks("retry")
        (delivery,) = await tenant.items("/api/deliveries")
        await switch(world, tenant, active=False)
        await world.stores.deliveries.replay(None, UUID(delivery["id"].removeprefix("dlv_")))
        assert await world.try_webhooks("delivered", status=200) == 0
        await switch(world, tenant, active=True)
        assert await world.try_webhooks("delivered", status=200) == 1


async def test_webhook_that_is_off_for_itself_stays_off(database: str) -> None:
    """Switching its tenant on is no word of the tenant's about its webhook."""
    async with open_world(database) as world:
        tenant = await world.tenant()
        made = await tenant.make_webhook()
        await tenant.ask("PATCH", f"/api/webhooks/{made['id']}", {"active": False})
        await tenant.send()
        for active in (False, True):
            await switch(world, tenant, active=active)
            assert await world.try_webhooks("delivered", status=200) == 0
        await tenant.ask("PATCH", f"/api/webhooks/{made['id']}", {"active": True})
        assert await world.try_webhooks("delivered", status=200) == 1


async def test_tenant_that_is_switched_off_may_ask_for_nothing(database: str) -> None:
    """403, as for its other requests."""
    async with open_world(database) as world:
        tenant = await world.tenant(active=False)
        for path in ("/api/webhooks", "/api/deliveries", "/api/dead-letters"):
            assert code_of(await tenant.ask("GET", path)) == (403, "tenant_inactive")
