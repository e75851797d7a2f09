"""``bulkhead-trio deliveries``: what was sent, what was not, and sending it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulkhead_trio.cli._options import Read, configured

if TYPE_CHECKING:
    from bulkhead_trio.cli._delivery_filters import Filter

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., None])

STATES = ("pending", "retrying", "delivered", "dead")
MOST_LISTED = 1000

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _filters(command: Command) -> Command:
    """Give a command the options that say which deliveries are meant."""
    options = (
        click.option("--tenant", metavar="TENANT", help="Only this tenant's: its id, or its name."),
        click.option("--webhook", metavar="ID", help="Only those to this webhook (wh_...)."),
        click.option("--type", "type_", metavar="TYPE", help="Only of this type; order.* for all."),
        click.option(
            "--since", metavar="TIME", help="Only from then on: 90m, 6h, 7d, 2026-02-11 or more."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def deliveries() -> None:
    """Look at deliveries of webhooks and notifications, and send them again.

    Works on DATABASE_URL, or on the embedded PostgreSQL in DATA_DIR, whether a server runs or not;
    servers that run take up at once what is to be sent again.
    """


@deliveries.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@_filters
@click.option("--dead", is_flag=True, help="Dead letters: webhooks' and notifications'.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_LISTED),
    default=50,
    show_default=True,
    metavar="NUMBER",
    help="The most to list.",
)
@click.option("--cursor", metavar="CURSOR", help="Where an earlier list ended.")
@_as_json
@configured("data_dir", "database_url")
def list_(
    read: Read, limit: int, cursor: str | None, dead: bool, as_json: bool, **given: Any
) -> None:
    """List deliveries, newest first.

    \b
    Examples:
      bulkhead-trio deliveries list --state retrying
      bulkhead-trio deliveries list --dead --since 6h
      bulkhead-trio deliveries list --tenant acme --json | jq '.items[].id'
    """
    from bulkhead_trio.cli._delivery_tables import print_list
    from bulkhead_trio.cli._delivery_work import list_deliveries

    wanted = _filter(dead=dead, **given)
    shown = _run(read, list_deliveries, wanted, limit, cursor)
    print_list(shown, has_tenants=wanted.tenant is None, as_json=as_json)


@deliveries.command()
@click.argument("id_", metavar="ID")
@_as_json
@configured("data_dir", "database_url")
def show(read: Read, id_: str, as_json: bool) -> None:
    """Show one delivery (dlv_...) or notification (ntf_...) with every attempt.

    \b
    Examples:
      bulkhead-trio deliveries show dlv_0190163d8694739b8db4ae32ffd8ab07
    """
    from bulkhead_trio.cli._delivery_tables import print_one
    from bulkhead_trio.cli._delivery_work import show_one

    print_one(_run(read, show_one, id_), as_json=as_json)


@deliveries.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filters
@click.option("--dead", is_flag=True, help="All dead letters that the other options leave.")
@click.option("--dry-run", is_flag=True, help="Say how many there are, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
@configured("data_dir", "database_url")
def replay(
    read: Read,
    ids: tuple[str, ...],
    dead: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Send again: those named by their ids, or the dead letters that a filter leaves.

    A receiver knows them by their webhook-id, which stays the same.

    \b
    Examples:
      bulkhead-trio deliveries replay dlv_0190163d8694739b8db4ae32ffd8ab07
      bulkhead-trio deliveries replay --tenant acme --since 2d --dry-run
      bulkhead-trio deliveries replay --dead --yes
    """
    from bulkhead_trio.cli._delivery_tables import print_replayed
    from bulkhead_trio.cli._delivery_work import (
        count_dead,
        count_these,
        replay_matching,
        replay_these,
    )

    filter_ = _filter(dead=True, state=None, **given)
    if bool(ids) == (dead or not filter_.is_everything):
        raise click.UsageError("Name deliveries by their ids, or filter them; --dead takes all.")
    count = _run(read, count_these, ids) if ids else _run(read, count_dead, filter_)
    if dry_run or not count:
        print_replayed(None, count, as_json=as_json)
        return
    if not yes:
        click.confirm(f"Send {count} again?", abort=True, err=True)
    done = _run(read, replay_these, ids) if ids else _run(read, replay_matching, filter_)
    print_replayed(done, count, as_json=as_json)


def _filter(**given: Any) -> Filter:
    from bulkhead_trio.cli._delivery_filters import read_filter

    return read_filter(**given)


def _run(read: Read, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    from bulkhead_trio.cli._desk import at_desk

    return at_desk(read, work, *arguments)
