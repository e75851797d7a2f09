"""What the `gateway` commands do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import click

from bulkhead_trio.api.own_paths import hidden_by_ours
from bulkhead_trio.cli._desk import Desk, Wrong
from bulkhead_trio.cli._tenant_tables import print_json, print_key
from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway.as_code import (
    Plan,
    apply_plan,
    plan_for,
    plan_lines,
    read_file,
    read_stock,
    summary_of,
    write_file,
)
from bulkhead_trio.http.client.network import NetworkPolicy

APPLY_LOCK: Final = 0x62756C6B61706C79
"""``bulkaply`` in ASCII: the advisory lock that lets one file be applied at a time."""

_COLOURS: Final = {"+": "green", "~": "yellow", "-": "red"}


@attrs.frozen
class Outcome:
    """What a file meant.

    Attributes:
        is_done: otherwise it was only looked at.
        api_keys: of new tenants, by name.
    """

    plan: Plan
    is_done: bool
    api_keys: Mapping[str, str] = attrs.field(factory=dict, repr=False)


async def export_text(desk: Desk, show_secrets: bool) -> str:
    """All tenants and routes as a file, as they are at one moment."""
    async with desk.connection.transaction():
        await desk.connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        stock = await read_stock(desk.tenants, desk.routes)
    return write_file(stock, show_secrets=show_secrets)


async def apply_file(desk: Desk, raw: bytes, name: str, prune: bool, dry_run: bool) -> Outcome:
    """Make of what there is what a file says, in one transaction."""
    network = NetworkPolicy(desk.settings.allowed_private_networks)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong(f"{name} is not UTF-8.") from None
    try:
        file = read_file(
            text,
            tiers=desk.tiers,
            check_url=network.check_url,
            hidden=hidden_by_ours,
            identities=desk.audiences,
        )
        async with desk.connection.transaction():
            await desk.connection.execute(b"SELECT pg_advisory_xact_lock(%s)", (APPLY_LOCK,))
            plan = plan_for(file, await read_stock(desk.tenants, desk.routes), prune=prune)
            if dry_run or not plan.steps:
                return Outcome(plan, is_done=False)
            applied = await apply_plan(
                plan, tenants=desk.tenants, routes=desk.routes, keys=desk.keys, author=desk.author
            )
    except InvalidBody as error:
        raise Wrong.of(error, name) from None
    return Outcome(plan, is_done=True, api_keys=applied.api_keys)


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """What is to be done, or was."""
    if as_json:
        print_json(_json(outcome))
        return
    for line in plan_lines(outcome.plan):
        click.secho(line, fg=_COLOURS.get(line.lstrip()[:1]))
    click.echo(summary_of(outcome.plan))
    if outcome.is_done:
        click.echo("Done.")
    for name, api_key in outcome.api_keys.items():
        print_key(name, api_key)


def _json(outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "applied": outcome.is_done,
        "changes": [
            {
                "tenant": step.name,
                "action": step.kind,
                "routes": [
                    {"action": route.kind, "id": None if route.kept is None else route.kept.id}
                    for route in step.routes
                ],
            }
            for step in plan.steps
        ],
        "leftAlone": list(plan.left_alone),
        "apiKeys": dict(outcome.api_keys),
    }
