"""``bulkhead-trio tenants``: tenants and their keys, for people at the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulkhead_trio.cli._options import Read, configured

if TYPE_CHECKING:
    from bulkhead_trio.cli._tenant_work import Shown

T = TypeVar("T")

_SECONDS = "LIMIT/SECONDS"

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_rate_limit = click.option(
    "--rate-limit",
    metavar=_SECONDS,
    help="Requests in a sliding window of so many seconds, such as 100/60; none: no limit.",
)
_weight = click.option(
    "--weight", type=int, help="Share among the tier's tenants, 1 to 1000.", metavar="NUMBER"
)


@click.group()
def tenants() -> None:
    """Look after tenants and their API keys.

    Works on DATABASE_URL, or on the embedded PostgreSQL in DATA_DIR, whether a server runs or not;
    servers that run hear of every change at once. TENANT is a tenant's id, or its name.
    """


@tenants.command("list")
@_as_json
@configured("data_dir", "database_url")
def list_(read: Read, as_json: bool) -> None:
    """List the tenants, oldest first.

    \b
    Examples:
      bulkhead-trio tenants list
      bulkhead-trio tenants list --json | jq -r '.[].name'
    """
    from bulkhead_trio.cli._tenant_tables import print_tenants
    from bulkhead_trio.cli._tenant_work import every_tenant

    print_tenants(_run(read, every_tenant), as_json=as_json)


@tenants.command()
@click.argument("tenant")
@_as_json
@configured("data_dir", "database_url")
def show(read: Read, tenant: str, as_json: bool) -> None:
    """Show one tenant, its keys and how many routes it has.

    \b
    Examples:
      bulkhead-trio tenants show acme
    """
    from bulkhead_trio.cli._tenant_work import one_tenant

    _print(_run(read, one_tenant, tenant), as_json=as_json)


@tenants.command()
@click.argument("name")
@click.option("--tier", required=True, metavar="TIER", help="One of the configured tiers.")
@_rate_limit
@_weight
@click.option("--inactive", is_flag=True, help="Its keys open nothing until it is made active.")
@_as_json
@configured("data_dir", "database_url")
def create(read: Read, as_json: bool, **members: Any) -> None:
    """Make a tenant with a first key, which is printed this once.

    \b
    Examples:
      bulkhead-trio tenants create acme --tier pro
      bulkhead-trio tenants create acme --tier pro --rate-limit 100/1 --weight 5
      KEY=$(bulkhead-trio tenants create acme --tier pro --json | jq -r .apiKey)
    """
    from bulkhead_trio.cli._tenant_work import create_tenant

    _print(_run(read, create_tenant, members), as_json=as_json)


@tenants.command()
@click.argument("tenant")
@click.option("--name", metavar="NAME", help="Another name.")
@click.option("--tier", metavar="TIER", help="Another tier.")
@_rate_limit
@_weight
@click.option("--active/--inactive", default=None, help="Whether its keys open anything.")
@_as_json
@configured("data_dir", "database_url")
def update(read: Read, tenant: str, as_json: bool, **members: Any) -> None:
    """Change a tenant; what is not named stays.

    \b
    Examples:
      bulkhead-trio tenants update acme --tier enterprise
      bulkhead-trio tenants update acme --rate-limit none
      bulkhead-trio tenants update acme --inactive
    """
    from bulkhead_trio.cli._tenant_work import update_tenant

    _print(_run(read, update_tenant, tenant, members), as_json=as_json)


@tenants.command("rotate-key")
@click.argument("tenant")
@click.option("--revoke-others", is_flag=True, help="Revoke all its other keys, at once.")
@_as_json
@configured("data_dir", "database_url")
def rotate_key(read: Read, tenant: str, revoke_others: bool, as_json: bool) -> None:
    """Give a tenant a new key, which is printed this once.

    Its other keys stay good, so that it can change over without a gap; revoke them afterwards.

    \b
    Examples:
      bulkhead-trio tenants rotate-key acme
      bulkhead-trio tenants rotate-key acme --revoke-others  if it leaked
    """
    from bulkhead_trio.cli._tenant_work import add_key

    _print(_run(read, add_key, tenant, revoke_others), as_json=as_json)


@tenants.command("revoke-key")
@click.argument("tenant")
@click.argument("key_id")
@_as_json
@configured("data_dir", "database_url")
def revoke_key(read: Read, tenant: str, key_id: str, as_json: bool) -> None:
    """Revoke one key; `tenants show` lists their ids.

    \b
    Examples:
      bulkhead-trio tenants revoke-key acme 3f0c9d2b51a84e7796d0c1aa
    """
    from bulkhead_trio.cli._tenant_work import drop_key

    _print(_run(read, drop_key, tenant, key_id), as_json=as_json)


@tenants.command()
@click.argument("tenant")
@click.option("--yes", is_flag=True, help="Do not ask.")
@configured("data_dir", "database_url")
def delete(read: Read, tenant: str, yes: bool) -> None:
    """Delete a tenant with its keys and routes.

    \b
    Examples:
      bulkhead-trio tenants delete acme
      bulkhead-trio tenants delete acme --yes
    """
    from bulkhead_trio.cli._tenant_work import delete_tenant

    if not yes:
        click.confirm(f"Delete the tenant {tenant} with its keys and routes?", abort=True)
    name = _run(read, delete_tenant, tenant)
    click.echo(f"Deleted the tenant {name}.")


def _run(read: Read, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    from bulkhead_trio.cli._desk import at_desk

    return at_desk(read, work, *arguments)


def _print(shown: Shown, *, as_json: bool) -> None:
    from bulkhead_trio.cli._tenant_tables import print_tenant

    print_tenant(shown, as_json=as_json)
