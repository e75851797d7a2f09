"""What went wrong, as an exit code and a line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from bulkhead_trio.config import ConfigurationError
from bulkhead_trio.errors import BulkheadTrioError

FAILED = 1
WRONG_CONFIGURATION = 2
INTERRUPTED = 130
"""What shells report for a command that SIGINT (2) ended: 128 + 2."""


NAMELESS = {"TooSlowError": "it took too long"}
"""What to say for errors that say nothing themselves."""


class Commands(click.Group):
    """A group whose commands fail with the contract's exit codes, and without a traceback.

    Only what is expected to happen is translated: whatever else a command raises is a defect and
    keeps its traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that ``ctx`` names."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
            status = report(error)
            if status is None:
                raise
            ctx.exit(status)


def report(error: BaseException) -> int | None:
    """Say on stderr what went wrong, if that is expected to happen.

    Returns:
        The exit code; ``None``, with nothing said, for an error that nobody expected.
    """
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(error)):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    if isinstance(error, ConfigurationError):
        click.echo(str(error), err=True)
        return WRONG_CONFIGURATION
    lines = expected_lines(error)
    if lines is None:
        return None
    for line in lines:
        click.echo(f"Error: {line}", err=True)
    return FAILED


def expected_lines(error: BaseException) -> list[str] | None:
    """A line for each error in ``error``; ``None`` if one of them is a defect."""
    found = tuple(leaves(error))
    if not all(isinstance(leaf, _expected()) for leaf in found):
        return None
    return [one_line(leaf) for leaf in found]


def one_line(error: BaseException) -> str:
    """What an expected error says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or NAMELESS.get(type(error).__name__, type(error).__name__)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; one that is no group is its own only one."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def _expected() -> tuple[type[BaseException], ...]:
    # Whoever raised an error of these libraries has imported them: no need to do it here.
    libraries = {"psycopg": "Error", "trio": "TooSlowError"}
    loaded = (
        getattr(sys.modules[library], name)
        for library, name in libraries.items()
        if library in sys.modules
    )
    return (BulkheadTrioError, OSError, *loaded)
