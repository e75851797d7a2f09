"""What has changed in the database, told by the database: LISTEN on a connection of its own.

Triggers say on one channel which tenant, key or route to read again; PostgreSQL delivers what was
said in the order of the commits. So a `ChangeFeed` that hears its own heartbeat has heard of every
change that was committed before the heartbeat was sent: `Heard` says so, and whoever caches what
the feed tells of knows until when the cache was right.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from bulkhead_trio.database._change_rules import CHANNEL, Changed, read_change
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.feed import (
    HEARTBEAT_SECONDS,
    EverythingMayHaveChanged,
    Feed,
    FeedStatistics,
    Heard,
    ListeningConnection,
    connect_listener,
)

__all__ = [
    "CHANNEL",
    "ChangeEvent",
    "ChangeFeed",
    "ChangeFeedStatistics",
    "Changed",
    "EverythingMayHaveChanged",
    "Heard",
    "ListeningConnection",
    "create_change_feed",
]

ChangeEvent: TypeAlias = Changed | EverythingMayHaveChanged | Heard

ChangeFeedStatistics = FeedStatistics


class ChangeFeed(Feed[Changed]):
    """Tells its listeners of changes, for as long as `run` runs.

    After every connection it tells `EverythingMayHaveChanged`, then each `Changed` as it comes,
    and with every heartbeat `Heard`. A listener is called in the feed's task and must not wait.

    Args:
        connect: makes a connection in autocommit mode; what it raises of `psycopg.Error` and
            `OSError` is tried again.
        listeners: told of everything; what one raises is logged.
        heartbeat_seconds: between two heartbeats.
        uniform: a source of numbers in [0, 1) that spreads reconnections.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ListeningConnection]],
        listeners: Iterable[Callable[[ChangeEvent], None]],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(
            connect,
            listeners,
            channel=CHANNEL,
            read=read_change,
            subject="changes",
            heartbeat_seconds=heartbeat_seconds,
            uniform=uniform,
        )


def create_change_feed(
    conninfo: str,
    listeners: Iterable[Callable[[ChangeEvent], None]],
    *,
    application_name: str = "bulkhead-trio",
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> ChangeFeed:
    """A feed on a real connection of its own; whoever takes it runs it.

    Args:
        conninfo: PostgreSQL's connection string; it must lead to PostgreSQL itself, or to a
            pooler that gives each client a session.
        listeners: told of everything.
        application_name: what ``pg_stat_activity`` shows.
        heartbeat_seconds: between two heartbeats.
    """

    async def connect() -> Connection:
        return await connect_listener(conninfo, application_name=f"{application_name}/changes")

    return ChangeFeed(connect, listeners, heartbeat_seconds=heartbeat_seconds)
