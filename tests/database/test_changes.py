"""The feed of changes: on a scripted connection, and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.database._change_rules import CHANNEL, read_change
from bulkhead_trio.database.changes import (
    Changed,
    ChangeEvent,
    ChangeFeed,
    EverythingMayHaveChanged,
    Heard,
    create_change_feed,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

START = EverythingMayHaveChanged


class Scripted:
    """A database that hears what it is told to say, and fails as it is told."""

    def __init__(self) -> None:
        self.is_away = False
        self.is_silent = False
        self.forgets_listening = False
        self.attempts: list[float] = []
        self.open: list[ScriptedListener] = []

    async def connect(self) -> ScriptedListener:
        self.attempts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise psycopg.OperationalError("scripted: away")
        listener = ScriptedListener(self)
        self.open.append(listener)
        return listener

    def say(self, payload: str, channel: str = CHANNEL) -> None:
        for listener in self.open:
            listener.said.send_nowait(psycopg.Notify(channel, payload, 1))

    def lose(self) -> None:
        self.is_away = True
        for listener in self.open:
            listener.said.close()


class ScriptedListener:
    def __init__(self, database: Scripted) -> None:
        self._database = database
        self.said, self._heard = trio.open_memory_channel[psycopg.Notify](100)
        self._handlers: list[Callable[[psycopg.Notify], None]] = []

    async def execute(self, _query: bytes, params: Any = None) -> None:
        await trio.lowlevel.checkpoint()
        if self._database.is_silent:
            await trio.sleep_forever()
        if params is not None and not self._database.forgets_listening:
            self.said.send_nowait(psycopg.Notify(params[0], params[1], 1))

    async def wait_notifications(self) -> None:
        try:
            notification = await self._heard.receive()
        except trio.EndOfChannel:
            raise psycopg.OperationalError("scripted: lost") from None
        for handler in self._handlers:
            handler(notification)

    def add_notify_handler(self, callback: Callable[[psycopg.Notify], None]) -> None:
        self._handlers.append(callback)

    def abandon(self) -> None:
        if self in self._database.open:
            self._database.open.remove(self)
        self.said.close()
        self._heard.close()


@asynccontextmanager
async def listening(database: Scripted, events: list[ChangeEvent]) -> AsyncIterator[ChangeFeed]:
    feed = ChangeFeed(database.connect, [events.append], uniform=lambda: 0.5)
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        await trio.testing.wait_all_tasks_blocked()
        yield feed
        nursery.cancel_scope.cancel()
    assert not database.open
    assert not feed.statistics().is_listening


def without_heartbeats(events: list[ChangeEvent]) -> list[ChangeEvent]:
    return [event for event in events if not isinstance(event, Heard)]


async def test_feed_tells_in_order_and_vouches(autojump_clock: MockClock) -> None:
    """First that it listens, then each change; and until when it has told everything."""
    database, events = Scripted(), list[ChangeEvent]()
    async with listening(database, events) as feed:
        assert events == [START(0.0), Heard(0.0)]
        database.say("tenant:a")
        database.say("key:b")
        database.say("route:c")
        await trio.sleep(4)
        assert events[2:5] == [Changed("tenant", "a"), Changed("key", "b"), Changed("route", "c")]
        assert events[5:] == [Heard(1.5), Heard(3.0)]
        statistics = feed.statistics()
        assert (statistics.is_listening, statistics.heard_at) == (True, 3.0)
        assert (statistics.connected, statistics.changes) == (1, 3)


async def test_feed_of_words_it_does_not_know_takes_them_for_everything(
    autojump_clock: MockClock,
) -> None:
    """A newer release may say more than this one understands."""
    database, events = Scripted(), list[ChangeEvent]()
    async with listening(database, events):
        for payload in ("everything", "", "tenant:", "planet:x", "key:a b"):
            database.say(payload)
        await trio.testing.wait_all_tasks_blocked()
    assert without_heartbeats(events) == [START(0.0)] * 6


async def test_feed_that_is_lost_connects_again_and_says_so(autojump_clock: MockClock) -> None:
    """At growing distances while the database is away, and soon when it is back."""
    database, events = Scripted(), list[ChangeEvent]()
    async with listening(database, events) as feed:
        database.lose()
        await trio.sleep(60)
        assert not feed.statistics().is_listening
        between = [b - a for a, b in pairwise(database.attempts)]
        assert max(between) <= 2
        assert len(database.attempts) < 60
        database.is_away = False
        began = trio.current_time()
        await trio.sleep(2)
        assert feed.statistics().is_listening
        assert len(without_heartbeats(events)) == 2
        assert began <= without_heartbeats(events)[1].at <= began + 2  # type: ignore[union-attr]
        assert isinstance(events[-1], Heard)


async def test_feed_whose_peer_is_dead_notices_in_time(autojump_clock: MockClock) -> None:
    """A connection on which nothing comes back is given up within five seconds."""
    database, events = Scripted(), list[ChangeEvent]()
    async with listening(database, events) as feed:
        await trio.sleep(10)
        database.is_silent = True
        await trio.sleep(5)
        assert not feed.statistics().is_listening
        heard_at = feed.statistics().heard_at
        assert heard_at <= 10
        database.is_silent = False
        await trio.sleep(5)
        assert feed.statistics().is_listening
        assert feed.statistics().connected == 2


async def test_feed_that_does_not_hear_itself_vouches_for_nothing(
    autojump_clock: MockClock,
) -> None:
    """Behind a pooler that swaps sessions it says every few seconds that it knows nothing."""
    database, events = Scripted(), list[ChangeEvent]()
    database.forgets_listening = True
    async with listening(database, events) as feed:
        await trio.sleep(60)
        assert feed.statistics().connected == 0
    assert not [event for event in events if isinstance(event, Heard)]
    moments = [event.at for event in events if isinstance(event, START)]
    assert max(b - a for a, b in pairwise(moments)) <= 5


async def test_feed_listener_that_raises_harms_nobody(autojump_clock: MockClock) -> None:
    """It goes on telling, the others and the same one."""
    database, events = Scripted(), list[ChangeEvent]()

    def raising(event: ChangeEvent) -> None:
        raise RuntimeError("mine")

    feed = ChangeFeed(database.connect, [raising, events.append])
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        await trio.testing.wait_all_tasks_blocked()
        database.say("tenant:a")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert Changed("tenant", "a") in events


async def test_feed_cancelled_anywhere_closes_its_connection(autojump_clock: MockClock) -> None:
    """At every checkpoint of the first seconds."""

    async def scenario(point: CancellationPoint) -> None:
        database = Scripted()
        feed = ChangeFeed(database.connect, [], uniform=lambda: 0.5)
        with point, trio.move_on_after(4):
            await feed.run()
        assert not database.open

    assert await sweep_cancellations(scenario) >= 5


@pytest.mark.parametrize(
    ("payload", "change"),
    [
        ("tenant:0-a", Changed("tenant", "0-a")),
        ("route:x", Changed("route", "x")),
        ("key:" + "a" * 101, None),
        ("tenant:a\n", None),
    ],
)
def test_change_is_read_whole_or_not(payload: str, change: Changed | None) -> None:
    """What has anything odd about it is not guessed at."""
    assert read_change(payload) == change


# --- on a real PostgreSQL ------------------------------------------------------------------------


class Told:
    """What a feed has told, and a way to wait for more."""

    def __init__(self) -> None:
        self.events: list[ChangeEvent] = []
        self._more = trio.lowlevel.ParkingLot()

    def __call__(self, event: ChangeEvent) -> None:
        self.events.append(event)
        self._more.unpark_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(15):
            while not condition():
                await self._more.park()

    async def a_heartbeat_from_now(self) -> None:
        now = trio.current_time()
        await self.until(lambda: any(isinstance(e, Heard) and e.at >= now for e in self.events))

    def changes(self) -> list[tuple[str, str]]:
        return [(event.kind, event.id) for event in self.events if isinstance(event, Changed)]

    def starts(self) -> int:
        return sum(isinstance(event, START) for event in self.events)


@asynccontextmanager
async def really_listening(conninfo: str) -> AsyncIterator[Told]:
    told = Told()
    feed = create_change_feed(conninfo, [told], heartbeat_seconds=0.05)
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        await told.a_heartbeat_from_now()
        yield told
        nursery.cancel_scope.cancel()


async def test_feed_hears_of_every_change_before_the_next_heartbeat(database: str) -> None:
    """Each kind of change, once a transaction, however it is made; and nothing of a key's use."""
    tenant, route, digest = str(uuid4()), str(uuid4()), b"\0" * 32
    async with really_listening(database) as told:
        with psycopg.connect(database, autocommit=True) as connection:

            async def said(statement: str, *parameters: object) -> list[tuple[str, str]]:
                told.events.clear()
                connection.execute(statement.encode(), parameters)
                await told.a_heartbeat_from_now()
                return told.changes()

            insert = "INSERT INTO tenants (id, name, tier) VALUES (%s, 'a', 'free')"
            assert await said(insert, tenant) == [("tenant", tenant)]
            assert await said("UPDATE tenants SET weight = 2") == [("tenant", tenant)]
            insert = "INSERT INTO api_keys (id, tenant_id, digest) VALUES ('k1', %s, %s)"
            assert await said(insert, tenant, digest) == [("key", "k1")]
            assert await said("UPDATE api_keys SET last_used_at = now()") == []
            assert await said("UPDATE api_keys SET revoked_at = now()") == [("key", "k1")]
            insert = "INSERT INTO routes (id, tenant_id, spec) VALUES (%s, %s, '{}')"
            assert await said(insert, route, tenant) == [("route", tenant)]
            assert await said("UPDATE routes SET spec = '1'") == [("route", tenant)]
            gone = await said("DELETE FROM tenants")
            assert sorted(gone) == [("key", "k1"), ("route", tenant), ("tenant", tenant)]
            assert await said("TRUNCATE tenants CASCADE") == []
            assert told.starts() == 1


async def test_feed_hears_nothing_of_what_is_rolled_back(database: str) -> None:
    """A change is told when it is committed, and not before."""
    async with really_listening(database) as told:
        with psycopg.connect(database) as connection:
            connection.execute("INSERT INTO tenants (name, tier) VALUES ('a', 'free')")
            await told.a_heartbeat_from_now()
            assert told.changes() == []
            connection.rollback()
        await told.a_heartbeat_from_now()
        assert told.changes() == []


async def test_feed_that_the_server_cuts_off_comes_back(database: str) -> None:
    """It connects again, says that everything may have changed, and hears what comes then."""
    async with really_listening(database) as told:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'bulkhead-trio/changes' AND datname = current_database()"
            )
            await told.until(lambda: told.starts() == 2)
            connection.execute("INSERT INTO tenants (name, tier) VALUES ('a', 'free')")
            await told.until(lambda: bool(told.changes()))


async def test_feed_hears_a_flood_without_missing_one(database: str) -> None:
    """A thousand changes of a thousand transactions, in their order."""
    async with really_listening(database) as told:
        ids = [str(uuid4()) for _ in range(1000)]
        with psycopg.connect(database, autocommit=True) as connection:
            for id_ in ids:
                connection.execute(
                    "INSERT INTO tenants (id, name, tier) VALUES (%s, 'a', 'free')", (id_,)
                )
        await told.a_heartbeat_from_now()
        assert told.changes() == [("tenant", id_) for id_ in ids]
