"""``bulkhead-trio gateway``: tenants and routes as a file."""

from __future__ import annotations

from typing import IO

import click

from bulkhead_trio.cli._options import Read, configured


@click.group()
def gateway() -> None:
    """Keep tenants and routes as a file.

    Works on DATABASE_URL, or on the embedded PostgreSQL in DATA_DIR, whether a server runs or not;
    servers that run hear of every change at once.
    """


@gateway.command()
@click.option("--show-secrets", is_flag=True, help="Write out what routes hold as secrets, too.")
@configured("data_dir", "database_url")
def export(read: Read, show_secrets: bool) -> None:
    """Print all tenants and their routes as TOML.

    The same tenants and routes are always the same text. API keys are not in it; what routes hold
    as secrets (a header that they set, say) is *** unless asked for.

    \b
    Examples:
      bulkhead-trio gateway export > gateway.toml
    """
    from bulkhead_trio.cli._desk import at_desk
    from bulkhead_trio.cli._gateway_work import export_text

    click.echo(at_desk(read, export_text, show_secrets), nl=False)


@gateway.command()
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Delete tenants that are not in the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@configured("data_dir", "database_url")
def apply(read: Read, file: IO[bytes], dry_run: bool, prune: bool, as_json: bool) -> None:
    """Make of tenants and routes what FILE says; - is standard input.

    All of it or nothing. Each tenant in the file gets exactly the routes that stand there; a tenant
    that is not in it is left alone, unless --prune is given. The key of a new tenant is printed
    this once.

    \b
    Examples:
      bulkhead-trio gateway apply gateway.toml --dry-run
      bulkhead-trio gateway apply gateway.toml
      bulkhead-trio gateway export | bulkhead-trio gateway apply -

    Exit code 2 if the file is wrong; nothing is done then.
    """
    from bulkhead_trio.cli._desk import at_desk
    from bulkhead_trio.cli._gateway_work import apply_file, print_outcome

    name = getattr(file, "name", "The file")  # standard input need not have one
    outcome = at_desk(read, apply_file, file.read(), name, prune, dry_run)
    print_outcome(outcome, as_json=as_json)
