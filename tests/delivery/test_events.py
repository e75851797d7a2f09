"""The writer of events: many in one transaction, each with an answer of its own."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.database.event_records import Added, EventDraft
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.errors import (
    BulkheadFull,
    Conflict,
    DatabaseUnavailable,
    DeadlineExceeded,
    Rejected,
    Shed,
)

from ._memory_store import MemoryDatabase
from ._world import running


def draft(tenant: int, payload: bytes = b"{}", key: str | None = None) -> EventDraft:
    return EventDraft(UUID(int=tenant), "order.completed", payload, key)


def a_database(seconds: float = 0.1) -> MemoryDatabase:
    database = MemoryDatabase()
    database.seconds = seconds
    return database


async def test_writer_answers_when_the_event_is_committed(autojump_clock: MockClock) -> None:
    """Not before; and one that comes alone waits for its own commit only."""
    database, rings = a_database(), list[float]()
    writer = EventWriter(database.events, on_written=lambda: rings.append(trio.current_time()))
    async with running(writer):
        added = await writer.add(draft(1))
        assert (trio.current_time(), rings) == (0.1, [0.1])
        assert added.is_new
        assert database.events.outbox == [added.id]


async def test_writer_gathers_while_it_writes(autojump_clock: MockClock) -> None:
    """A thousand events take as many transactions as hundreds fit into, and a few."""
    database = a_database()
    writer = EventWriter(database.events, places=2000, batch=100)
    answers = list[Added]()

    async def add(number: int) -> None:
        answers.append(await writer.add(draft(number % 7, b"%d" % number)))

    async with running(writer) as nursery:
        for number in range(1000):
            nursery.start_soon(add, number)
        await trio.sleep(1.15)
        assert len(answers) == len({answer.id for answer in answers}) == 1000
    assert len(database.events.batches) <= 11
    assert max(database.events.batches) == 100
    assert {d.payload for d in database.events.kept.values()} == {b"%d" % n for n in range(1000)}


async def test_writer_keeps_the_order_of_arrival(autojump_clock: MockClock) -> None:
    """Over batches too: endpoints that want their events in order rely on it."""
    database = a_database()
    writer = EventWriter(database.events, batch=3)
    async with running(writer) as nursery:
        for number in range(10):
            nursery.start_soon(writer.add, draft(1, b"%d" % number))
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
    kept = [database.events.kept[event_id].payload for event_id in database.events.outbox]
    assert kept == [b"%d" % number for number in range(10)]


async def test_writer_with_an_idempotency_key_gives_the_same_id(autojump_clock: MockClock) -> None:
    """For the same content; another content is refused, and harms nobody in its batch."""
    database = a_database()
    writer = EventWriter(database.events)
    outcomes = dict[str, Added | Conflict]()

    async def add(name: str, of: EventDraft) -> None:
        try:
            outcomes[name] = await writer.add(of)
        except Conflict as conflict:
            outcomes[name] = conflict

    async with running(writer) as nursery:
        first = await writer.add(draft(1, b"1", "key"))
        nursery.start_soon(add, "again", draft(1, b"1", "key"))
        nursery.start_soon(add, "other", draft(1, b"2", "key"))
        nursery.start_soon(add, "tenant", draft(2, b"2", "key"))
        await trio.sleep(1)
    assert outcomes["again"] == Added(first.id, is_new=False)
    assert isinstance(outcomes["other"], Conflict)
    assert isinstance(outcomes["tenant"], Added)
    assert outcomes["tenant"].is_new


async def test_writer_refuses_at_once_when_it_is_full(autojump_clock: MockClock) -> None:
    """Those in the transaction that is under way have their places too."""
    database = a_database(1.0)
    writer = EventWriter(database.events, places=4, batch=2)
    async with running(writer) as nursery:
        for tenant in range(4):
            nursery.start_soon(writer.add, draft(tenant))
            await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(BulkheadFull) as refusal:
            await writer.add(draft(9))
        assert refusal.value.retry_after is not None
        assert refusal.value.retry_after > 0
        assert trio.current_time() == began
        await trio.sleep(1.5)
        await writer.add(draft(9))
        assert writer.statistics().refused == 1


async def test_writer_leaves_room_for_another_tenant(autojump_clock: MockClock) -> None:
    """One that sends without end has half of the places at most."""
    database = a_database(1.0)
    writer = EventWriter(database.events, places=10, batch=2)
    async with running(writer) as nursery:
        for _ in range(5):
            nursery.start_soon(writer.add, draft(1))
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull):
            await writer.add(draft(1))
        nursery.start_soon(writer.add, draft(2))
        await trio.testing.wait_all_tasks_blocked()
        assert writer.statistics().queued + writer.statistics().active == 6
        await trio.sleep(10)
        await writer.add(draft(1))


async def test_writer_fails_everybody_while_the_database_is_away(
    autojump_clock: MockClock,
) -> None:
    """At once, each with an error of its own, and it goes on when the database is back."""
    database = a_database(0.1)
    database.is_away = True
    writer = EventWriter(database.events)
    errors = list[DatabaseUnavailable]()

    async def add(number: int) -> None:
        try:
            await writer.add(draft(number))
        except DatabaseUnavailable as error:
            errors.append(error)

    async with running(writer) as nursery:
        for number in range(5):
            nursery.start_soon(add, number)
        await trio.sleep(1)
        assert len({id(error) for error in errors}) == 5
        database.is_away = False
        await writer.add(draft(1))
        assert writer.statistics().failed == 5
        assert writer.statistics().crashes == 0


async def test_writer_gives_up_on_a_database_that_hangs(autojump_clock: MockClock) -> None:
    """Every transaction has its limit."""
    database = a_database(1e6)
    async with running(writer := EventWriter(database.events)):
        with pytest.raises(DeadlineExceeded):
            await writer.add(draft(1))
        assert trio.current_time() == 5.0


async def test_event_that_cannot_be_kept_harms_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of its batch are written without it; its sender hears why."""
    database = a_database()
    database.events.refused_payloads.add(b"bad")
    writer = EventWriter(database.events)
    answers = list[Added | ValueError]()

    async def add(payload: bytes) -> None:
        try:
            answers.append(await writer.add(draft(1, payload)))
        except ValueError as error:
            answers.append(error)

    async with running(writer) as nursery:
        nursery.start_soon(add, b"first")
        await trio.sleep(0.05)
        for payload in (b"1", b"bad", b"2"):
            nursery.start_soon(add, payload)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(2)
    assert [type(answer) for answer in answers] == [Added, Added, ValueError, Added]
    assert "could not be written together" in caplog.text


async def test_cancelled_waiter_leaves_the_others_alone(autojump_clock: MockClock) -> None:
    """In the line it takes its event along; in a transaction it does not wait for the answer."""
    database = a_database(1.0)
    writer = EventWriter(database.events, batch=2)
    answers = list[Added]()

    async def add(payload: bytes) -> None:
        answers.append(await writer.add(draft(1, payload)))

    async with running(writer) as nursery:
        with trio.move_on_after(0.5) as in_transaction:
            async with trio.open_nursery() as cancelled:
                cancelled.start_soon(add, b"a")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(add, b"b")
                cancelled.start_soon(add, b"c")
        assert in_transaction.cancelled_caught
        assert trio.current_time() == 0.5
        assert writer.statistics().queued == 1
        await trio.sleep(3)
    assert len(answers) == 1
    assert {kept.payload for kept in database.events.kept.values()} == {b"a", b"b"}


async def test_writer_that_does_not_run_refuses(autojump_clock: MockClock) -> None:
    """Before it runs, and after; a waiter whose turn did not come is told the same."""
    database = a_database(1.0)
    writer = EventWriter(database.events, batch=1)
    with pytest.raises(Shed):
        await writer.add(draft(1))
    outcomes = list[type]()

    async def add() -> None:
        try:
            outcomes.append(type(await writer.add(draft(1))))
        except Rejected as refusal:
            outcomes.append(type(refusal))

    async with trio.open_nursery() as nursery:
        async with running(writer):
            nursery.start_soon(add)
            await trio.sleep(0.5)
            nursery.start_soon(add)
            await trio.testing.wait_all_tasks_blocked()
    assert set(outcomes) == {Added, Shed}
    assert len(database.events.kept) == 1
    with pytest.raises(Shed):
        await writer.add(draft(1))


async def test_mistake_of_the_store_is_told_and_survived(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that fits nobody is a crash of the writer: seen, counted, and over in a moment."""
    database = a_database()

    async def too_few(_drafts: object) -> list[Added]:
        await trio.lowlevel.checkpoint()
        return []

    add, database.events.add = database.events.add, too_few  # type: ignore[method-assign,assignment]
    async with running(writer := EventWriter(database.events)):
        with pytest.raises(ValueError, match="zip"):
            await writer.add(draft(1))
        database.events.add = add  # type: ignore[method-assign]
        await trio.sleep(1)
        await writer.add(draft(1))


@pytest.mark.parametrize("options", [{"places": 0}, {"batch": 0}])
def test_writer_refuses_nonsense(options: dict[str, int]) -> None:
    """By name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        EventWriter(MemoryDatabase().events, **options)  # type: ignore[arg-type]
