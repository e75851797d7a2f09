"""The registry: one bulkhead a name, never too many, and none taken from those who use it."""

from __future__ import annotations

import gc
import math
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies.bulkhead import (
    AdaptiveBulkhead,
    Bulkhead,
    BulkheadEntered,
    BulkheadEvent,
    BulkheadRefused,
    BulkheadRegistry,
    BulkheadSettings,
    Permit,
    Vegas,
)

Clock = trio.testing.MockClock


def make(**options: Any) -> BulkheadRegistry:
    return BulkheadRegistry(**{"max_concurrent": 2, **options})


# --- by name -------------------------------------------------------------------------------------


def test_registry_makes_one_bulkhead_a_name() -> None:
    """The first to ask makes it, with the defaults; the next get the same. No Trio is needed."""
    registry = make(max_concurrent=3, max_wait=1.5, max_queued=7)
    assert registry.get("db") is None
    assert "db" not in registry
    bulkhead = registry.get_or_create("db")
    assert registry.get_or_create("db") is bulkhead
    assert registry.get("db") is bulkhead
    statistics = bulkhead.statistics()
    assert (statistics.name, statistics.max_concurrent, statistics.max_queued) == ("db", 3, 7)
    assert bulkhead.max_wait == 1.5
    assert registry.get_or_create("mail") is not bulkhead


def test_registry_overrides_are_for_one_name() -> None:
    """What is said at the making holds for that bulkhead, the rest are defaults."""
    registry = make(max_wait=1.0)
    big = registry.get_or_create("big", max_concurrent=50)
    patient = registry.get_or_create("patient", max_wait=0.0, max_queued=0)
    assert (big.max_concurrent, big.max_wait) == (50, 1.0)
    assert (patient.max_concurrent, patient.max_wait) == (2, 0.0)
    assert patient.statistics().max_queued == 0
    assert registry.get_or_create("other").max_concurrent == 2


@pytest.mark.parametrize(
    ("option", "made_with", "other"),
    [("max_concurrent", 5, 6), ("max_wait", 0.0, 1.0), ("max_queued", 0, 3)],
)
def test_registry_overrides_that_disagree_are_an_error(
    option: str, made_with: float, other: float
) -> None:
    """Two callers who want different things of one name are told so; the same again is fine."""
    registry = make()
    overrides: dict[str, Any] = {option: made_with}
    bulkhead = registry.get_or_create("db", **overrides)
    assert registry.get_or_create("db", **overrides) is bulkhead
    assert registry.get_or_create("db") is bulkhead
    contrary: dict[str, Any] = {option: other}
    with pytest.raises(ValueError, match=rf"'db'.*{option}={made_with!r}, not {other!r}"):
        registry.get_or_create("db", **contrary)


async def test_registry_compares_with_what_a_bulkhead_was_made_with() -> None:
    """A live resize makes nobody's configuration wrong."""
    registry = make()
    bulkhead = registry.get_or_create("db", max_concurrent=5)
    bulkhead.resize(9)
    assert registry.get_or_create("db", max_concurrent=5) is bulkhead


def test_registry_counts_lists_and_tells_of_all() -> None:
    """Length, names in the order of making, and the statistics of each by name."""
    registry = make()
    for name in ("c", "a", "b"):
        registry.get_or_create(name)
    registry.get_or_create("c")
    assert len(registry) == 3
    assert list(registry) == ["c", "a", "b"]
    assert "a" in registry
    everything = registry.statistics()
    assert list(everything) == ["c", "a", "b"]
    assert all(statistics.name == name for name, statistics in everything.items())
    for name in registry:
        registry.discard(name)  # iterating goes over the names as they were
    assert len(registry) == 0


async def test_registry_discard_forgets_but_stops_nobody() -> None:
    """Calls go on under the old limit; whoever asks next gets a new bulkhead."""
    registry = make(max_bulkheads=1)
    registry.discard("never made")
    old = registry.get_or_create("db", max_concurrent=1)
    permit = old.acquire_nowait()
    registry.discard("db")
    assert "db" not in registry
    new = registry.get_or_create("db", max_concurrent=4)
    assert new is not old
    permit.release()
    assert registry.get("db") is new
    assert old.is_at_rest


# --- never too many ------------------------------------------------------------------------------


def test_registry_full_makes_room_by_the_longest_idle() -> None:
    """Whose name nobody has asked for the longest goes first."""
    registry = make(max_bulkheads=3)
    for name in ("a", "b", "c"):
        registry.get_or_create(name)
    registry.get_or_create("a")
    registry.get("b")
    registry.get_or_create("d")
    assert sorted(registry) == ["a", "b", "d"]
    registry.get_or_create("e")
    assert sorted(registry) == ["b", "d", "e"]


async def test_registry_bulkhead_in_use_is_never_evicted(autojump_clock: Clock) -> None:
    """Whoever runs keeps its bulkhead, however long ago it was asked for; idle time counts from
    when the last one left."""
    registry = make(max_bulkheads=3)
    permit = registry.get_or_create("busy").acquire_nowait()
    registry.get_or_create("a")
    registry.get_or_create("b")
    registry.get_or_create("c")
    assert sorted(registry) == ["b", "busy", "c"]
    permit.release()
    registry.get_or_create("d")
    assert sorted(registry) == ["busy", "c", "d"]
    registry.get_or_create("e")
    assert sorted(registry) == ["busy", "d", "e"]
    registry.get_or_create("f")
    assert sorted(registry) == ["d", "e", "f"]


async def test_registry_all_in_use_refuses(autojump_clock: Clock) -> None:
    """With no room and none idle, one more is refused, and there are no more than before."""
    events: list[BulkheadEvent] = []
    registry = make(max_bulkheads=2, listeners=[events.append])
    permits = [registry.get_or_create(name).acquire_nowait() for name in ("a", "b")]
    with pytest.raises(BulkheadFull, match="'c'") as caught:
        registry.get_or_create("c")
    assert (caught.value.reason, caught.value.retry_after) == ("bulkhead_full", 1.0)
    assert events[-1] == BulkheadRefused("c", "bulkhead_full", 1.0, 0.0)
    assert sorted(registry) == ["a", "b"]
    assert registry.get_or_create("a") is registry.get("a")
    permits.pop().release()
    registry.get_or_create("c")
    assert sorted(registry) == ["a", "c"]
    permits.pop().release()


async def test_registry_refusal_says_how_often_room_comes(autojump_clock: Clock) -> None:
    """``retry_after`` is the mean gap between bulkheads that come to rest, or the stall if that is
    longer."""
    registry = make(max_bulkheads=1)
    bulkhead = registry.get_or_create("a")
    await bulkhead.call(trio.sleep, 100)
    with bulkhead.acquire_nowait(), pytest.raises(BulkheadFull) as caught:
        registry.get_or_create("b")
    assert caught.value.retry_after == 1.0  # no gap is known yet
    registry = make(max_bulkheads=1)
    bulkhead = registry.get_or_create("a")
    for seconds in (100, 3, 13):
        await bulkhead.call(trio.sleep, seconds)
    with bulkhead.acquire_nowait():
        for stalled, expected in ((0, 5.0), (4, 5.0), (8, 12.0)):  # 3 + 0.2 * (13 - 3)
            await trio.sleep(stalled)
            with pytest.raises(BulkheadFull) as caught:
                registry.get_or_create("b")
            assert caught.value.retry_after == pytest.approx(expected)


async def test_registry_bulkhead_with_waiters_is_in_use(autojump_clock: Clock) -> None:
    """Between one call's end and the next one's start in line, it is not idle for a moment."""
    registry = make(max_concurrent=1, max_wait=math.inf, max_bulkheads=1)
    bulkhead = registry.get_or_create("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        await trio.sleep(1)
        with pytest.raises(BulkheadFull):
            registry.get_or_create("b")
    registry.get_or_create("b")
    assert list(registry) == ["b"]


async def test_registry_evicted_bulkhead_that_is_still_held_keeps_its_name() -> None:
    """Whoever kept a reference and whoever asks by name have one limit between them."""
    registry = make(max_bulkheads=1, max_concurrent=1)
    kept = registry.get_or_create("a")
    registry.get_or_create("b")
    assert list(registry) == ["b"]
    with kept.acquire_nowait():
        again = registry.get_or_create("a")
        assert again is kept
        with pytest.raises(BulkheadFull):
            again.acquire_nowait()
        with pytest.raises(ValueError, match="max_concurrent=1, not 3"):
            registry.get_or_create("a", max_concurrent=3)
        with pytest.raises(BulkheadFull):
            registry.get_or_create("b")
    registry.get_or_create("b")
    with pytest.raises(ValueError, match="max_concurrent=1, not 3"):
        registry.get_or_create("a", max_concurrent=3)


async def test_registry_evicted_bulkhead_in_use_again_stays_out_when_it_rests() -> None:
    """Its coming to rest does not bring it back by itself."""
    registry = make(max_bulkheads=1)
    kept = registry.get_or_create("a")
    registry.get_or_create("b")
    kept.acquire_nowait().release()
    assert list(registry) == ["b"]
    registry.get_or_create("c")
    assert list(registry) == ["c"]


def test_registry_evicted_bulkhead_that_nobody_holds_is_forgotten() -> None:
    """A hundred thousand names leave no more than ``max_bulkheads`` behind."""
    registry = make(max_bulkheads=10)
    for number in range(1000):
        registry.get_or_create(f"tenant-{number}", max_concurrent=5)
    gc.collect()
    assert len(registry) == len(registry._settings) == len(registry._idle) == 10
    assert len(registry._evicted) == 0
    assert registry.get_or_create("tenant-0", max_concurrent=7).max_concurrent == 7


def test_registry_keeps_a_thousand_unless_said() -> None:
    """The default bound."""
    registry = make()
    for number in range(1001):
        registry.get_or_create(str(number))
    assert len(registry) == 1000
    assert BulkheadSettings(3) == BulkheadSettings(3, 0.0, None, ())


async def test_registry_bad_override_evicts_nobody() -> None:
    """Nonsense is refused before room is made for it."""
    registry = make(max_bulkheads=1)
    registry.get_or_create("a")
    with pytest.raises(ValueError, match=r"^max_concurrent "):
        registry.get_or_create("b", max_concurrent=0)
    assert list(registry) == ["a"]


# --- other makes, listeners, nonsense ------------------------------------------------------------


async def test_registry_makes_what_it_is_told_to() -> None:
    """``make`` gets the name and what the bulkhead is to be made with."""
    heard: list[BulkheadSettings] = []

    def adaptive(name: str, settings: BulkheadSettings) -> Bulkhead:
        heard.append(settings)
        return AdaptiveBulkhead(name, Vegas(), initial=settings.max_concurrent)

    registry = make(make=adaptive)
    bulkhead = registry.get_or_create("db", max_concurrent=9)
    assert isinstance(bulkhead, AdaptiveBulkhead)
    assert heard == [BulkheadSettings(9, 0.0, None, ())]
    with bulkhead.acquire_nowait():
        assert registry.statistics()["db"].active == 1


def test_registry_make_that_renames_is_refused() -> None:
    """A bulkhead under another name than its own could not be found again."""
    registry = make(make=lambda name, settings: Bulkhead(f"my-{name}", settings.max_concurrent))
    with pytest.raises(ValueError, match="must name the bulkhead 'db', not 'my-db'"):
        registry.get_or_create("db")
    assert len(registry) == 0


async def test_registry_listeners_hear_of_every_bulkhead() -> None:
    """The registry's listeners are each bulkhead's."""
    events: list[BulkheadEvent] = []
    registry = make(listeners=[events.append])
    registry.get_or_create("a").acquire_nowait()
    registry.get_or_create("b").acquire_nowait()
    assert [e.bulkhead for e in events if isinstance(e, BulkheadEntered)] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_wait": -1.0}, "max_wait"),
        ({"max_wait": math.nan}, "max_wait"),
        ({"max_queued": -1}, "max_queued"),
        ({"max_queued": 1.5}, "max_queued"),
        ({"max_bulkheads": 0}, "max_bulkheads"),
    ],
)
def test_registry_nonsense_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    """Each parameter that makes no sense is named, at construction."""
    with pytest.raises(ValueError, match=rf"^{named} "):
        make(**options)


# --- against a model -----------------------------------------------------------------------------


class RegistryMachine(RuleBasedStateMachine):
    """Random asking, using and leaving against a list of names, the longest idle first.

    Nothing here waits, so that Trio is needed for its clock alone: each step is a run of its own.
    """

    names = st.sampled_from("abcdef")

    @initialize(most=st.integers(1, 4))
    def begin(self, most: int) -> None:
        self.most = most
        self.registry = make(max_bulkheads=most, max_concurrent=3)
        self.order: list[str] = []  # all that are there, whoever was touched last at the end
        self.permits: list[tuple[str, Permit]] = []

    def run(self, step: Any) -> None:
        async def main() -> None:
            step()

        trio.run(main)

    def in_use(self, name: str) -> bool:
        return any(name == held for held, _ in self.permits)

    def touch(self, name: str) -> None:
        if name in self.order:
            self.order.remove(name)
        self.order.append(name)

    @rule(name=names, enters=st.booleans())
    def get_or_create(self, name: str, enters: bool) -> None:
        idle = [each for each in self.order if not self.in_use(each)]
        is_refused = name not in self.order and len(self.order) == self.most and not idle

        def step() -> None:
            try:
                bulkhead = self.registry.get_or_create(name)
            except BulkheadFull:
                assert is_refused
                return
            assert not is_refused
            if name not in self.order and len(self.order) == self.most:
                self.order.remove(idle[0])
            self.touch(name)
            if enters and bulkhead.statistics().active < 3:
                self.permits.append((name, bulkhead.acquire_nowait()))

        self.run(step)

    @rule(name=names)
    def get(self, name: str) -> None:
        found = self.registry.get(name)
        assert (found is not None) == (name in self.order)
        if found is not None:
            self.touch(name)

    @precondition(lambda self: self.permits)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name, permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        self.run(permit.release)
        if not self.in_use(name):
            self.touch(name)

    @rule(name=names)
    def discard(self, name: str) -> None:
        if not self.in_use(name):
            self.registry.discard(name)
            if name in self.order:
                self.order.remove(name)

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "registry"):
            assert sorted(self.registry) == sorted(self.order)
            for name, statistics in self.registry.statistics().items():
                assert statistics.active == [held for held, _ in self.permits].count(name)


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, derandomize=True
)
