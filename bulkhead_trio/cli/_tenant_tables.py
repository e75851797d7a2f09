"""Tenants on the screen, or as JSON."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from bulkhead_trio.api.tenants import wire_key, wire_tenant
from bulkhead_trio.cli._tables import print_table
from bulkhead_trio.cli._tenant_work import Shown
from bulkhead_trio.database.tenants import KeyRecord, RateLimitRecord, TenantRecord

NEVER = "-"


def print_tenants(tenants: Sequence[TenantRecord], *, as_json: bool) -> None:
    """All of them, a line each."""
    if as_json:
        print_json([wire_tenant(tenant) for tenant in tenants])
        return
    if not tenants:
        click.echo(
            "There are no tenants. Make one with: bulkhead-trio tenants create NAME --tier TIER"
        )
        return
    table = Table(
        "name", "tier", "active", "rate limit", "weight", "created", "id", show_edge=False
    )
    for tenant in tenants:
        table.add_row(*_cells(tenant))
    print_table(table)


def print_tenant(shown: Shown, *, as_json: bool) -> None:
    """One, with what is known of its keys, and a key that was made just now."""
    if as_json:
        print_json(_json(shown))
        return
    if shown.note:
        click.echo(shown.note)
    if shown.api_key is None or shown.keys is None:
        tenant = shown.tenant
        names = ("name", "tier", "active", "rate limit", "weight", "created", "id")
        for name, cell in zip(names, _cells(tenant), strict=True):
            click.echo(f"{name:10}  {cell.plain}")
        if shown.routes is not None:
            click.echo(f"{'routes':10}  {shown.routes}")
    if shown.keys is not None:
        _print_keys(shown.keys)
    if shown.api_key is not None:
        print_key(shown.tenant.name, shown.api_key)


def print_key(name: str, api_key: str) -> None:
    """A new key: the key itself on standard output, what to know of it on standard error."""
    click.echo(f"The API key of {name}, which is shown this once and kept nowhere:", err=True)
    click.echo(api_key)


def print_json(value: Any) -> None:
    """For programs, and still for people."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def limit_text(limit: RateLimitRecord | None) -> str:
    """A rate limit as `--rate-limit` takes it."""
    if limit is None:
        return "none"
    seconds = limit.window_seconds
    return f"{limit.limit}/{int(seconds) if seconds == int(seconds) else seconds}"


def _print_keys(keys: Sequence[KeyRecord]) -> None:
    if not keys:
        click.echo("It has no keys.")
        return
    table = Table("key", "created", "last used", "revoked", show_edge=False)
    for key in keys:
        moments = (key.created_at, key.last_used_at, key.revoked_at)
        table.add_row(Text(key.id), *map(moment_text, moments))
    print_table(table)


def _cells(tenant: TenantRecord) -> tuple[Text, ...]:
    # As text, since a name may have what rich takes for markup.
    cells = (
        tenant.name,
        tenant.tier,
        "yes" if tenant.active else "no",
        limit_text(tenant.rate_limit),
        str(tenant.weight),
        moment_text(tenant.created_at),
        tenant.id,
    )
    return tuple(Text(cell) for cell in cells)


def moment_text(at: datetime.datetime | None) -> str:
    """A moment in UTC, to the second."""
    return NEVER if at is None else at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _json(shown: Shown) -> dict[str, Any]:
    told = wire_tenant(shown.tenant)
    if shown.keys is not None:
        told["keys"] = [wire_key(key) for key in shown.keys]
    if shown.routes is not None:
        told["routes"] = shown.routes
    if shown.api_key is not None:
        told["apiKey"] = shown.api_key
    return told
