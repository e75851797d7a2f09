"""``bulkhead-trio serve``."""

from __future__ import annotations

import functools
import os
import signal
import sys

import click

from bulkhead_trio.cli._failures import INTERRUPTED
from bulkhead_trio.cli._options import Read, configured


@click.command()
@configured(
    "api_host", "api_port", "bind", "workers", "data_dir", "database_url", "http", "log_level",
    "log_format",
)  # fmt: skip
def serve(read: Read) -> None:
    """Serve the API until SIGTERM or SIGINT, then drain and stop.

    Starts an embedded PostgreSQL in DATA_DIR unless DATABASE_URL names another, applies
    migrations, and in development seeds demonstration rows.

    \b
    Examples:
      bulkhead-trio serve
      bulkhead-trio serve --host 0.0.0.0 --port 9000 --log-format json
      bulkhead-trio serve --workers 2 --bind :8080,unix:/run/bulkhead.sock
      bulkhead-trio serve --config bulkhead.toml --data-dir /var/lib/bulkhead
      BULKHEAD_TIERS__FREE__RATE_LIMIT=100000 bulkhead-trio serve
    """
    settings = read().settings
    # What follows takes a second until the server listens for signals itself, imports above all.
    signal.signal(signal.SIGTERM, _leave)
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, _interrupt)
    import trio

    from bulkhead_trio.observe.outlet import Outlet
    from bulkhead_trio.workers import serve as serve_app

    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A server does not wait for whoever reads what it says.
    said = Outlet(sys.stdout)
    try:
        trio.run(
            functools.partial(
                serve_app, settings, announce=lambda sentence: said.write(f"{sentence}\n")
            )
        )
    finally:
        said.finish()


def _interrupt(*_: object) -> None:
    """Interrupted amid imports.

    Not by `KeyboardInterrupt`: where one passes code that an import runs from text, CPython ends by
    the signal in the end, whatever was done about it (``unhandled_keyboard_interrupt``).
    """
    click.echo("Interrupted.", err=True)
    os._exit(INTERRUPTED)


def _leave(*_: object) -> None:
    """Told to stop before anything was begun, or after all was given back: that is no failure.

    Raised from here, `SystemExit` could come up anywhere, within Trio's own loop too.
    """
    os._exit(0)
