"""Deliveries on the screen, or as JSON."""

from __future__ import annotations

from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from bulkhead_trio.api.dead_letters import wire_dead_letter
from bulkhead_trio.api.deliveries import wire_attempt
from bulkhead_trio.cli._delivery_work import Item, Listed, Shown
from bulkhead_trio.cli._tables import print_table
from bulkhead_trio.cli._tenant_tables import NEVER, moment_text, print_json
from bulkhead_trio.database.delivery_records import AttemptRecord, DeliveryRecord
from bulkhead_trio.database.public_ids import public_id

AT_ONCE: Final = "at once"


def print_list(listed: Listed, *, has_tenants: bool, as_json: bool) -> None:
    """Some of them, a line each, and where to go on; ``has_tenants``: with whose each is."""
    if as_json:
        items = [_json(item) for item in listed.items]
        print_json({"items": items, "nextCursor": listed.next_cursor})
        return
    if not listed.items:
        click.echo("There are none.")
        return
    table = Table(show_edge=False)
    names = ("id", "state", "tries", "what", "to", "created", "next try or end")
    for name in (*names, "tenant") if has_tenants else names:
        # An id is there to be copied: on a narrow screen everything else gives way.
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for item in listed.items:
        *cells, next_at, ended, tenant = _cells(item)
        row = (*cells, next_at if ended == NEVER else ended)
        table.add_row(*map(Text, (*row, tenant) if has_tenants else row))
    print_table(table)
    if listed.next_cursor is not None:
        click.echo(f"There are more: --cursor {listed.next_cursor}", err=True)


def print_one(shown: Shown, *, as_json: bool) -> None:
    """One, with every attempt."""
    if as_json:
        attempts = [wire_attempt(attempt) for attempt in shown.attempts]
        print_json({**_json(shown.item), "attempts": attempts})
        return
    item = shown.item
    names = ("id", "state", "tries", "what", "to", "created", "next try", "ended", "tenant")
    for name, cell in zip(names, _cells(item), strict=True):
        click.echo(f"{name:8}  {_one_line(cell)}")
    if isinstance(item, DeliveryRecord):
        click.echo(f"{'event':8}  {public_id('evt', item.event_id)}")
    else:
        click.echo(f"{'subject':8}  {_one_line(item.subject)}")
    if shown.attempts:
        _print_attempts(shown.attempts)
    else:
        click.echo("It has not been tried yet.")


def print_replayed(replayed: int | None, matching: int, *, as_json: bool) -> None:
    """How many are sent again, or with ``None`` would be."""
    if as_json:
        print_json({"replayed": replayed or 0, "matching": matching})
    elif replayed is not None:
        click.echo(f"{replayed:,} will be sent again.")
    elif matching:
        click.echo(f"{matching:,} would be sent again.")
    else:
        click.echo("There is nothing to send again.")


def _print_attempts(attempts: tuple[AttemptRecord, ...]) -> None:
    table = Table("try", "at", "status", "took", "error", "response", show_edge=False)
    for attempt in attempts:
        cells = (
            str(attempt.number),
            moment_text(attempt.at),
            NEVER if attempt.status is None else str(attempt.status),
            f"{attempt.duration_ms:,.0f} ms",
            attempt.error or NEVER,
            attempt.response or NEVER,
        )
        # As text, since what a receiver answers may have what rich takes for markup.
        table.add_row(*(Text(_one_line(cell)) for cell in cells))
    print_table(table)


def _cells(item: Item) -> tuple[str, ...]:
    if isinstance(item, DeliveryRecord):
        id_, what = public_id("dlv", item.id), item.event_type
        to = public_id("wh", item.webhook_id)
    else:
        id_, what, to = public_id("ntf", item.id), item.channel, _one_line(item.recipient)
    is_due = item.next_at is None and item.ended_at is None
    next_try = AT_ONCE if is_due else moment_text(item.next_at)
    told = (moment_text(item.created_at), next_try, moment_text(item.ended_at))
    return (id_, item.state, str(item.attempts), what, to, *told, str(item.tenant_id))


def _json(item: Item) -> dict[str, Any]:
    return {**wire_dead_letter(item), "tenantId": str(item.tenant_id)}


def _one_line(text: str) -> str:
    """Text of a stranger's as a terminal may have it: no control characters, and one line."""
    return "".join(each if each.isprintable() else " " for each in text)
