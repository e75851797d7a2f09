"""The thread bulkhead: a permit is a thread's, from its start to its real end."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import BulkheadFull, QueueTimeout
from bulkhead_trio.policies.bulkhead.bulkhead import (
    BulkheadEntered,
    BulkheadEvent,
    BulkheadLeft,
    BulkheadRefused,
)
from bulkhead_trio.policies.bulkhead.threads import (
    ThreadAbandoned,
    ThreadBulkhead,
    ThreadBulkheadEvent,
)
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

LONG_SECONDS = 10.0
"""Longer than any thread here takes; a test that comes to it has failed."""


class Gate:
    """A call that runs in its thread until it is opened."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._opened = threading.Event()
        self.entered = trio.Event()

    def wait(self) -> str:
        self._token.run_sync_soon(self.entered.set)
        assert self._opened.wait(LONG_SECONDS)
        return "through"

    def open(self) -> None:
        self._opened.set()


class Record:
    """A listener that can be waited for."""

    def __init__(self) -> None:
        self.events: list[ThreadBulkheadEvent] = []
        self._news = trio.lowlevel.ParkingLot()

    def __call__(self, event: ThreadBulkheadEvent) -> None:
        self.events.append(event)
        self._news.unpark_all()

    def left(self) -> int:
        return sum(isinstance(event, BulkheadLeft) for event in self.events)

    async def wait_left(self, count: int) -> None:
        with trio.fail_after(LONG_SECONDS):
            while self.left() < count:
                await self._news.park()


@asynccontextmanager
async def occupied(bulkhead: ThreadBulkhead, count: int) -> AsyncIterator[list[Gate]]:
    """So many threads of the bulkhead are taken; they are let go at the end of the block."""
    gates = [Gate() for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for gate in gates:
            nursery.start_soon(bulkhead.call, gate.wait)
            await gate.entered.wait()
        try:
            yield gates
        finally:
            for gate in gates:
                gate.open()


# --- calls ---------------------------------------------------------------------------------------


async def test_thread_call_returns_what_the_function_returns() -> None:
    """The function runs in another thread than Trio's, with its arguments."""
    bulkhead = ThreadBulkhead("files", 1)
    assert await bulkhead.call(pow, 2, 5) == 32
    assert await bulkhead.call(threading.get_ident) != threading.get_ident()


async def test_thread_call_raises_what_the_function_raises() -> None:
    """Its error is its caller's, and the permit is back; the listener hears of the error."""
    record = Record()
    bulkhead = ThreadBulkhead("files", 1, listeners=[record])
    with pytest.raises(ZeroDivisionError) as caught:
        await bulkhead.call(divmod, 1, 0)
    assert bulkhead.statistics().active == 0
    entered, left = record.events
    assert isinstance(entered, BulkheadEntered)
    assert isinstance(left, BulkheadLeft)
    assert left.error is caught.value


async def test_thread_decorator_makes_a_plain_function_async() -> None:
    """Keyword arguments pass, and the function's name stays."""
    bulkhead = ThreadBulkhead("files", 1)

    @bulkhead
    def power(base: int, *, exponent: int = 2) -> int:
        return int(base**exponent)

    assert await power(3) == 9
    assert await power(3, exponent=3) == 27
    assert power.__name__ == "power"
    assert bulkhead.statistics().completed == 2


async def test_thread_call_of_an_async_function_is_refused() -> None:
    """A coroutine that nobody would run is an error, not a result."""
    bulkhead = ThreadBulkhead("files", 1)
    with pytest.raises(TypeError, match="asynchronous"):
        assert await bulkhead.call(trio.sleep, 0) is None
    assert bulkhead.statistics().active == 0


async def test_thread_bulkhead_keeps_to_its_limit() -> None:
    """The next one is refused when all threads are taken, and its function is not called."""
    bulkhead = ThreadBulkhead("files", 2)
    called: list[int] = []
    async with occupied(bulkhead, 2):
        with pytest.raises(BulkheadFull) as caught:
            await bulkhead.call(called.append, 1)
        assert caught.value.reason == "bulkhead_full"
        assert bulkhead.statistics().active == 2
    assert called == []
    assert bulkhead.statistics().active == 0
    assert bulkhead.statistics().completed == 2
    assert bulkhead.statistics().refused == 1


async def test_thread_bulkhead_is_not_held_up_by_trios_own_limiter() -> None:
    """Its threads are its own: Trio's default limit neither bounds nor is used up by them."""
    limiter = trio.to_thread.current_default_thread_limiter()
    bulkhead = ThreadBulkhead("files", 3)
    async with occupied(bulkhead, 3):
        assert limiter.borrowed_tokens == 0


async def test_thread_call_waits_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    """With ``max_wait`` it waits so long and no longer, if there is a place to wait."""
    bulkhead = ThreadBulkhead("files", 1, max_wait=2.0, max_queued=1)
    autojump_clock.autojump_threshold = float("inf")
    async with occupied(bulkhead, 1), trio.open_nursery() as nursery:
        waited = Outcome()
        nursery.start_soon(waited.of, bulkhead)
        await trio.testing.wait_all_tasks_blocked()
        assert bulkhead.statistics().queued == 1
        with pytest.raises(BulkheadFull):
            await bulkhead.call(int)
        autojump_clock.jump(2.0)
        with trio.fail_after(LONG_SECONDS):
            await waited.done.wait()
        assert isinstance(waited.error, QueueTimeout)


class Outcome:
    """What a call in a task of its own has come to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.done = trio.Event()

    async def of(self, bulkhead: ThreadBulkhead) -> None:
        try:
            await bulkhead.call(int)
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.error = error
        self.done.set()


async def test_thread_bulkhead_resized_lets_waiters_in() -> None:
    """More threads take effect at once."""
    bulkhead = ThreadBulkhead("files", 1, max_wait=LONG_SECONDS)
    async with occupied(bulkhead, 1), trio.open_nursery() as nursery:
        second = Gate()
        nursery.start_soon(bulkhead.call, second.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not second.entered.is_set()
        bulkhead.resize(2)
        await second.entered.wait()
        assert bulkhead.statistics().active == bulkhead.statistics().max_concurrent == 2
        second.open()


def test_thread_bulkhead_says_what_it_is() -> None:
    """What whoever composes policies looks at."""
    bulkhead = ThreadBulkhead("files", 1, max_wait=3.0, abandon_on_cancel=False)
    assert (bulkhead.name, bulkhead.kind, bulkhead.max_wait) == ("files", Kind.BULKHEAD, 3.0)
    assert not bulkhead.obeys_cancellation
    assert ThreadBulkhead("files", 1).obeys_cancellation


@pytest.mark.parametrize(
    ("parameter", "make"),
    [
        ("max_concurrent", partial(ThreadBulkhead, "files", 0)),
        ("max_wait", partial(ThreadBulkhead, "files", 1, max_wait=-1.0)),
        ("max_queued", partial(ThreadBulkhead, "files", 1, max_queued=-1)),
    ],
)
def test_thread_bulkhead_of_nonsense_is_refused(
    parameter: str, make: partial[ThreadBulkhead]
) -> None:
    """The parameter is named."""
    with pytest.raises(ValueError, match=parameter):
        make()


# --- cancellation --------------------------------------------------------------------------------


async def test_thread_abandoned_keeps_its_permit_until_it_ends() -> None:
    """Its caller leaves at once; nobody else gets in before the thread has really ended."""
    record = Record()
    bulkhead = ThreadBulkhead("files", 1, listeners=[record])
    gate = Gate()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, gate.wait)
            await gate.entered.wait()
            scope.cancel()
    assert scope.cancelled_caught
    held = bulkhead.statistics()
    assert (held.active, held.abandoned, held.abandoned_ever) == (1, 1, 1)
    assert isinstance(record.events[-1], ThreadAbandoned)
    with pytest.raises(BulkheadFull):
        await bulkhead.call(int)
    gate.open()
    await record.wait_left(1)
    back = bulkhead.statistics()
    assert (back.active, back.abandoned, back.abandoned_ever) == (0, 0, 1)
    assert await bulkhead.call(int) == 0


async def test_thread_abandoned_that_fails_is_heard_of() -> None:
    """Nobody waits for its error any more, but listeners are told of it."""
    record = Record()
    bulkhead = ThreadBulkhead("files", 1, listeners=[record])
    gate = Gate()

    def fail() -> None:
        gate.wait()
        raise LookupError("too late")

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, fail)
            await gate.entered.wait()
            scope.cancel()
    gate.open()
    await record.wait_left(1)
    left = record.events[-1]
    assert isinstance(left, BulkheadLeft)
    assert isinstance(left.error, LookupError)


async def test_thread_that_may_not_be_abandoned_is_waited_for() -> None:
    """Its caller stays with it, gets its result, and is cancelled at its next checkpoint."""
    bulkhead = ThreadBulkhead("files", 1, abandon_on_cancel=False)
    gate = Gate()
    results: list[str] = []

    async def caller() -> None:
        results.append(await bulkhead.call(gate.wait))
        await trio.lowlevel.checkpoint()
        raise AssertionError("was not cancelled")

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await gate.entered.wait()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            assert bulkhead.statistics().active == 1
            assert bulkhead.statistics().abandoned == 0
            gate.open()
    assert results == ["through"]
    assert bulkhead.statistics().active == 0
    assert bulkhead.statistics().abandoned_ever == 0


async def test_thread_waiter_that_is_cancelled_leaves_nothing() -> None:
    """It had no thread, so it abandons none."""
    bulkhead = ThreadBulkhead("files", 1, max_wait=LONG_SECONDS)
    async with occupied(bulkhead, 1):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bulkhead.call, Gate().wait)
                await trio.testing.wait_all_tasks_blocked()
                assert bulkhead.statistics().queued == 1
                scope.cancel()
        held = bulkhead.statistics()
        assert (held.active, held.queued, held.abandoned_ever) == (1, 0, 0)


async def test_thread_call_cancelled_anywhere_is_at_rest_in_the_end() -> None:
    """Whatever the checkpoint, every permit that was taken comes back once."""

    async def scenario(point: CancellationPoint) -> None:
        record = Record()
        bulkhead = ThreadBulkhead("files", 1, listeners=[record])
        with point:
            await bulkhead.call(int)
        await record.wait_left(sum(isinstance(each, BulkheadEntered) for each in record.events))
        held = bulkhead.statistics()
        assert (held.active, held.queued, held.abandoned) == (0, 0, 0)

    assert await sweep_cancellations(scenario) >= 2


# --- random schedules ----------------------------------------------------------------------------


@attrs.define(eq=False)
class Caller:
    """One caller of the model: it waits, runs in a thread, and may have left that."""

    gate: Gate
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    has_gone: bool = False


class Model:
    """The reference: who runs and who waits, in plain lists; and the bulkhead beside it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.record = Record()
        self.bulkhead = ThreadBulkhead(
            "files", 2, max_wait=float("inf"), max_queued=2, listeners=[self.record]
        )
        self.limit = 2
        self.running: list[Caller] = []
        self.waiting: list[Caller] = []
        self.ended = self.refused = self.abandoned_ever = 0
        self._nursery = nursery

    async def step(self, action: str, number: int) -> None:
        everybody = self.running + self.waiting
        if action == "call":
            await self._call()
        elif action == "resize":
            self.limit = 1 + number % 3
            self.bulkhead.resize(self.limit)
        elif action == "cancel" and everybody:
            self._cancel(everybody[number % len(everybody)])
        elif action == "end" and self.running:
            await self._end(self.running[number % len(self.running)])
        await self._settle()

    async def _call(self) -> None:
        caller = Caller(Gate())
        if len(self.running) < self.limit:
            self.running.append(caller)
        elif len(self.waiting) < 2:
            self.waiting.append(caller)
        else:
            self.refused += 1
        self._nursery.start_soon(self._as_task, caller)

    async def _as_task(self, caller: Caller) -> None:
        with caller.scope:
            try:
                await self.bulkhead.call(caller.gate.wait)
            except BulkheadFull:
                pass

    def _cancel(self, caller: Caller) -> None:
        caller.scope.cancel()
        if caller in self.waiting:
            self.waiting.remove(caller)
        elif not caller.has_gone:
            caller.has_gone = True
            self.abandoned_ever += 1

    async def _end(self, caller: Caller) -> None:
        self.running.remove(caller)
        self.ended += 1
        caller.gate.open()
        await self.record.wait_left(self.ended)

    async def _settle(self) -> None:
        while self.waiting and len(self.running) < self.limit:
            self.running.append(self.waiting.pop(0))
        for caller in self.running:
            await caller.gate.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        for caller in self.waiting:
            assert not caller.gate.entered.is_set()
        held = self.bulkhead.statistics()
        assert held.active == len(self.running)
        assert held.queued == len(self.waiting)
        assert held.abandoned == sum(caller.has_gone for caller in self.running)
        assert held.abandoned_ever == self.abandoned_ever
        assert (held.completed, held.refused) == (self.ended, self.refused)

    def open_all(self) -> None:
        for caller in self.running + self.waiting:
            caller.gate.open()


ACTIONS = st.sampled_from(["call", "call", "call", "cancel", "end", "resize"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.integers(0, 11)), max_size=25))
def test_thread_bulkhead_does_what_its_model_does(schedule: list[tuple[str, int]]) -> None:
    """Any order of calls, cancellations, ends and resizes: its counts are the model's."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            model = Model(nursery)
            try:
                for action, number in schedule:
                    await model.step(action, number)
            finally:
                model.open_all()
        await model.record.wait_left(model.ended + len(model.running + model.waiting))
        assert model.bulkhead.statistics().active == 0

    trio.run(main)


def test_thread_events_are_those_of_a_bulkhead_and_one_more() -> None:
    """A listener for any bulkhead can be given to this one."""
    heard: list[BulkheadEvent] = []

    def listen(event: ThreadBulkheadEvent) -> None:
        if not isinstance(event, ThreadAbandoned):
            heard.append(event)

    async def main() -> None:
        bulkhead = ThreadBulkhead("files", 1, listeners=[listen])
        async with occupied(bulkhead, 1):
            with pytest.raises(BulkheadFull):
                await bulkhead.call(int)

    trio.run(main)
    assert [type(event) for event in heard] == [BulkheadEntered, BulkheadRefused, BulkheadLeft]
