"""LISTEN on a connection of its own, for as long as it runs, and an honest word on how it is doing.

PostgreSQL delivers what was said on a channel in the order of the commits. So a feed that hears its
own heartbeat has heard of everything that was committed before the heartbeat was sent. A feed
behind a pooler that gives each transaction another session never hears itself, and never claims to
have.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs
import msgspec
import psycopg
import trio

from bulkhead_trio.database._rules import Reconnection
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.policies.listeners import tell

Told = TypeVar("Told")

HEARTBEAT_SECONDS: Final = 1.5
"""Between two heartbeats. With `ANSWER_SECONDS` a peer that is dead or cut off is noticed within
3.5 s, and what a feed claims is never older than 1.5 s and a round trip while it is well."""

ANSWER_SECONDS: Final = 2.0
"""The longest wait for a heartbeat, or for LISTEN, to be answered."""

CONNECT_SECONDS: Final = 2
"""For each address of the database's host."""

CONNECTION_SECONDS: Final = 10.0
"""For all of them together, and for finding them."""

LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two attempts to connect: changes are to be known everywhere within 5 s of the database's
return."""

EXPLAIN_SECONDS: Final = 60.0
"""Between two log lines about a feed that cannot connect."""

_log = logging.getLogger("bulkhead_trio.database")


class EverythingMayHaveChanged(msgspec.Struct, frozen=True):
    """The feed listens, now or again: nothing is known of what changed before.

    Attributes:
        at: on Trio's clock; every change that commits later will be told.
    """

    at: float


class Heard(msgspec.Struct, frozen=True):
    """Everything that was committed before ``at``, on Trio's clock, has been told."""

    at: float


class ListeningConnection(Protocol):
    """What a feed needs of a connection; `bulkhead_trio.database.Connection` has it."""

    async def execute(self, query: bytes, params: Any = None) -> Any:
        """Run one statement."""

    async def wait_notifications(self) -> Any:
        """Wait until some notifications have been handed to the handlers."""

    def add_notify_handler(self, callback: Callable[[psycopg.Notify], None]) -> None:
        """Hand every notification to ``callback``."""

    def abandon(self) -> None:
        """Close it at once."""


@attrs.frozen
class FeedStatistics:
    """How a feed is doing.

    Attributes:
        is_listening: whether every change is told as it commits.
        heard_at: up to when on Trio's clock everything has been told; minus infinity: never.
        connected: how often it has begun to listen.
        changes: how many things it has told.
    """

    is_listening: bool
    heard_at: float
    connected: int
    changes: int


class Feed(Generic[Told]):
    """Tells its listeners what is said on one channel, for as long as `run` runs.

    After every connection it tells `EverythingMayHaveChanged`, then each thing as it comes, and
    with every heartbeat `Heard`. A listener is called in the feed's task and must not wait.

    Args:
        connect: makes a connection in autocommit mode; what it raises of `psycopg.Error` and
            `OSError` is tried again.
        listeners: told of everything; what one raises is logged.
        channel: to listen to.
        read: what was said there; ``None`` where that cannot be read.
        subject: what it tells of, for logs.
        heartbeat_seconds: between two heartbeats.
        uniform: a source of numbers in [0, 1) that spreads reconnections.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ListeningConnection]],
        listeners: Iterable[Callable[[Told | EverythingMayHaveChanged | Heard], None]],
        *,
        channel: str,
        read: Callable[[str], Told | None],
        subject: str,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._connect = connect
        self._heartbeat_seconds = heartbeat_seconds
        self._channel = channel
        self._read = read
        self._subject = subject
        self._listeners = tuple(listeners)
        self._uniform = uniform
        self._reconnection = Reconnection()
        # Only this feed listens to its own heartbeats.
        self._heartbeats = f"bulkhead_trio_heartbeat_{uuid.uuid4().hex}"
        self._sent = 0
        self._came = 0
        self._is_listening = False
        self._heard_at = float("-inf")
        self._connected = 0
        self._changes = 0
        self._explained_at = float("-inf")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled, connecting again whenever that is needed."""
        task_status.started()
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, trio.TooSlowError) as error:
                self._lost(error)
            await trio.sleep(
                min(
                    self._reconnection.seconds_left(trio.current_time()),
                    LONGEST_PAUSE_SECONDS * (0.5 + self._uniform() / 2),
                )
            )

    def statistics(self) -> FeedStatistics:
        """How the feed is doing."""
        return FeedStatistics(
            is_listening=self._is_listening,
            heard_at=self._heard_at,
            connected=self._connected,
            changes=self._changes,
        )

    # --- inside ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        with trio.fail_after(CONNECTION_SECONDS):
            connection = await self._connect()
        try:
            connection.add_notify_handler(self._notified)
            with trio.fail_after(ANSWER_SECONDS):
                await connection.execute(
                    f"LISTEN {self._channel}; LISTEN {self._heartbeats}".encode()
                )
            tell(self._listeners, EverythingMayHaveChanged(trio.current_time()))
            while True:
                await self._beat(connection)
                with trio.move_on_after(self._heartbeat_seconds):
                    while True:
                        await connection.wait_notifications()
        finally:
            self._is_listening = False
            connection.abandon()

    async def _beat(self, connection: ListeningConnection) -> None:
        """Send a heartbeat and wait until it comes back, behind all that was committed before."""
        sent_at = trio.current_time()
        self._sent += 1
        with trio.fail_after(ANSWER_SECONDS):
            await connection.execute(
                b"SELECT pg_notify(%s, %s)", (self._heartbeats, str(self._sent))
            )
            while self._came != self._sent:
                await connection.wait_notifications()
        if not self._is_listening:
            self._is_listening = True
            self._connected += 1
            if self._reconnection.is_failing:
                _log.info("the database tells of %s again", self._subject)
            self._reconnection = self._reconnection.succeeded()
        self._heard_at = sent_at
        tell(self._listeners, Heard(sent_at))

    def _notified(self, notification: psycopg.Notify) -> None:
        if notification.channel == self._heartbeats:
            self._came = int(notification.payload)
            return
        told = self._read(notification.payload)
        self._changes += 1
        # What cannot be read was said by a newer release, or by somebody else: be careful.
        tell(self._listeners, told or EverythingMayHaveChanged(trio.current_time()))

    def _lost(self, error: Exception) -> None:
        now = trio.current_time()
        self._reconnection = self._reconnection.failed(now, self._uniform())
        if now - self._explained_at >= EXPLAIN_SECONDS:
            self._explained_at = now
            words = " ".join(str(error).split()) or "it does not answer"
            _log.warning("the database does not tell of %s: %s", self._subject, words)


async def connect_listener(conninfo: str, *, application_name: str) -> Connection:
    """A real connection for a feed; each try is short, for the feed tries again.

    Args:
        conninfo: PostgreSQL's connection string; it must lead to PostgreSQL itself, or to a
            pooler that gives each client a session.
        application_name: what ``pg_stat_activity`` shows.
    """
    return await Connection.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        application_name=application_name,
        connect_timeout=CONNECT_SECONDS,
    )
