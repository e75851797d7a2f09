"""The order desk: accepted is committed, and what is accepted is completed once."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio import BulkheadFull, CircuitOpen, DeadlineExceeded
from bulkhead_trio.database.orders import OpenOrder
from bulkhead_trio.errors import Conflict, DatabaseUnavailable, NotFound
from bulkhead_trio.testing import CancellationPoint, ScriptedOrderStore, sweep_cancellations

from ._desk import HIGH, LOW, NORMAL, assert_at_rest, make_desk, order, running, settle, statuses


async def test_order_accepted_is_committed_and_completed(autojump_clock: MockClock) -> None:
    """When `accept` returns the order is kept; in the end it is in the ledger, once."""
    store = ScriptedOrderStore(seconds=0.1)
    async with running(make_desk(store)) as desk:
        accepted = await desk.accept(order(1))
        assert accepted.is_new
        assert "order-1" in store.records
        await settle(store)
        assert store.ledger == ["order-1"]
        assert (await desk.find("order-1")).attempts == 1
        assert_at_rest(desk)


async def test_order_sent_again_is_accepted_once(autojump_clock: MockClock) -> None:
    """Before and after its completion, the same order is the same order."""
    store = ScriptedOrderStore(seconds=0.1)
    async with running(make_desk(store)) as desk:
        assert (await desk.accept(order(1))).is_new
        assert not (await desk.accept(order(1))).is_new
        await settle(store)
        assert not (await desk.accept(order(1))).is_new
        assert store.ledger == ["order-1"]


async def test_order_id_that_is_taken_is_a_conflict(autojump_clock: MockClock) -> None:
    """Another amount, or another user, is another order; a number written otherwise is not."""
    async with running(make_desk(ScriptedOrderStore())) as desk:
        await desk.accept(order(1, amount="10"))
        with pytest.raises(Conflict):
            await desk.accept(order(1, amount="10.01"))
        with pytest.raises(Conflict):
            await desk.accept(order(1, user="somebody-else"))
        assert not (await desk.accept(order(1, amount="10.00"))).is_new


async def test_order_that_nobody_sent_is_not_found(autojump_clock: MockClock) -> None:
    """Asking for it is the caller's mistake."""
    async with running(make_desk(ScriptedOrderStore())) as desk:
        with pytest.raises(NotFound):
            await desk.find("order-1")


async def test_quota_is_a_users_own(autojump_clock: MockClock) -> None:
    """One user's flood leaves another user's quota whole; it fills up again at its rate."""
    desk = make_desk(ScriptedOrderStore(), burst=2, rate=1.0)
    assert [desk.take_quota("flood").allowed for _ in range(3)] == [True, True, False]
    assert desk.take_quota("other").allowed
    await trio.sleep(1)
    assert [desk.take_quota("flood").allowed for _ in range(2)] == [True, False]


async def test_urgent_orders_are_done_first(autojump_clock: MockClock) -> None:
    """Whatever waits, the most urgent is next, and among equals who came first."""
    store = ScriptedOrderStore()
    async with running(make_desk(store, workers=1)) as desk:
        store.complete_seconds = 1.0
        for number, priority in enumerate([NORMAL, LOW, NORMAL, HIGH, HIGH]):
            await desk.accept(order(number, priority=priority))
        await settle(store)
    assert store.ledger == ["order-0", "order-3", "order-4", "order-2", "order-1"]


async def test_full_queue_refuses_what_is_least_urgent(autojump_clock: MockClock) -> None:
    """A newcomer as urgent as all that wait is refused, with a time; a more urgent one is not."""
    store = ScriptedOrderStore()
    store.complete_seconds = 4.0
    async with running(make_desk(store, workers=1, queue=2)) as desk:
        for number in range(3):
            await desk.accept(order(number, priority=LOW))
            await trio.sleep(0.1)
        assert desk.statistics().is_full
        with pytest.raises(BulkheadFull) as refused:
            await desk.accept(order(3, priority=LOW))
        assert refused.value.retry_after is not None
        await desk.accept(order(4, priority=HIGH))
        assert desk.statistics().is_full
        assert desk.statistics().waiting == 3, "the displaced one still counts"
        await settle(store)
        assert store.ledger == ["order-0", "order-4", "order-1", "order-2"]


async def test_displaced_order_is_completed_all_the_same(autojump_clock: MockClock) -> None:
    """What the queue drops was accepted: it comes back when there is room."""
    store = ScriptedOrderStore()
    store.complete_seconds = 4.0
    async with running(make_desk(store, workers=1, queue=2)) as desk:
        for number in range(3):
            await desk.accept(order(number, priority=LOW))
            await trio.sleep(0.1)
        for number in range(3, 5):
            await desk.accept(order(number, priority=HIGH))
        await settle(store)
    assert store.ledger == ["order-0", "order-3", "order-4", "order-1", "order-2"]


async def test_full_backlog_refuses_even_the_urgent(autojump_clock: MockClock) -> None:
    """There is an end to what may be open altogether, though the queue has room for it."""
    store = ScriptedOrderStore()
    store.complete_seconds = 4.0
    async with running(make_desk(store, workers=1, queue=2, backlog=4)) as desk:
        for number in range(3):
            await desk.accept(order(number, priority=LOW))
        await desk.accept(order(3, priority=HIGH))
        with pytest.raises(BulkheadFull):
            await desk.accept(order(4, priority=HIGH))
        await settle(store)
        assert len(store.ledger) == 4


async def test_order_left_by_an_earlier_process_is_completed(autojump_clock: MockClock) -> None:
    """A desk that starts finds what another one left, whatever state it was left in."""
    store = ScriptedOrderStore(seconds=1.0)
    async with running(make_desk(store, workers=2)) as desk:
        for number in range(6):
            await desk.accept(order(number))
    assert set(statuses(store).values()) >= {"queued"}
    async with running(make_desk(store, workers=2)):
        await settle(store)
    assert sorted(store.ledger) == [f"order-{number}" for number in range(6)]


async def test_store_away_costs_no_order(autojump_clock: MockClock) -> None:
    """While it is away the breaker opens and orders are refused; those accepted wait for it."""
    store = ScriptedOrderStore()
    async with running(make_desk(store, workers=1)) as desk:
        store.seconds = 1.0
        for number in range(4):
            await desk.accept(order(number))
        store.is_away = True
        await trio.sleep(5)
        with pytest.raises((CircuitOpen, DatabaseUnavailable)):
            await desk.accept(order(4))
        assert desk.statistics().breaker.opened >= 1
        store.is_away = False
        await settle(store)
        assert sorted(store.ledger) == [f"order-{number}" for number in range(4)]
        assert_at_rest(desk)


async def test_order_that_cannot_be_done_is_given_up(autojump_clock: MockClock) -> None:
    """After five attempts with the store there it has failed, and the others were done."""
    store = ScriptedOrderStore(seconds=0.1)
    store.broken = {"order-1"}
    async with running(make_desk(store, workers=1)) as desk:
        for number in range(3):
            await desk.accept(order(number))
        await settle(store)
        assert statuses(store) == {
            "order-0": "completed", "order-1": "failed", "order-2": "completed",
        }  # fmt: skip
        assert (await desk.find("order-1")).attempts == 5
        assert desk.statistics().waiting == 0
        assert desk.statistics().breaker.failures == 0


async def test_outage_says_nothing_of_an_order(autojump_clock: MockClock) -> None:
    """Attempts that the store was away for do not count towards giving an order up."""
    store = ScriptedOrderStore(seconds=0.1)
    async with running(make_desk(store, workers=1)) as desk:
        await desk.accept(order(1))
        store.is_away = True
        await trio.sleep(300)
        store.is_away = False
        store.broken = {"order-1"}
        await trio.sleep(20)
        assert statuses(store) == {"order-1": "queued"}
        store.broken = set()
        await settle(store)
        assert store.ledger == ["order-1"]


async def test_store_that_only_cannot_complete_is_not_hammered(autojump_clock: MockClock) -> None:
    """However healthy the rest of it: after each failure the pause is longer."""

    class Stuck(ScriptedOrderStore):
        async def complete(self, order_id: str) -> bool:  # noqa: ARG002
            raise DatabaseUnavailable("scripted: the disk is full")

    store = Stuck()
    async with running(make_desk(store, workers=1)) as desk:
        await desk.accept(order(1))
        await trio.sleep(100)
        assert (await desk.find("order-1")).attempts < 15


async def test_mistake_in_the_store_harms_nobody_else(autojump_clock: MockClock) -> None:
    """Whatever the store raises, whenever: the desk goes on, and asks less and less often."""

    class Mistaken(ScriptedOrderStore):
        calls = 0

        async def open_orders(self, **_: object) -> list[OpenOrder]:  # type: ignore[override]
            self.calls += 1
            raise KeyError("scripted: a mistake")

        async def begin(self, order_id: str) -> int | None:  # noqa: ARG002
            self.calls += 1
            raise KeyError("scripted: a mistake")

    store = Mistaken()
    async with running(make_desk(store, workers=1)) as desk:
        await desk.accept(order(1))
        await trio.sleep(200)
        assert store.calls < 40
        assert (await desk.accept(order(2))).is_new


async def test_order_sent_again_to_a_full_queue_is_not_refused(autojump_clock: MockClock) -> None:
    """It has its place already."""
    store = ScriptedOrderStore()
    store.complete_seconds = 4.0
    async with running(make_desk(store, workers=1, queue=1)) as desk:
        for number in range(2):
            await desk.accept(order(number))
            await trio.sleep(0.1)
        with pytest.raises(BulkheadFull):
            await desk.accept(order(2))
        assert not (await desk.accept(order(1))).is_new


async def test_accept_obeys_the_callers_limit(autojump_clock: MockClock) -> None:
    """A caller in a hurry is told so at its own time; the store is not blamed for it."""
    store = ScriptedOrderStore(seconds=3.0)
    async with running(make_desk(store)) as desk:
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await desk.accept(order(1), timeout=0.5)
        assert trio.current_time() - began == pytest.approx(0.5)
        assert desk.statistics().breaker.failures == 0


async def test_store_that_hangs_counts_against_it(autojump_clock: MockClock) -> None:
    """A statement beyond its time is the store's failure."""
    store = ScriptedOrderStore()
    async with running(make_desk(store, query_timeout=1.0)) as desk:
        await trio.sleep(1)
        store.seconds = 100.0
        with pytest.raises(DeadlineExceeded):
            await desk.accept(order(1))
        assert desk.statistics().breaker.failures == 1


@pytest.mark.parametrize("commits", [False, True])
async def test_accept_cancelled_anywhere_loses_nothing(
    autojump_clock: MockClock, commits: bool
) -> None:
    """Cancelled at any checkpoint, the order is nowhere, or it is completed once."""

    async def scenario(point: CancellationPoint) -> None:
        store = ScriptedOrderStore(seconds=0.1)
        store.commits_when_cancelled = commits
        async with running(make_desk(store)) as desk:
            await trio.sleep(1)
            with point:
                await desk.accept(order(1))
            await settle(store)
            assert store.ledger == list(store.records)
            if not (await desk.accept(order(1))).is_new:
                assert store.ledger == ["order-1"]
            await settle(store)
            assert store.ledger == ["order-1"]
            await trio.sleep(1)
            assert_at_rest(desk)
            assert desk.statistics().waiting == 0

    assert await sweep_cancellations(scenario) >= 2


async def test_desk_cancelled_anywhere_leaves_every_order_to_the_next(
    autojump_clock: MockClock,
) -> None:
    """Stopped at any checkpoint, the desk leaves orders that the next one completes, once each."""

    async def scenario(point: CancellationPoint) -> None:
        store = ScriptedOrderStore(seconds=0.1)
        with point:
            async with running(make_desk(store, workers=2, queue=3)) as desk:
                for number in range(4):
                    await desk.accept(order(number, priority=number % 3))
                await settle(store)
        kept = list(store.records)
        async with running(make_desk(store)):
            await settle(store)
        assert sorted(store.ledger) == sorted(kept)

    assert await sweep_cancellations(scenario) >= 4


@settings(deadline=None, max_examples=40)
@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 12), st.integers(0, 2)),
            st.tuples(st.just("away"), st.booleans(), st.just(0)),
            st.tuples(st.just("wait"), st.integers(1, 40), st.just(0)),
            st.tuples(st.just("restart"), st.just(0), st.just(0)),
        ),
        max_size=30,
    )
)
def test_desk_under_any_schedule_completes_what_it_accepted_once(
    script: list[tuple[str, int, int]],
) -> None:
    """Sends, outages and restarts in any order: accepted and in the ledger are the same set."""
    accepted: set[str] = set()
    store = ScriptedOrderStore(seconds=0.3)

    async def send(desk: object, number: int, priority: int) -> None:
        try:
            await desk.accept(order(number, priority=priority))  # type: ignore[attr-defined]
        except (BulkheadFull, CircuitOpen, DatabaseUnavailable, DeadlineExceeded):
            return
        accepted.add(f"order-{number}")

    async def until_restart(steps: list[tuple[str, int, int]]) -> None:
        async with running(make_desk(store, workers=2, queue=3)) as desk:
            async with trio.open_nursery() as senders:
                while steps:
                    what, value, priority = steps.pop(0)
                    match what:
                        case "send":
                            senders.start_soon(send, desk, value, priority)
                        case "away":
                            store.is_away = bool(value)
                        case "wait":
                            await trio.sleep(value / 10)
                        case "restart":
                            senders.cancel_scope.cancel()
                            return

    async def main() -> None:
        steps = list(script)
        while steps:
            await until_restart(steps)
        store.is_away = False
        async with running(make_desk(store)) as desk:
            await settle(store)
            await trio.sleep(1)
            assert_at_rest(desk)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert accepted <= set(store.ledger)
    assert sorted(store.ledger) == sorted(store.records)
