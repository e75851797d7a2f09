"""The adaptive bulkhead's shell: what the rule is told, when the limit moves, what comes back."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import (
    BulkheadFull,
    CallerError,
    CircuitOpen,
    DatabaseTooSlow,
    DeadlineExceeded,
    QueueTimeout,
    Unavailable,
)
from bulkhead_trio.policies.bulkhead import (
    AIMD,
    AdaptiveBulkhead,
    BulkheadEvent,
    BulkheadLeft,
    BulkheadResized,
    Gradient2,
    LimitRule,
    LimitSample,
    UtilisationTarget,
    Vegas,
    is_overload,
)
from bulkhead_trio.policies.bulkhead._adaptive_rules import Limit, Usage
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

Clock = trio.testing.MockClock


@attrs.frozen
class Scripted(LimitRule[Limit]):
    """Keeps every sample, and sets the limits of a script, one a sample."""

    samples: list[LimitSample] = attrs.field(factory=list)
    script: list[int] = attrs.field(factory=list)
    minimum: int = 1
    maximum: int = 100

    def initial(self, limit: int, *, chance: float = 0.5) -> Limit:  # noqa: ARG002
        return Limit(limit)

    def sampled(self, state: Limit, sample: LimitSample) -> Limit:
        self.samples.append(sample)
        return Limit(self.script.pop(0)) if self.script else state


def make(rule: LimitRule[Any], **options: Any) -> AdaptiveBulkhead:
    return AdaptiveBulkhead("test", rule, **options)


async def ok() -> str:
    return "ok"


async def fail(error: BaseException) -> None:
    raise error


# --- what is a sample ----------------------------------------------------------------------------


async def test_adaptive_sample_says_how_long_and_how_many(autojump_clock: Clock) -> None:
    """Each call that succeeds is one, with those in flight when it ends, itself among them."""
    rule = Scripted()
    bulkhead = make(rule, initial=5, chance=lambda: 0.25)
    async with trio.open_nursery() as nursery:
        for seconds in (1.0, 2.0, 4.0):
            nursery.start_soon(bulkhead.call, trio.sleep, seconds)
    assert rule.samples == [
        LimitSample(1.0, 1.0, 3, False, 0.25),
        LimitSample(2.0, 2.0, 2, False, 0.25),
        LimitSample(4.0, 4.0, 1, False, 0.25),
    ]
    statistics = bulkhead.statistics()
    assert (statistics.sampled, statistics.dropped, statistics.completed) == (3, 0, 3)
    assert statistics.rule_state == Limit(5)
    assert statistics.max_concurrent == 5
    assert statistics.mean_service == pytest.approx(1.76)


@pytest.mark.parametrize("way", ["call", "block", "permit"])
async def test_adaptive_learns_whichever_way_the_call_came(way: str) -> None:
    """All ways in and out lead past the rule."""
    rule = Scripted()
    bulkhead = make(rule)
    if way == "call":
        await bulkhead.call(ok)
    elif way == "block":
        async with bulkhead:
            pass
    else:
        with bulkhead.acquire_nowait():
            pass
    assert len(rule.samples) == 1


@pytest.mark.parametrize(
    ("error", "dropped"),
    [
        (BulkheadFull("full"), True),
        (CircuitOpen("open"), True),
        (DeadlineExceeded("late"), True),
        (DatabaseTooSlow("late"), True),
        (trio.TooSlowError(), True),
        (TimeoutError(), True),
        (ExceptionGroup("several", [ValueError(), trio.TooSlowError()]), True),
        (ExceptionGroup("nested", [ExceptionGroup("inner", [BulkheadFull("full")])]), True),
        (ExceptionGroup("several", [ValueError(), KeyError()]), False),
        (ValueError(), False),
        (CallerError("theirs"), False),
        (Unavailable("away"), False),
    ],
)
async def test_adaptive_failure_is_a_drop_or_no_sample(error: Exception, dropped: bool) -> None:
    """A call that failed by overload is a drop; one that failed otherwise says nothing."""
    assert is_overload(error) is dropped
    rule = Scripted()
    bulkhead = make(rule)
    with pytest.raises(type(error)):
        await bulkhead.call(fail, error)
    assert [sample.dropped for sample in rule.samples] == [True] * dropped
    statistics = bulkhead.statistics()
    assert (statistics.sampled, statistics.dropped) == (dropped, dropped)
    assert (statistics.completed, statistics.active) == (1, 0)


async def test_adaptive_overload_can_be_told_otherwise() -> None:
    """A predicate of one's own replaces the list."""
    rule = Scripted()
    bulkhead = make(rule, is_overload=lambda error: isinstance(error, KeyError))
    for error in (KeyError(), trio.TooSlowError()):
        with pytest.raises(type(error)):
            await bulkhead.call(fail, error)
    assert len(rule.samples) == 1


async def test_adaptive_cancelled_call_is_no_sample(autojump_clock: Clock) -> None:
    """Whoever was cancelled, alone or with errors beside it, has measured nothing."""
    rule = Scripted()
    bulkhead = make(rule, is_overload=lambda _: True)
    with trio.move_on_after(1):
        await bulkhead.call(trio.sleep, 5)
    group = BaseExceptionGroup("both", [KeyboardInterrupt(), trio.TooSlowError()])
    with pytest.raises(BaseExceptionGroup):
        await bulkhead.call(fail, group)
    assert rule.samples == []
    assert bulkhead.statistics().completed == 2
    assert bulkhead.is_at_rest


async def test_adaptive_refused_caller_is_no_sample(autojump_clock: Clock) -> None:
    """Refusals by the bulkhead itself teach its rule nothing."""
    rule = Scripted()
    bulkhead = make(rule, initial=1, max_wait=1.0)
    with bulkhead.acquire_nowait():
        with pytest.raises(QueueTimeout):
            await bulkhead.call(ok)
        with pytest.raises(BulkheadFull):
            bulkhead.acquire_nowait()
    assert len(rule.samples) == 1
    assert bulkhead.statistics().refused == 2


async def test_adaptive_predicate_that_raises_loses_no_permit() -> None:
    """What somebody's predicate or rule raises is seen, and the permit is back all the same."""

    def broken(_: Exception) -> bool:
        raise LookupError

    bulkhead = make(Scripted(), is_overload=broken)
    with pytest.raises(LookupError):
        await bulkhead.call(fail, ValueError())
    assert bulkhead.is_at_rest
    assert bulkhead.statistics().completed == 1


# --- how the limit moves -------------------------------------------------------------------------


async def test_adaptive_grown_limit_lets_waiters_in_at_once(autojump_clock: Clock) -> None:
    """One call ends and the limit goes from 1 to 3: three who wait run now, in order."""
    rule = Scripted(script=[3])
    bulkhead = make(rule, initial=1, max_wait=math.inf)
    entered: list[tuple[int, float]] = []

    async def caller(number: int) -> None:
        async with bulkhead.acquire():
            entered.append((number, trio.current_time()))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(caller, number)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(entered) == [(0, 0.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]
    assert bulkhead.max_concurrent == 3


async def test_adaptive_shrunk_limit_keeps_the_permit_that_just_came_back(
    autojump_clock: Clock,
) -> None:
    """The limit moves before the permit would change hands: one too many is not handed on."""
    rule = Scripted(script=[1])
    bulkhead = make(rule, initial=2, max_wait=math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        nursery.start_soon(bulkhead.call, trio.sleep, 3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(bulkhead.call, trio.sleep, 1)
        await trio.sleep(2)
        statistics = bulkhead.statistics()
        assert (statistics.active, statistics.queued, statistics.max_concurrent) == (1, 1, 1)
    assert trio.current_time() == 4.0


async def test_adaptive_limit_that_moves_is_told(autojump_clock: Clock) -> None:
    """Listeners hear of the resize, and nothing where the limit stays."""
    events: list[BulkheadEvent] = []
    bulkhead = make(Scripted(script=[20, 25]), listeners=[events.append])
    await bulkhead.call(ok)
    await bulkhead.call(ok)
    assert [e for e in events if isinstance(e, BulkheadResized)] == [
        BulkheadResized("test", 20, 25, 0.0)
    ]
    assert sum(isinstance(e, BulkheadLeft) for e in events) == 2


async def test_adaptive_utilisation_follows_the_clock(autojump_clock: Clock) -> None:
    """Busy for the whole of an interval, it grows as the next call comes, who then finds room."""
    bulkhead = make(UtilisationTarget(target=0.7), initial=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 15)
        nursery.start_soon(bulkhead.call, trio.sleep, 15)
        await trio.sleep(9.9)
        with pytest.raises(BulkheadFull):
            await bulkhead.call(ok)
        await trio.sleep(0.1)
        assert bulkhead.max_concurrent == 2  # nobody has come since
        assert await bulkhead.call(ok) == "ok"
        assert bulkhead.max_concurrent == 3
    # From 10 to 20 two of three ran for half the time, then none: 3, 2, 1.
    await trio.sleep(25)
    assert bulkhead.max_concurrent == 3
    assert bulkhead.adjust() == 1
    assert bulkhead.max_concurrent == 1
    state = bulkhead.statistics().rule_state
    assert state == Usage(1, 40.0, 40.0, 0.0)


async def test_adaptive_utilisation_counts_what_ran_until_a_call_ends(
    autojump_clock: Clock,
) -> None:
    """Entries and departures both close a stretch of time in which so many ran."""
    bulkhead = make(UtilisationTarget(target=0.5), initial=4)
    await bulkhead.call(trio.sleep, 3)
    await trio.sleep(1)
    await bulkhead.call(trio.sleep, 2)
    assert bulkhead.statistics().rule_state == Usage(4, 0.0, 6.0, 5.0)


async def test_adaptive_adjust_lets_waiters_in(autojump_clock: Clock) -> None:
    """Where nobody comes or goes, asking makes a due growth happen."""
    bulkhead = make(UtilisationTarget(target=0.7), initial=1, max_wait=math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulkhead.call, trio.sleep, 100)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(bulkhead.call, trio.sleep, 100)
        await trio.sleep(50)
        assert bulkhead.statistics().queued == 1
        assert bulkhead.adjust() == 2
        assert bulkhead.statistics().queued == 0
    assert trio.current_time() == 150.0


async def test_adaptive_adjust_of_other_rules_only_says_the_limit() -> None:
    """They move with calls alone."""
    bulkhead = make(Vegas(), initial=7)
    assert bulkhead.adjust() == 7


async def test_adaptive_resize_begins_afresh() -> None:
    """The rule goes on from the number given, and forgets what it knew."""
    bulkhead = make(Vegas(), initial=10, chance=lambda: 0.0)
    await bulkhead.call(ok)
    bulkhead.resize(30)
    assert bulkhead.max_concurrent == 30
    assert bulkhead.statistics().rule_state == Vegas().initial(30, chance=0.0)


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (AIMD(), 20),
        (AIMD(minimum=30), 30),
        (UtilisationTarget(maximum=8), 8),
        (Vegas(), 20),
        (Gradient2(), 20),
    ],
)
def test_adaptive_begins_with_twenty_or_what_comes_nearest(
    rule: LimitRule[Any], limit: int
) -> None:
    """The published initial limit, moved into the rule's range."""
    assert make(rule).max_concurrent == limit


def test_adaptive_is_a_policy_of_its_kind() -> None:
    """What a pipeline reads."""
    rule = Vegas()
    bulkhead = make(rule, max_wait=1.5)
    assert (bulkhead.kind, bulkhead.name, bulkhead.max_wait) == (Kind.BULKHEAD, "test", 1.5)
    assert bulkhead.rule is rule


# --- as a whole ----------------------------------------------------------------------------------


async def wave(
    bulkhead: AdaptiveBulkhead, server: trio.CapacityLimiter, number: int, seconds: float
) -> float:
    """So many clients call a server for so long, which works about 0.1 s on each call it takes.

    Returns the mean limit meanwhile.
    """
    chance = random.Random(3)
    limits: list[int] = []

    async def work() -> None:
        async with server:
            await trio.sleep(0.05 + 0.1 * chance.random())

    async def client(until: float) -> None:
        while trio.current_time() < until:
            try:
                await bulkhead.call(work)
            except BulkheadFull:
                await trio.sleep(0.6 * chance.random())

    async with trio.open_nursery() as nursery:
        until = trio.current_time() + seconds
        for _ in range(number):
            nursery.start_soon(client, until)
        while trio.current_time() < until:
            limits.append(bulkhead.max_concurrent)
            await trio.sleep(0.1)
    return sum(limits) / len(limits)


@pytest.mark.parametrize(
    "rule",
    [Vegas(smoothing=0.2), AIMD(minimum=1, timeout=0.2), Gradient2(minimum=1, tolerance=1.0)],
    ids=["vegas", "aimd", "gradient2"],
)
async def test_adaptive_finds_the_capacity_and_follows_it(
    autojump_clock: Clock, rule: LimitRule[Any]
) -> None:
    """Under demand that comes in waves the limit settles near what the server can do, follows when
    that doubles and halves, and everything is at rest afterwards."""
    bulkhead = make(rule, chance=lambda: 0.5)
    server = trio.CapacityLimiter(1)
    settled = []
    for capacity in (10, 20, 10):
        server.total_tokens = capacity
        for _ in range(2):
            await wave(bulkhead, server, 2, seconds=1.0)
            mean = await wave(bulkhead, server, 40, seconds=2.0)
        settled.append(mean / capacity)
    assert all(0.35 <= each <= 2.5 for each in settled)
    statistics = bulkhead.statistics()
    assert bulkhead.is_at_rest
    assert statistics.sampled == statistics.completed
    assert statistics.refused > 0


async def test_adaptive_is_at_rest_wherever_its_caller_is_cancelled(autojump_clock: Clock) -> None:
    """Cancelled in line or inside, a caller leaves nothing behind, and teaches nothing."""

    async def scenario(point: CancellationPoint) -> None:
        rule = Scripted(script=[2, 1, 2])
        bulkhead = make(rule, initial=1, max_wait=100.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(bulkhead.call, trio.sleep, 1)
            with point:
                async with bulkhead.acquire():
                    await trio.sleep(1)
        statistics = bulkhead.statistics()
        assert (statistics.active, statistics.queued) == (0, 0)
        assert statistics.sampled == len(rule.samples) == 3 - point.was_cancelled

    assert await sweep_cancellations(scenario) >= 3


@settings(max_examples=40, deadline=None)
@given(
    limits=st.lists(st.integers(1, 5), max_size=30),
    calls=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(1, 8), st.booleans()),
        min_size=1,
        max_size=30,
    ),
)
def test_adaptive_under_any_schedule_loses_no_permit(
    limits: list[int], calls: list[tuple[int, int, int, bool]]
) -> None:
    """Whatever the rule says and whoever is cancelled: nobody enters above the limit, every call
    is accounted for, and all permits are there in the end."""

    async def main() -> None:
        rule = Scripted(script=list(limits))
        bulkhead = make(rule, initial=3, max_wait=4.0, max_queued=5)
        outcomes: list[str] = []

        async def work(seconds: int, fails: bool) -> None:
            assert bulkhead.statistics().active <= max(bulkhead.max_concurrent, 5)
            await trio.sleep(seconds)
            if fails:
                raise trio.TooSlowError

        async def caller(start: int, seconds: int, patience: int, fails: bool) -> None:
            await trio.sleep(start)
            outcome = "cancelled"
            with trio.move_on_after(patience):
                try:
                    await bulkhead.call(work, seconds, fails)
                    outcome = "done"
                except trio.TooSlowError:
                    outcome = "dropped"
                except BulkheadFull as refusal:
                    outcome = refusal.reason
                except Exception as error:  # noqa: BLE001  only which it was is of interest
                    outcome = type(error).__name__
            outcomes.append(outcome)

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(caller, *call)
        statistics = bulkhead.statistics()
        assert (statistics.active, statistics.queued) == (0, 0)
        assert statistics.sampled == len(rule.samples)
        assert statistics.dropped == outcomes.count("dropped")
        assert statistics.sampled == outcomes.count("done") + outcomes.count("dropped")
        refused = ("bulkhead_full", "QueueTimeout", "DeadlineUnreachable")
        assert statistics.refused == sum(outcomes.count(reason) for reason in refused)
        for _ in range(bulkhead.max_concurrent):
            bulkhead.acquire_nowait()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# --- nonsense ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"initial": 4}, "initial"),
        ({"initial": 11}, "initial"),
        ({"initial": 5.5}, "initial"),
        ({"max_wait": -1.0}, "max_wait"),
        ({"max_queued": -1}, "max_queued"),
    ],
)
def test_adaptive_nonsense_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    """Each parameter that makes no sense is named; the ends of the range do."""
    rule = AIMD(minimum=5, maximum=10)
    with pytest.raises(ValueError, match=rf"^{named} "):
        make(rule, **options)
    assert make(rule, initial=5).max_concurrent == 5
    assert make(rule, initial=10).max_concurrent == 10


@pytest.mark.parametrize("limit", [4, 11])
async def test_adaptive_resize_out_of_range_is_refused(limit: int) -> None:
    """The rule's range holds for a person too."""
    bulkhead = make(AIMD(minimum=5, maximum=10))
    with pytest.raises(ValueError, match=r"^max_concurrent "):
        bulkhead.resize(limit)
    assert bulkhead.max_concurrent == 10
