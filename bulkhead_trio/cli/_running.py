"""Running one piece of work on Trio, to its end or until somebody interrupts it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from bulkhead_trio import database
from bulkhead_trio.config import Settings
from bulkhead_trio.database import Connection
from bulkhead_trio.database.embedded import open_embedded_server
from bulkhead_trio.observe.logs import configure_logging

T = TypeVar("T")

CONNECT_SECONDS = 5
WORK_SECONDS = 600.0
"""The longest that a command works on the database: a migration of a large table takes minutes."""


def run(work: Callable[[Settings], Awaitable[T]], settings: Settings) -> T:
    """Run ``work`` and take everything down in order, also on SIGINT and SIGTERM.

    Logs go to standard error, so that standard output is the command's answer alone.

    Raises:
        KeyboardInterrupt: it was interrupted, possibly in a group.
    """
    configure_logging(level=settings.log_level, format=settings.log_format)
    return trio.run(_until_terminated, work, settings)


async def _until_terminated(work: Callable[[Settings], Awaitable[T]], settings: Settings) -> T:
    async with trio.open_nursery() as nursery:
        await nursery.start(_interrupt_on_sigterm)
        result = await work(settings)
        nursery.cancel_scope.cancel()
    return result


async def _interrupt_on_sigterm(*, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            raise KeyboardInterrupt


@asynccontextmanager
async def open_connection(settings: Settings) -> AsyncIterator[Connection]:
    """A connection to the configured PostgreSQL; the embedded one runs as long as it is open.

    Raises:
        trio.TooSlowError: the work took longer than `WORK_SECONDS`.
        EmbeddedServerError: the embedded server cannot be started.
        psycopg.Error: the server cannot be reached.
    """
    async with (
        _conninfo(settings) as conninfo,
        database.open_connection(
            conninfo, application_name="bulkhead-trio/cli", connect_timeout=CONNECT_SECONDS
        ) as connection,
    ):
        with trio.fail_after(WORK_SECONDS):
            yield connection


@asynccontextmanager
async def _conninfo(settings: Settings) -> AsyncIterator[str]:
    if settings.database_url is not None:
        yield settings.database_url
        return
    directory = settings.data_dir / "postgres"
    async with open_embedded_server(
        directory, max_connections=settings.embedded_connections
    ) as server:
        yield server.conninfo
