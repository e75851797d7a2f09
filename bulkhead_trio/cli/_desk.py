"""Where commands work on the database: stores over one connection, and on whose behalf."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeVar, cast

import attrs
import click

from bulkhead_trio.cli._failures import WRONG_CONFIGURATION, leaves
from bulkhead_trio.cli._options import Read
from bulkhead_trio.cli._running import open_connection, run
from bulkhead_trio.config import Settings
from bulkhead_trio.config.secret_files import kept_secret
from bulkhead_trio.database import Connection, Pool
from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.migrate import migrate, migration_status
from bulkhead_trio.database.routes import RouteStore
from bulkhead_trio.database.tenants import TenantStore
from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.tenancy.keys import KeyMaker

T = TypeVar("T")


class Wrong(click.ClickException):
    """What was asked for cannot be: the same exit code as for a wrong configuration."""

    exit_code = WRONG_CONFIGURATION

    @classmethod
    def of(cls, error: InvalidBody, what: str) -> Wrong:
        """Everything that is wrong with ``what``, a line each."""
        lines = (
            f"  {each['path'].removeprefix('$').lstrip('.')}: {each['message']}".replace(
                "  : ", "  "
            )
            for each in error.errors
        )
        return cls("\n".join([f"{what} is not right:", *lines]))


@attrs.frozen
class Desk:
    """What a command works with.

    Attributes:
        connection: the stores' only one, in autocommit mode: what is done in a transaction of it
            is done by all of them together or not at all.
        source: what gives other stores that connection.
        author: whom the audit names.
    """

    settings: Settings
    connection: Connection
    source: Pool[Connection]
    tenants: TenantStore
    routes: RouteStore
    keys: KeyMaker
    author: Author

    @property
    def tiers(self) -> tuple[str, ...]:
        """The names of the configured tiers."""
        return tuple(tier.name for tier in self.settings.tiers)

    @property
    def audiences(self) -> dict[str, Audience]:
        """The configured identities, each with whom its tokens are for."""
        return {each.name: Audience.of(each.audience) for each in self.settings.identities}


def at_desk(read: Read, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Run ``await work(desk, *arguments)``."""

    async def to_end(settings: Settings) -> T:
        async with _open_desk(settings) as desk:
            return await work(desk, *arguments)

    try:
        return run(to_end, read().settings)
    except BaseExceptionGroup as group:
        # What click is to say has come out of nurseries, which put it into groups.
        told = [leaf for leaf in leaves(group) if isinstance(leaf, click.ClickException)]
        if len(told) != 1 or len(list(leaves(group))) != 1:
            raise
        raise told[0] from None


@asynccontextmanager
async def _open_desk(settings: Settings) -> AsyncIterator[Desk]:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    pepper = kept_secret(
        settings.secret_key, settings.data_dir / "secret.key", "The secret key", _to_stderr
    )
    async with open_connection(settings) as connection:
        await _check_schema(settings, connection)
        # A pool as far as the stores can tell.
        source = cast("Pool[Connection]", _OneConnection(connection))
        yield Desk(
            settings,
            connection,
            source,
            TenantStore(source),
            RouteStore(source),
            KeyMaker(pepper.encode()),
            Author(f"cli:{_user()}"),
        )


async def _check_schema(settings: Settings, connection: Connection) -> None:
    """Tables must be there; those of the embedded database are nobody else's to make."""
    if all(migration.is_applied for migration in await migration_status(connection)):
        return
    if settings.database_url is not None:
        raise click.ClickException(
            "The database is not up to date. Apply its migrations with: bulkhead-trio db migrate"
        )
    await migrate(connection)


class _OneConnection:
    """Lends the same connection each time, also in the middle of a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self._connection)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())


def _to_stderr(sentence: str) -> None:
    click.echo(sentence, err=True)
