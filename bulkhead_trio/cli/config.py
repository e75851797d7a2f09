"""``bulkhead-trio config``: what is configured, and whether it is right."""

from __future__ import annotations

import click

from bulkhead_trio.cli._options import Read, configured

NOTHING = "-"
VALUE_WIDTH = 24
"""Enough for most values; a long one must not push every origin off the screen."""


@click.group()
def config() -> None:
    """Check or show the configuration; nothing is started."""


@config.command()
@configured("data_dir", "database_url")
def check(read: Read) -> None:
    """Say whether the configuration is right; list every mistake if not.

    \b
    Examples:
      bulkhead-trio config check
      bulkhead-trio config check --config prod.toml
      env -i PATH="$PATH" $(grep -v '^#' .env) bulkhead-trio config check
    """
    explanation = read()
    changed = len(explanation.origins)
    names = ", ".join(tier.name for tier in explanation.settings.tiers)
    click.echo(
        f"The configuration is right: {explanation.settings.environment}, "
        f"{changed} value{'s' * (changed != 1)} set, tiers {names}."
    )


@config.command()
@configured("data_dir", "database_url")
def show(read: Read) -> None:
    """Print every setting, where it comes from, and no secret.

    One line a variable: name, value, origin. Secrets and passwords are shown as ***.

    \b
    Examples:
      bulkhead-trio config show
      bulkhead-trio config show --config prod.toml | grep -v default
    """
    from bulkhead_trio.config.display import rows

    table = list(rows(read()))
    names = max(len(row.variable) for row in table)
    for row in table:
        click.echo(f"{row.variable:{names}}  {row.value or NOTHING:{VALUE_WIDTH}}  {row.origin}")
