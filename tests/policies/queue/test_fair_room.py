"""A full fair queue that makes room: for whom, at whose cost, and when no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from trio.testing import MockClock

from bulkhead_trio.errors import BulkheadFull, Rejected, Shed
from bulkhead_trio.policies.compartment import Compartment, Slot
from bulkhead_trio.policies.queue import FairQueue
from bulkhead_trio.policies.queue.line import Ticket

WEIGHTS: dict[Hashable, float] = {"a": 1.0, "b": 1.0, "c": 2.0, None: 3.5}


def weight(key: Hashable) -> float:
    return WEIGHTS.get(key, 1.0)


def full_of(key: Hashable, places: int = 10) -> tuple[FairQueue[str], list[str]]:
    """A queue that one key has filled, and who was sent away from it."""
    queue = FairQueue[str](places, weight=weight, reserved_share=0.0, makes_room=True)
    gone: list[str] = []
    for number in range(places):
        add(queue, f"{key}{number}", key, gone)
    return queue, gone


def add(queue: FairQueue[str], item: str, key: Hashable, gone: list[str]) -> None:
    def dropped(reason: Rejected) -> None:
        assert isinstance(reason, Shed)
        gone.append(item)

    queue.put_nowait(item, key=key, on_dropped=dropped)


async def test_fair_queue_makes_room_until_all_are_level() -> None:
    """One key may have it all; others get their share of it, from its newest on, and no more."""
    queue, gone = full_of("a")
    for number in range(5):
        assert queue.has_room(key="b")
        add(queue, f"b{number}", "b", gone)
    assert gone == ["a9", "a8", "a7", "a6", "a5"]
    for key in ("a", "b"):
        assert not queue.has_room(key=key)
        with pytest.raises(BulkheadFull, match="every"):
            queue.put_nowait("x", key=key)
    assert (queue.waiting("a"), queue.waiting("b"), len(queue)) == (5, 5, 10)
    statistics = queue.statistics()
    assert (statistics.waiting, statistics.shed, statistics.refused) == (10, 5, 2)


async def test_fair_queue_makes_room_by_weight() -> None:
    """Whose weight is twice another's ends up with twice as many places."""
    queue, gone = full_of("a", 12)
    while queue.has_room(key="c"):
        add(queue, "c", "c", gone)
    assert (queue.waiting("a"), queue.waiting("c")) == (4, 8)
    assert not queue.has_room(key="a")


async def test_fair_queue_sends_nobody_away_for_the_greedy() -> None:
    """A key that has as much as any other is refused, as in a line that makes no room."""
    queue, gone = full_of("a")
    with pytest.raises(BulkheadFull):
        queue.put_nowait("x", key="a")
    add(queue, "n", None, gone)
    assert gone == ["a9"]
    assert queue.waiting(None) == 1, "nobody's is a key too"


async def test_fair_queue_makes_no_room_unless_asked_to() -> None:
    """By default a full line refuses everybody."""
    queue = FairQueue[str](4, reserved_share=0.0)
    for _ in range(4):
        queue.put_nowait("a", key="a")
    assert not queue.has_room(key="b")
    with pytest.raises(BulkheadFull, match="every"):
        queue.put_nowait("b", key="b")


async def test_fair_queue_that_makes_room_still_keeps_to_the_share_of_a_key() -> None:
    """What no single key can have, it cannot have at others' cost either."""
    queue = FairQueue[str](10, reserved_share=0.7, makes_room=True)
    for key in ("a", "a", "a", "b", "b", "b", "d", "d", "d", "e"):
        queue.put_nowait(key, key=key)
    assert queue.has_room(key="e")
    queue.put_nowait("e", key="e")
    assert not queue.has_room(key="e"), "with one more it would have more than who yields"
    assert not queue.has_room(key="d")


async def test_fair_queue_refuses_a_nonsense_weight_before_anybody_goes() -> None:
    """A newcomer without a weight costs nobody a place."""
    queue = FairQueue[str](
        3, weight=lambda key: 0.0 if key == "bad" else 1.0, reserved_share=0.0, makes_room=True
    )
    for _ in range(3):
        queue.put_nowait("a", key="a")
    with pytest.raises(ValueError, match="weight"):
        queue.put_nowait("x", key="bad")
    assert (len(queue), queue.waiting("a"), queue.statistics().shed) == (3, 3, 0)


async def test_fair_queue_tells_the_displaced_how_long_the_line_is() -> None:
    """Who yields is told the wait behind all who wait, in proportion to the newcomer's."""
    queue = FairQueue[str](4, reserved_share=0.0, makes_room=True)
    heard: list[Rejected] = []
    for _ in range(4):
        queue.put_nowait("a", key="a", on_dropped=heard.append)
    assert queue.ahead(key="b") == 1
    queue.put_nowait("b", key="b", retry_after=2.0)
    [reason] = heard
    assert "less waiting" in reason.message
    # The newcomer's key waits for one turn of the other and its own; who yields would be the fifth.
    assert reason.retry_after == pytest.approx(2.0 * 5 / 2)


async def test_compartment_line_that_makes_room_sheds_the_flood(autojump_clock: MockClock) -> None:
    """A tenant's flood fills the line while it is alone; the next tenant's request is served."""
    queue = FairQueue[Slot](8, reserved_share=0.0, makes_room=True)
    compartment = Compartment("tier", workers=1, queue=queue)
    ends: Counter[str] = Counter()

    async def ask(key: str) -> None:
        try:
            with await compartment.acquire(key=key):
                await trio.sleep(1)
        except Shed:
            ends[f"{key} shed"] += 1
        except BulkheadFull:
            ends[f"{key} refused"] += 1
        else:
            ends[f"{key} served"] += 1

    async with trio.open_nursery() as nursery:
        await nursery.start(compartment.run)
        async with trio.open_nursery() as callers:
            for _ in range(20):
                callers.start_soon(ask, "greedy")
            await trio.sleep(0.5)
            assert compartment.statistics().queued == 8
            for _ in range(2):
                callers.start_soon(ask, "modest")
        nursery.cancel_scope.cancel()
    assert ends == {
        "greedy served": 7, "greedy shed": 2, "greedy refused": 11, "modest served": 2,
    }  # fmt: skip


class RoomMachine(RuleBasedStateMachine):
    """Comes, is taken and leaves at random; the model is a list of all who wait, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[int, Hashable, Ticket[int]]] = []
        self.dropped: list[int] = []
        self.numbers = 0

    @initialize(places=st.integers(1, 12), reserved=st.sampled_from([0.0, 0.4]))
    def begin(self, places: int, reserved: float) -> None:
        self.queue = FairQueue[int](places, weight=weight, reserved_share=reserved, makes_room=True)

    def lengths(self) -> dict[Hashable, float]:
        """For each key that waits, how many for its weight."""
        counts = Counter(key for _, key, _ in self.waiting)
        return {key: count / weight(key) for key, count in counts.items()}

    @rule(key=st.sampled_from(list(WEIGHTS)))
    def put(self, key: Hashable) -> None:
        self.numbers += 1
        number = self.numbers
        own = sum(each == key for _, each, _ in self.waiting)
        lengths = self.lengths()
        is_full = len(self.waiting) == self.queue.places
        most = max(lengths.values(), default=0.0)
        longest = [each for each, length in lengths.items() if length == most]
        # Of several longest lines any may be the one; who weighs more has more left.
        left = {each: most - 1 / weight(each) for each in longest}
        due = (own + 1) / weight(key)
        may = own < self.queue.places_a_key
        is_sure = not is_full or all(each >= due - 1e-9 for each in left.values())
        is_out = is_full and all(each < due - 1e-9 for each in left.values())

        def dropped(reason: Rejected) -> None:
            self.dropped.append(number)

        try:
            ticket = self.queue.put_nowait(number, key=key, on_dropped=dropped)
        except BulkheadFull:
            assert not (may and is_sure)
            assert not self.dropped
            return
        assert may
        assert not is_out
        if is_full:
            [loser] = self.dropped
            [its] = [each for each in self.waiting if each[0] == loser]
            assert its[1] in longest
            assert its[1] != key
            assert loser == max(n for n, each, _ in self.waiting if each == its[1])
            assert not its[2].is_waiting
            self.waiting.remove(its)
            assert self.lengths()[its[1]] >= due - 1e-9, "it has at least as much left"
            self.dropped.clear()
        assert not self.dropped
        self.waiting.append((number, key, ticket))

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        number = self.queue.take_nowait()
        [its] = [each for each in self.waiting if each[0] == number]
        assert number == min(n for n, key, _ in self.waiting if key == its[1])
        self.waiting.remove(its)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        its = data.draw(st.sampled_from(self.waiting))
        assert self.queue.withdraw(its[2])
        self.waiting.remove(its)

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert len(self.queue) == len(self.waiting) <= self.queue.places
        for key in WEIGHTS:
            assert self.queue.waiting(key) == sum(each == key for _, each, _ in self.waiting)


# Tickets that come to an empty line read Trio's clock.
class _InTrio(RoomMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True)

    def runTest(self) -> None:
        async def run() -> None:
            super(_InTrio, self).runTest()

        trio.run(run)


TestRoomMachine = _InTrio
