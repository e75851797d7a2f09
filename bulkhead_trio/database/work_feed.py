"""What wakes whoever waits for work: LISTEN on the channel that says which kind there is more of.

A feed saves the wait until the next look into the database, and nothing depends on it: those it
wakes look now and then anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.feed import (
    HEARTBEAT_SECONDS,
    EverythingMayHaveChanged,
    Feed,
    Heard,
    connect_listener,
)

CHANNEL: Final = "bulkhead_trio_work"

WorkWord = Literal["events", "webhooks", "notifications"]
"""What there is more of: events in the outbox, deliveries, notifications."""

WORDS: Final[tuple[WorkWord, ...]] = ("events", "webhooks", "notifications")

WorkFeed: TypeAlias = Feed[WorkWord]


def create_work_feed(
    conninfo: str,
    listeners: Iterable[Callable[[WorkWord], None]],
    *,
    application_name: str = "bulkhead-trio",
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> WorkFeed:
    """A feed on a real connection of its own; whoever takes it runs it.

    Args:
        conninfo: PostgreSQL's connection string; it must lead to PostgreSQL itself, or to a
            pooler that gives each client a session.
        listeners: each is told every word, and all words when the feed begins to listen; it is
            called in the feed's task and must not wait.
        application_name: what ``pg_stat_activity`` shows.
        heartbeat_seconds: between two heartbeats.
    """

    async def connect() -> Connection:
        return await connect_listener(conninfo, application_name=f"{application_name}/work")

    return Feed(
        connect,
        [_each_word(listener) for listener in listeners],
        channel=CHANNEL,
        read=read_word,
        subject="work",
        heartbeat_seconds=heartbeat_seconds,
    )


def read_word(payload: str) -> WorkWord | None:
    """What ``payload`` says; ``None`` where it is none of the words."""
    return next((word for word in WORDS if word == payload), None)


def _each_word(
    listener: Callable[[WorkWord], None],
) -> Callable[[WorkWord | EverythingMayHaveChanged | Heard], None]:
    def listen(told: WorkWord | EverythingMayHaveChanged | Heard) -> None:
        if isinstance(told, EverythingMayHaveChanged):
            for word in WORDS:
                listener(word)
        elif not isinstance(told, Heard):
            listener(told)

    return listen
