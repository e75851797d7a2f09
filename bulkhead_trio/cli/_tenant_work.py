"""What the `tenants` commands do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import attrs
import click

from bulkhead_trio.cli._desk import Desk, Wrong
from bulkhead_trio.database.pages import MOST_ITEMS, Cursor
from bulkhead_trio.database.public_ids import is_uuid
from bulkhead_trio.database.tenants import KeyRecord, TenantRecord
from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.tenancy.documents import changes_to, read_tenant, tenant_document

_RATE_LIMIT: Final = re.compile(r"([0-9]{1,10})/([0-9]{1,5}(?:\.[0-9]{1,3})?)")


@attrs.frozen
class Shown:
    """A tenant to be printed.

    Attributes:
        keys: none where they were not asked for.
        routes: how many; ``None`` where that was not asked for.
        api_key: a key that was made just now; it is kept nowhere.
        note: what was done, as a sentence.
    """

    tenant: TenantRecord
    keys: tuple[KeyRecord, ...] | None = None
    routes: int | None = None
    api_key: str | None = attrs.field(default=None, repr=False)
    note: str = ""


async def every_tenant(desk: Desk) -> list[TenantRecord]:
    """All of them, oldest first."""
    return [tenant async for tenant in walk_tenants(desk)]


async def walk_tenants(desk: Desk) -> AsyncIterator[TenantRecord]:
    """All of them, oldest first, page by page."""
    cursor: Cursor | None = None
    while True:
        page = await desk.tenants.page(limit=MOST_ITEMS, cursor=cursor, newest_first=False)
        for tenant in page.items:
            yield tenant
        cursor = page.next_cursor
        if cursor is None:
            return


async def one_tenant(desk: Desk, name: str) -> Shown:
    """The tenant of that id or name, its keys, and how many routes it has."""
    tenant = await find_tenant(desk, name)
    keys = await desk.tenants.keys_of(tenant.id)
    return Shown(tenant, tuple(keys), len(await desk.routes.all_of(tenant.id)))


async def create_tenant(desk: Desk, members: Mapping[str, Any]) -> Shown:
    """A new tenant with its first key."""
    document = {"active": not members["inactive"], **_document(members)}
    try:
        draft = read_tenant(document, tiers=desk.tiers)
    except InvalidBody as error:
        raise Wrong.of(error, "The tenant") from None
    key = desk.keys.make()
    tenant, _ = await desk.tenants.create(draft, key.record, desk.author)
    return Shown(tenant, api_key=key.text, note=f"Created the tenant {tenant.name}.")


async def update_tenant(desk: Desk, name: str, members: Mapping[str, Any]) -> Shown:
    """Change what is given of a tenant."""
    async with desk.connection.transaction():
        before = await find_tenant(desk, name)
        try:
            draft = read_tenant({**tenant_document(before), **_document(members)}, tiers=desk.tiers)
        except InvalidBody as error:
            raise Wrong.of(error, "The tenant") from None
        if tenant_document(draft) == tenant_document(before):
            return Shown(before, note="Nothing to change.")
        after = await desk.tenants.update(before.id, changes_to(draft), before.version, desk.author)
    return Shown(after, note=f"Changed the tenant {after.name}.")


async def add_key(desk: Desk, name: str, revoke_others: bool) -> Shown:
    """One more key, and if asked none but that."""
    key = desk.keys.make()
    async with desk.connection.transaction():
        tenant = await find_tenant(desk, name)
        await desk.tenants.add_key(tenant.id, key.record, desk.author)
        others = [
            each
            for each in await desk.tenants.keys_of(tenant.id)
            if each.id != key.record.id and each.revoked_at is None
        ]
        for each in others if revoke_others else ():
            await desk.tenants.revoke_key(tenant.id, each.id, desk.author)
        keys = await desk.tenants.keys_of(tenant.id)
    number = len(others)
    still = "revoked" if revoke_others else "still good"
    note = f"Made a key for {tenant.name}; {number} other{'s' * (number != 1)} {still}."
    return Shown(tenant, tuple(keys), api_key=key.text, note=note)


async def drop_key(desk: Desk, name: str, key_id: str) -> Shown:
    """Revoke one key."""
    tenant = await find_tenant(desk, name)
    await desk.tenants.revoke_key(tenant.id, key_id, desk.author)
    keys = await desk.tenants.keys_of(tenant.id)
    return Shown(tenant, tuple(keys), note=f"Revoked the key {key_id} of {tenant.name}.")


async def delete_tenant(desk: Desk, name: str) -> str:
    """Delete a tenant; the name that it had."""
    tenant = await find_tenant(desk, name)
    await desk.tenants.delete(tenant.id, tenant.version, desk.author)
    return tenant.name


async def find_tenant(desk: Desk, name: str) -> TenantRecord:
    """The tenant that a person means.

    Raises:
        NotFound: no tenant has this id.
        click.ClickException: no tenant has this name, or several have it.
    """
    if is_uuid(name):
        return await desk.tenants.get(name)
    found = [tenant async for tenant in walk_tenants(desk) if tenant.name == name]
    if not found:
        raise click.ClickException(f"There is no tenant called {name}.")
    if len(found) > 1:
        ids = ", ".join(tenant.id for tenant in found)
        raise click.ClickException(f"Several tenants are called {name}; name one by its id: {ids}")
    return found[0]


def _document(members: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of a tenant, in the contract's names."""
    given = {
        name: members[name]
        for name in ("name", "tier", "active", "weight")
        if members.get(name) is not None
    }
    if (text := members.get("rate_limit")) is not None:
        given["rateLimit"] = _rate_limit(text)
    return given


def _rate_limit(text: str) -> dict[str, Any] | None:
    if text == "none":
        return None
    match = _RATE_LIMIT.fullmatch(text)
    if match is None:
        raise Wrong("--rate-limit must be LIMIT/SECONDS, such as 100/60, or none.")
    return {"limit": int(match[1]), "windowSeconds": float(match[2])}
