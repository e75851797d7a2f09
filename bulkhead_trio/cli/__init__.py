"""The command line: reads settings, calls one function, says what came of it.

Commands import what they run when they run it, so that ``--help`` and ``config check`` are quick.
"""

from __future__ import annotations

import click

from bulkhead_trio.cli._failures import Commands
from bulkhead_trio.cli._options import config_option
from bulkhead_trio.cli.config import config
from bulkhead_trio.cli.db import db
from bulkhead_trio.cli.deliveries import deliveries
from bulkhead_trio.cli.doctor import doctor
from bulkhead_trio.cli.gateway import gateway
from bulkhead_trio.cli.serve import serve
from bulkhead_trio.cli.tenants import tenants


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bulkhead-trio", prog_name="bulkhead-trio")
@config_option
def main(config_path: object) -> None:
    """A multi-tenant API server in which no tier can sink the others.

    \b
    Examples:
      bulkhead-trio serve                        serve, on a PostgreSQL of its own
      bulkhead-trio serve --port 9000            the same, elsewhere
      DATABASE_URL=postgresql://... bulkhead-trio serve
      bulkhead-trio --config prod.toml doctor    would it run here?
      bulkhead-trio config show                  what is configured, and why
      bulkhead-trio tenants create acme --tier pro
      bulkhead-trio gateway export > gateway.toml
      bulkhead-trio deliveries list --dead       what has not arrived

    Every setting is a variable of the environment or a key of a TOML file; options win over
    variables, variables over the file.

    \b
    Exit codes: 0 done, 1 failed, 2 wrong configuration or usage, 130 interrupted.
    """


for _command in (serve, db, config, doctor, tenants, gateway, deliveries):
    main.add_command(_command)
