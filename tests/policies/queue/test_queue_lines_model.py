"""Every waiting line as a whole, with tasks that stand in it, against plain lists.

A schedule of newcomers, cancellations, takes, break-offs and time is drawn step by step and played
on a real line on the mock clock; steps may follow each other before any task has run.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies.queue import (
    BoundedQueue,
    FairQueue,
    PriorityQueue,
    QueueStatistics,
    WaitingLine,
)

KEYS = "abc"
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 1.5}


@attrs.frozen
class Waiter:
    """Who waits, by number."""

    number: int
    priority: int
    key: str


@attrs.define
class Model:
    """First come, first served. Others say who goes in, who goes for it, and who is next."""

    places: int
    waiting: list[Waiter] = attrs.Factory(list)
    since: float = 0.0
    taken: int = 0
    refused: int = 0
    shed: int = 0

    def put(self, waiter: Waiter, now: float) -> tuple[bool, Waiter | None]:
        """Whether it gets a place, and who loses one for it."""
        loser = None
        if not self.has_room(waiter):
            self.refused += 1
            return False, None
        if len(self.waiting) >= self.places:
            loser = self.loser()
            self.leave(loser)
            self.shed += 1
        elif not self.waiting:
            self.since = now
        self.waiting.append(waiter)
        self.came(waiter)
        return True, loser

    def take(self) -> Waiter:
        first = self.next()
        self.taken += 1
        self.leave(first)
        return first

    def break_off(self) -> list[Waiter]:
        gone = list(self.waiting)
        for waiter in gone:
            self.leave(waiter)
        self.shed += len(gone)
        return gone

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(
            waiting=len(self.waiting),
            places=self.places,
            taken=self.taken,
            refused=self.refused,
            shed=self.shed,
        )

    def has_room(self, waiter: Waiter) -> bool:  # noqa: ARG002  to some it matters who comes
        return len(self.waiting) < self.places

    def loser(self) -> Waiter:
        raise AssertionError("nobody has to go")

    def next(self) -> Waiter:
        return self.waiting[0]

    def came(self, waiter: Waiter) -> None:
        """For those that keep more than a list."""

    def leave(self, waiter: Waiter) -> None:
        self.waiting.remove(waiter)


class PriorityModel(Model):
    """Sorts anew each time."""

    def has_room(self, waiter: Waiter) -> bool:
        return super().has_room(waiter) or any(
            waiter.priority < each.priority for each in self.waiting
        )

    def loser(self) -> Waiter:
        return max(self.waiting, key=lambda each: (each.priority, each.number))

    def next(self) -> Waiter:
        return min(self.waiting, key=lambda each: (each.priority, each.number))


@attrs.define
class FairModel(Model):
    """A ring of keys, and what each may still take."""

    ring: list[str] = attrs.Factory(list)
    credit: dict[str, float] = attrs.Factory(dict)

    def has_room(self, waiter: Waiter) -> bool:
        own = sum(each.key == waiter.key for each in self.waiting)
        return super().has_room(waiter) and own < max(1, self.places // 2)

    def came(self, waiter: Waiter) -> None:
        if waiter.key not in self.ring:
            self.ring.append(waiter.key)
            self.credit[waiter.key] = 0.0

    def next(self) -> Waiter:
        key = self.ring[0]
        if self.credit[key] < 1:
            self.credit[key] += WEIGHTS[key]
        self.credit[key] -= 1
        if self.credit[key] < 1:
            self.ring.append(self.ring.pop(0))
        return next(each for each in self.waiting if each.key == key)

    def leave(self, waiter: Waiter) -> None:
        super().leave(waiter)
        if all(each.key != waiter.key for each in self.waiting):
            self.ring.remove(waiter.key)


def fair(places: int) -> FairQueue[Waiter]:
    return FairQueue(places, weight=lambda key: WEIGHTS[str(key)])


class Player:
    """Does each step to the line and to the model, and compares."""

    def __init__(self, line: WaitingLine[Waiter], model: Model, nursery: trio.Nursery) -> None:
        self.line = line
        self.model = model
        self.nursery = nursery
        self.scopes: dict[int, trio.CancelScope] = {}
        self.ends: dict[int, str] = {}
        self.expected: dict[int, str] = {}

    async def put(self, priority: int, key: str) -> None:
        await trio.testing.wait_all_tasks_blocked()
        waiter = Waiter(len(self.scopes), priority, key)
        assert self.line.has_room(priority=priority, key=key) is self.model.has_room(waiter)
        got_in, loser = self.model.put(waiter, trio.current_time())
        if not got_in:
            self.expected[waiter.number] = "bulkhead_full"
        if loser is not None:
            self.expected[loser.number] = "shed"
        self.scopes[waiter.number] = trio.CancelScope()
        self.nursery.start_soon(self._wait, waiter)
        await trio.testing.wait_all_tasks_blocked()

    async def _wait(self, waiter: Waiter) -> None:
        with self.scopes[waiter.number] as scope:
            try:
                await self.line.put(waiter, priority=waiter.priority, key=waiter.key)
                self.ends[waiter.number] = "taken"
            except Rejected as refusal:
                self.ends[waiter.number] = refusal.reason
        if scope.cancelled_caught:
            self.ends[waiter.number] = "cancelled"

    def take(self) -> None:
        if not self.model.waiting:
            with pytest.raises(trio.WouldBlock):
                self.line.take_nowait()
            return
        first = self.model.take()
        assert self.line.take_nowait() == first
        self.expected[first.number] = "taken"

    def cancel(self, which: int) -> None:
        if self.model.waiting:
            waiter = self.model.waiting[which % len(self.model.waiting)]
            self.model.leave(waiter)
            self.scopes[waiter.number].cancel()
            self.expected[waiter.number] = "cancelled"

    def cancel_late(self, which: int) -> None:
        """Who has been taken or sent away is past being cancelled."""
        if self.expected:
            self.scopes[list(self.expected)[which % len(self.expected)]].cancel()

    def break_off(self) -> None:
        for waiter in self.model.break_off():
            self.expected[waiter.number] = "shed"
        self.line.break_off(down_for=1.0)

    def check(self) -> None:
        assert self.line.statistics() == self.model.statistics()
        assert len(self.line) == len(self.model.waiting) <= self.line.places
        if self.model.waiting:
            assert self.line.nonempty_since == self.model.since


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 2), st.sampled_from(KEYS)),
    st.tuples(st.just("put"), st.integers(0, 2), st.sampled_from(KEYS)),
    st.tuples(st.sampled_from(["take", "take", "sleep", "settle", "break_off"])),
    st.tuples(st.sampled_from(["cancel", "cancel_late"]), st.integers(0, 9)),
)


@pytest.mark.parametrize(
    ("make", "make_model"),
    [(BoundedQueue, Model), (PriorityQueue, PriorityModel), (fair, FairModel)],
    ids=["bounded", "priority", "fair"],
)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(places=st.integers(0, 6), steps=st.lists(STEPS, max_size=40))
def test_line_agrees_with_its_model(
    make: Callable[[int], WaitingLine[Waiter]],
    make_model: Callable[[int], Model],
    places: int,
    steps: list[tuple[object, ...]],
) -> None:
    """Whoever comes, leaves, is taken or sent away, and when: each ends once, as the model says."""

    async def play() -> None:
        async with trio.open_nursery() as nursery:
            player = Player(make(places), make_model(places), nursery)
            for name, *arguments in steps:
                if name == "sleep":
                    await trio.sleep(1)
                elif name == "settle":
                    await trio.testing.wait_all_tasks_blocked()
                elif name == "put":
                    await player.put(*arguments)  # type: ignore[arg-type]
                else:
                    getattr(player, str(name))(*arguments)
                player.check()
            await trio.testing.wait_all_tasks_blocked()
            player.check()
            player.break_off()
        assert player.ends == player.expected
        assert len(player.ends) == len(player.scopes)
        assert len(player.line) == 0

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0.0))
