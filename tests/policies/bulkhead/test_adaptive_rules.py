"""The rules of adaptive bulkheads: single steps by hand, and how they settle in a simulation.

The figures of AIMD, Vegas and Gradient2 were worked out by hand from the Java source of Netflix
concurrency-limits.
"""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.bulkhead import (
    AIMD,
    Gradient2,
    LimitRule,
    LimitSample,
    UtilisationTarget,
    Vegas,
)
from bulkhead_trio.policies.bulkhead._adaptive_rules import Limit, Usage
from bulkhead_trio.policies.bulkhead._latency_rules import (
    Gradient2State,
    VegasState,
    log10_step,
)


def sample(
    seconds: float = 1.0, in_flight: int = 1000, *, dropped: bool = False, chance: float = 0.5
) -> LimitSample:
    return LimitSample(0.0, seconds, in_flight, dropped, chance)


# --- utilisation ---------------------------------------------------------------------------------


def used(rule: UtilisationTarget, limit: int, active: int, *, seconds: float = 10.0) -> int:
    """The limit after one interval in which ``active`` calls ran for ``seconds``."""
    state = rule.advanced(rule.initial(limit), 0.0, 0)
    state = rule.advanced(state, seconds, active)
    return rule.advanced(state, 10.0, 0).limit


@pytest.mark.parametrize(
    ("active", "limit"),
    [(0, 80), (59, 80), (60, 100), (70, 100), (80, 100), (81, 150), (100, 150), (120, 150)],
)
def test_utilisation_band_is_a_tenth_each_way(active: int, limit: int) -> None:
    """Strictly above target + 0.1 it grows by half, strictly below target - 0.1 it loses a fifth,
    and on the edges of the band it stays."""
    assert used(UtilisationTarget(target=0.7), 100, active) == limit


@pytest.mark.parametrize(
    ("before", "active", "after"),
    [(1, 1, 2), (3, 3, 5), (5, 5, 8), (9, 0, 7), (4, 0, 3), (2, 0, 1), (1, 0, 1)],
)
def test_utilisation_rounds_away_from_where_it_is(before: int, active: int, after: int) -> None:
    """It rounds up to grow and down to shrink, so that small limits move too."""
    assert used(UtilisationTarget(), before, active) == after


def test_utilisation_stays_within_its_range() -> None:
    """The last step is cut to the minimum or the maximum."""
    rule = UtilisationTarget(minimum=9, maximum=13)
    assert used(rule, 10, 10) == 13
    assert used(rule, 13, 13) == 13
    assert used(rule, 10, 0) == 9
    assert used(rule, 9, 0) == 9


def test_utilisation_is_weighted_by_time() -> None:
    """All permits for 80 % of the interval is a utilisation of 0.8; a little more is above it."""
    assert used(UtilisationTarget(target=0.7), 10, 10, seconds=8.0) == 10
    assert used(UtilisationTarget(target=0.7), 10, 10, seconds=8.1) == 15
    assert used(UtilisationTarget(target=0.7), 10, 10, seconds=6.0) == 10
    assert used(UtilisationTarget(target=0.7), 10, 10, seconds=5.9) == 8


def test_utilisation_adds_up_all_that_ran() -> None:
    """Several stretches in one interval count each for its time."""
    rule = UtilisationTarget(target=0.5)
    state = rule.advanced(rule.initial(10), 100.0, 5)  # before the first call nothing ran
    assert state == Usage(10, 100.0, 100.0, 0.0)
    state = rule.advanced(state, 102.0, 10)
    state = rule.advanced(state, 105.0, 3)
    assert state == Usage(10, 100.0, 105.0, 29.0)
    assert rule.advanced(state, 110.0, 6).limit == 10  # 59 of 100
    assert rule.advanced(state, 110.0, 7).limit == 15  # 64 of 100


def test_utilisation_looks_exactly_when_the_interval_is_over() -> None:
    """Not a moment earlier; and the next one begins there, not when somebody looked."""
    rule = UtilisationTarget(target=0.7, interval=4.0)
    state = rule.advanced(rule.initial(10), 0.0, 0)
    assert rule.advanced(state, 3.999, 10).limit == 10
    assert rule.advanced(state, 4.0, 10) == Usage(15, 4.0, 4.0, 0.0)
    assert rule.advanced(state, 5.0, 10) == Usage(15, 4.0, 5.0, 10.0)


def test_utilisation_begins_when_the_clock_is_at_zero() -> None:
    """A first call at 0.0 begins the first interval as any other time would."""
    rule = UtilisationTarget()
    assert rule.initial(10).began is None
    state = rule.advanced(rule.advanced(rule.initial(10), 0.0, 0), 1.0, 3)
    assert state == Usage(10, 0.0, 1.0, 3.0)


def test_utilisation_goes_through_what_nobody_saw() -> None:
    """Three intervals in one step are three looks, each at what ran then."""
    rule = UtilisationTarget(target=0.7)
    state = rule.advanced(rule.initial(100), 0.0, 0)
    assert rule.advanced(state, 30.0, 0) == Usage(51, 30.0, 30.0, 0.0)  # 80, 64, 51
    assert rule.advanced(state, 29.9, 0).limit == 64
    # 100 of 100, 100 of 150 (0.667: within the band), and so it stays.
    assert rule.advanced(state, 45.0, 100) == Usage(150, 40.0, 45.0, 500.0)


@given(
    limit=st.integers(1, 200),
    steps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 200)), max_size=20),
)
def test_utilisation_in_any_steps_is_the_same(limit: int, steps: list[tuple[int, int]]) -> None:
    """Looking more often changes nothing: the limit is what a task in the background would set."""
    rule = UtilisationTarget(interval=8.0)
    coarse = fine = rule.advanced(rule.initial(limit), 0.0, 0)
    now = 0.0
    for seconds, active in steps:
        coarse = rule.advanced(coarse, now + seconds, active)
        for step in range(2 * seconds):
            fine = rule.advanced(fine, now + (step + 1) / 2, active)
        now += seconds
        assert (coarse.limit, coarse.began) == (fine.limit, fine.began)
        assert coarse.busy == fine.busy


def test_utilisation_of_a_long_silence_is_bounded_work() -> None:
    """After a year the limit is at its minimum, and the interval is the current one."""
    rule = UtilisationTarget(minimum=3, interval=0.01)
    state = rule.advanced(rule.advanced(rule.initial(200), 0.0, 0), 0.001, 200)
    year = 365 * 86400.0
    after = rule.advanced(state, year, 0)
    assert after.limit == 3
    assert after.began is not None
    assert year - 0.02 < after.began <= year


def test_utilisation_skips_only_what_is_more_than_a_hundred_intervals() -> None:
    """A hundred intervals are gone through from where it was; of more, the last hundred."""
    rule = UtilisationTarget(target=0.7, interval=1.0, maximum=10**9)
    state = rule.advanced(rule.advanced(rule.initial(10), 0.0, 0), 0.5, 100)
    assert rule.advanced(state, 1.0, 0).limit == 15  # 50 of 10
    assert rule.advanced(state, 100.9, 0).limit == 1
    many = rule.advanced(state, 105.5, 8)
    assert many == Usage(10, 105.0, 105.5, 4.0)  # what was busy long ago is forgotten
    assert rule.advanced(state, 101.5, 8).limit == 10
    assert rule.advanced(state, 100.5, 8).limit == 12  # 54 of 10, 8 of 15, 8 of 12 is in the band


def test_utilisation_clock_that_goes_back_begins_anew() -> None:
    """A bulkhead that outlives one clock counts nothing negative."""
    rule = UtilisationTarget()
    state = rule.advanced(rule.advanced(rule.initial(10), 50.0, 0), 55.0, 5)
    assert rule.advanced(state, 54.0, 5) == Usage(10, 54.0, 54.0, 0.0)
    assert rule.advanced(state, 55.0, 5) == state


def test_utilisation_learns_nothing_from_samples() -> None:
    """How a call ended is not its business; it alone watches what runs."""
    rule = UtilisationTarget()
    state = rule.initial(10)
    assert rule.sampled(state, sample(dropped=True)) is state
    assert rule.follows_activity
    for other in (AIMD(), Vegas(), Gradient2()):
        assert not other.follows_activity
        other_state: Any = other.initial(20)
        assert other.advanced(other_state, 100.0, 20) is other_state


def test_utilisation_constants_are_those_promised() -> None:
    """Every 10 s, by 1.5 and 0.8; from 1 to 200 with a target of 0.7 unless said."""
    assert attrs.astuple(UtilisationTarget()) == (0.7, 1, 200, 10.0)


# --- AIMD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "given_sample", "after"),
    [
        (20, sample(1.0, 10), 21),  # half in use is enough
        (21, sample(1.0, 10), 21),  # less than half is not
        (21, sample(1.0, 11), 22),
        (30, sample(1.0, 30, dropped=True), 27),
        (31, sample(1.0, 31, dropped=True), 27),  # 27.9
        (30, sample(5.0, 30), 31),  # the timeout itself is in time
        (30, sample(5.001, 30), 27),
        (30, sample(5.001, 1), 27),  # however few ran
        (21, sample(1.0, 21, dropped=True), 20),  # 18.9, cut
        (200, sample(1.0, 200), 200),
        (199, sample(1.0, 200), 200),
    ],
)
def test_aimd_step_is_that_of_the_source(limit: int, given_sample: LimitSample, after: int) -> None:
    """``AIMDLimit._update``: times 0.9 for a drop or a timeout, else one more if half in use."""
    assert AIMD().sampled(Limit(limit), given_sample) == Limit(after)


def test_aimd_constants_are_those_of_the_source() -> None:
    """Backoff 0.9, timeout 5 s, 20 to 200."""
    assert attrs.astuple(AIMD()) == (20, 200, 0.9, 5.0)


# --- Vegas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "step"), [(1, 1), (9, 1), (10, 1), (99, 1), (100, 2), (999, 2), (1000, 3)]
)
def test_vegas_step_is_the_whole_part_of_log10(limit: int, step: int) -> None:
    """At least 1; a new unit at each power of ten (``Log10RootIntFunction``)."""
    assert log10_step(limit) == step


def test_vegas_constants_are_those_of_the_source() -> None:
    """Probe multiplier 30, smoothing 1.0, 1 to 1000; a jitter from 0.5 to 1."""
    assert attrs.astuple(Vegas()) == (1, 1000, 30, 1.0)
    assert Vegas().initial(20, chance=0.0) == VegasState(20, 0.0, 0, 0.5)
    assert Vegas().initial(20) == VegasState(20) == VegasState(20, 0.0, 0, 0.75)


def test_vegas_first_call_is_the_measure() -> None:
    """The first, and each quicker one, sets the time without load and moves nothing."""
    rule = Vegas()
    state = rule.sampled(rule.initial(20), sample(2.0))
    assert state == VegasState(20, 2.0, 1, 0.75)
    assert rule.sampled(state, sample(1.5)) == VegasState(20, 1.5, 2, 0.75)
    assert rule.sampled(state, sample(2.0)).limit == 26  # no quicker: no queue at all


@pytest.mark.parametrize(
    ("limit", "queue", "after"),
    [
        # u = 1: threshold 1, alpha 3, beta 6
        (16, 0.0, 22),
        (16, 1.0, 22),
        (16, 1.25, 17),  # so 2
        (16, 2.0, 17),
        (16, 2.25, 16),  # so 3
        (16, 3.0, 16),
        (16, 6.0, 16),
        (16, 6.25, 15),  # so 7
        (16, 12.0, 15),
        # u = 2: threshold 2, alpha 6, beta 12
        (128, 2.0, 140),
        (128, 3.0, 130),
        (128, 5.0, 130),
        (128, 6.0, 128),
        (128, 12.0, 128),
        (128, 13.0, 126),
    ],
)
def test_vegas_step_is_that_of_the_source(limit: int, queue: float, after: int) -> None:
    """``VegasLimit.updateEstimatedLimit``: by the queue, against threshold, alpha and beta."""
    no_load = 1.0 - queue / limit
    state = VegasState(limit, no_load, 5, 0.75)
    assert Vegas().sampled(state, sample(1.0)) == VegasState(after, no_load, 6, 0.75)


def test_vegas_does_not_move_while_half_is_unused() -> None:
    """Fewer than half in flight: neither up nor down, but the sample is counted."""
    state = VegasState(20, 1.0, 5, 0.75)
    assert Vegas().sampled(state, sample(1.0, 9)) == VegasState(20, 1.0, 6, 0.75)
    assert Vegas().sampled(state, sample(9.0, 9)) == VegasState(20, 1.0, 6, 0.75)
    assert Vegas().sampled(state, sample(1.0, 10)).limit == 26


def test_vegas_drop_shrinks_and_measures_nothing() -> None:
    """A drop takes a unit however few ran; its own time, short as it is, is no measure."""
    state = VegasState(150, 1.0, 5, 0.75)
    assert Vegas().sampled(state, sample(0.001, 1, dropped=True)) == VegasState(148, 1.0, 5, 0.75)
    assert Vegas().sampled(state, sample(0.0, 1, dropped=True)).limit == 148
    fresh = Vegas().initial(20)
    assert Vegas().sampled(fresh, sample(0.001, dropped=True)) == VegasState(19, 0.0, 0, 0.75)


def test_vegas_call_of_no_time_says_nothing() -> None:
    """The source refuses it; here it is left out."""
    state = VegasState(20, 1.0, 5, 0.75)
    assert Vegas().sampled(state, sample(0.0)) is state


def test_vegas_stays_within_its_range() -> None:
    """It is cut to the minimum and the maximum."""
    rule = Vegas(minimum=10, maximum=22)
    assert rule.sampled(VegasState(20, 1.0, 1, 0.75), sample(1.0)).limit == 22
    assert rule.sampled(VegasState(10, 1.0, 1, 0.75), sample(dropped=True)).limit == 10
    assert Vegas().sampled(VegasState(1, 1.0, 1, 0.75), sample(dropped=True)).limit == 1


def test_vegas_probes_after_jitter_times_thirty_limits() -> None:
    """At exactly that count the sample becomes the measure, the count and the jitter begin anew."""
    rule = Vegas()
    # 0.75 * 30 * 20 = 450
    before = VegasState(20, 1.0, 448, 0.75)
    assert rule.sampled(before, sample(1.2)) == VegasState(20, 1.0, 449, 0.75)  # queue 4: stays
    due = VegasState(20, 1.0, 449, 0.75)
    assert rule.sampled(due, sample(1.2, chance=0.25)) == VegasState(20, 1.2, 0, 0.625)


def test_vegas_smoothing_takes_a_share_of_the_new_estimate() -> None:
    """Half way for 0.5, and the estimate keeps its fraction."""
    state = Vegas(smoothing=0.5).sampled(VegasState(16, 1.0, 1, 0.75), sample(1.07))
    assert state.estimate == 16.5
    assert state.limit == 16


# --- Gradient2 -----------------------------------------------------------------------------------


def test_gradient2_constants_are_those_of_the_source() -> None:
    """20 to 200, tolerance 1.5, long window 600, smoothing 0.2, queue size 4."""
    assert attrs.astuple(Gradient2()) == (20, 200, 1.5, 600, 0.2, 4)
    assert Gradient2().initial(20) == Gradient2State(20.0, 0.0, 0.0, 0)


def warm(estimate: float, long: float = 1.0) -> Gradient2State:
    return Gradient2State(estimate, long, 10.0, 10)


def test_gradient2_long_average_warms_up_as_a_plain_mean() -> None:
    """Ten samples are averaged plainly; from the eleventh on one counts 2 of 601."""
    rule = Gradient2()
    state = rule.initial(20)
    for number in range(1, 11):
        state = rule.sampled(state, sample(float(number), 1))
        assert state.long == pytest.approx((number + 1) / 2)
    assert (state.warm_up_sum, state.warm_up_count) == (55.0, 10)
    state = rule.sampled(state, sample(6.0, 1))
    assert state.long == pytest.approx(5.5 * (1 - 2 / 601) + 6.0 * 2 / 601)
    assert (state.warm_up_sum, state.warm_up_count) == (55.0, 10)


@pytest.mark.parametrize(
    ("seconds", "after"),
    [
        # 50 * 0.8 + 0.2 * (50 * gradient + 4), with the average of 2 of 601 new
        (1.0, 50.8),  # gradient 1
        (1.5, 50.8),  # long 1.00166, gradient 1.0017, cut to 1
        (2.0, 40 + 0.2 * (50 * 1.5 * (599 + 2 * 2.0) / 601 / 2.0 + 4)),
        (3.0, 40 + 0.2 * (50 * 1.5 * (599 + 2 * 3.0) / 601 / 3.0 + 4)),
        (9.0, 40 + 0.2 * (50 * 0.5 + 4)),  # never less than a half
    ],
)
def test_gradient2_step_is_that_of_the_source(seconds: float, after: float) -> None:
    """``Gradient2Limit._update``: the gradient times the limit, the queue size, a fifth of it."""
    state = Gradient2().sampled(warm(50.0), sample(seconds))
    assert state.estimate == pytest.approx(after, abs=1e-9)
    assert state.long == pytest.approx((599 + 2 * seconds) / 601)
    assert state.limit == int(after)


def test_gradient2_does_not_move_while_half_is_unused() -> None:
    """It averages all the same; exactly half in use is enough to move."""
    state = Gradient2().sampled(warm(50.0), sample(2.0, 24))
    assert state.estimate == 50.0
    assert state.long == pytest.approx(603 / 601)
    assert Gradient2().sampled(warm(50.0), sample(1.0, 25)).estimate == pytest.approx(50.8)


def test_gradient2_average_more_than_twice_too_long_is_cut() -> None:
    """By 5 % for the next time; at exactly twice it is not."""
    rule = Gradient2(long_window=1)  # one sample is the whole average
    assert rule.sampled(warm(50.0, long=9.0), sample(1.0)).long == 1.0
    mean_of_two = Gradient2State(50.0, 3.0, 3.0, 1)
    assert Gradient2().sampled(mean_of_two, sample(1.0)).long == 2.0  # (3 + 1) / 2
    mean_of_two = Gradient2State(50.0, 4.0, 4.0, 1)
    assert Gradient2().sampled(mean_of_two, sample(1.0)).long == pytest.approx(2.5 * 0.95)


def test_gradient2_stays_within_its_range() -> None:
    """It is cut to the minimum and the maximum."""
    assert Gradient2().sampled(warm(200.0), sample(1.0)).estimate == 200
    assert Gradient2().sampled(warm(20.0), sample(50.0)).estimate == 20
    assert Gradient2(maximum=50).sampled(warm(49.5), sample(1.0)).estimate == 50


def test_gradient2_quick_drop_is_left_out() -> None:
    """A refusal is no sign of speed; a drop that took as long as the others or longer counts."""
    rule = Gradient2()
    state = warm(50.0)
    assert rule.sampled(state, sample(0.999, dropped=True)) is state
    assert rule.sampled(state, sample(1.0, dropped=True)).estimate == pytest.approx(50.8)
    assert rule.sampled(state, sample(9.0, dropped=True)).estimate < 50
    assert rule.sampled(state, sample(0.0)) is state
    fresh = rule.initial(20)
    assert rule.sampled(fresh, sample(0.001, dropped=True)) is fresh
    once = rule.sampled(fresh, sample(1.0, 1))
    assert rule.sampled(once, sample(3.0, 1, dropped=True)).long == 2.0


# --- what holds for all --------------------------------------------------------------------------

RULES: list[LimitRule[Any]] = [
    UtilisationTarget(minimum=2, maximum=50),
    AIMD(minimum=2, maximum=50),
    Vegas(minimum=2, maximum=50),
    Gradient2(minimum=2, maximum=50),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@given(
    initial=st.integers(2, 50),
    samples=st.lists(
        st.tuples(
            st.floats(0, 1e4), st.integers(1, 60), st.booleans(), st.floats(0, 1, exclude_max=True)
        ),
        max_size=60,
    ),
)
def test_rule_never_leaves_its_range(
    rule: LimitRule[Any], initial: int, samples: list[tuple[float, int, bool, float]]
) -> None:
    """Whatever happens, the limit is a whole number from the minimum to the maximum."""
    state = rule.initial(initial, chance=0.3)
    now = 0.0
    for seconds, in_flight, dropped, chance in samples:
        now += seconds
        state = rule.advanced(state, now, in_flight)
        state = rule.sampled(state, LimitSample(now, seconds, in_flight, dropped, chance))
        assert isinstance(state.limit, int)
        assert 2 <= state.limit <= 50


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rule_and_its_state_are_frozen(rule: LimitRule[Any]) -> None:
    """Neither can be changed from outside."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        rule.minimum = 3
    state = rule.initial(20)
    with pytest.raises(AttributeError):
        state.limit = 3
    assert isinstance(state, msgspec.Struct)


def test_sample_is_a_good_call_unless_said() -> None:
    """Not dropped, and the middle of all lots."""
    assert LimitSample(0.0, 1.0, 1) == LimitSample(0.0, 1.0, 1, dropped=False, chance=0.5)


@pytest.mark.parametrize("make", [UtilisationTarget, AIMD, Vegas, Gradient2])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"minimum": 0}, "minimum"),
        ({"minimum": 1.5}, "minimum"),
        ({"minimum": 30, "maximum": 29}, "maximum"),
        ({"maximum": math.inf}, "maximum"),
    ],
)
def test_rule_nonsense_range_is_refused_by_name(
    make: type[LimitRule[Any]], options: dict[str, Any], named: str
) -> None:
    """A range begins at 1 or more and is not turned round; a single value will do."""
    with pytest.raises(ValueError, match=rf"^{named} "):
        make(**options)
    make(minimum=1, maximum=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (UtilisationTarget, {"target": 0.1}, "target"),
        (UtilisationTarget, {"target": 0.9}, "target"),
        (UtilisationTarget, {"target": math.nan}, "target"),
        (UtilisationTarget, {"interval": 0.0}, "interval"),
        (UtilisationTarget, {"interval": math.inf}, "interval"),
        (AIMD, {"backoff_ratio": 0.49}, "backoff_ratio"),
        (AIMD, {"backoff_ratio": 1.0}, "backoff_ratio"),
        (AIMD, {"backoff_ratio": math.nan}, "backoff_ratio"),
        (AIMD, {"timeout": 0.0}, "timeout"),
        (Vegas, {"probe_multiplier": 0}, "probe_multiplier"),
        (Vegas, {"smoothing": 0.0}, "smoothing"),
        (Vegas, {"smoothing": 1.1}, "smoothing"),
        (Gradient2, {"tolerance": 0.99}, "tolerance"),
        (Gradient2, {"tolerance": math.inf}, "tolerance"),
        (Gradient2, {"long_window": 0}, "long_window"),
        (Gradient2, {"smoothing": 0.0}, "smoothing"),
        (Gradient2, {"queue_size": -1}, "queue_size"),
    ],
)
def test_rule_nonsense_is_refused_by_name(
    make: type[LimitRule[Any]], options: dict[str, Any], named: str
) -> None:
    """Each parameter that makes no sense is named."""
    with pytest.raises(ValueError, match=rf"^{named} "):
        make(**options)


def test_rule_values_on_the_edge_of_sense_are_taken() -> None:
    """The smallest and largest that mean something."""
    UtilisationTarget(target=0.101)
    UtilisationTarget(target=0.899)
    AIMD(backoff_ratio=0.5)
    Vegas(probe_multiplier=1)
    Gradient2(tolerance=1.0, long_window=1, queue_size=0, smoothing=1.0)


# --- how they settle -----------------------------------------------------------------------------


class Downstream:
    """Calls take 0.1 s up to ``capacity`` at once, and longer in proportion above it.

    Demand is without end but for a lull in each 100 calls, 30 long, in which a quarter of the
    capacity is asked for: that is when a rule can see how quick the downstream is by itself.
    """

    def __init__(self, rule: LimitRule[Any], initial: int = 20) -> None:
        self.rule = rule
        self.state = rule.initial(initial, chance=0.5)
        self.chance = random.Random(1)
        self.now = 0.0
        self.calls = 0

    def run(self, capacity: int, calls: int = 4000) -> tuple[int, int]:
        """The lowest and the highest limit in the second half of so many calls."""
        limits = []
        for number in range(calls):
            is_lull = self.calls % 100 < 30
            limit = self.state.limit
            in_flight = min(limit, max(1, capacity // 4)) if is_lull else limit
            seconds = 0.1 * max(1.0, in_flight / capacity)
            self.now += seconds / in_flight
            one = LimitSample(self.now, seconds, in_flight, False, self.chance.random())
            self.state = self.rule.sampled(self.state, one)
            self.calls += 1
            if number >= calls / 2:
                limits.append(self.state.limit)
        return min(limits), max(limits)


@pytest.mark.parametrize("capacity", [50, 100])
def test_vegas_settles_just_above_the_capacity(capacity: int) -> None:
    """It keeps the small queue that alpha and beta allow, and follows the capacity."""
    downstream = Downstream(Vegas())
    for current in (capacity, 2 * capacity, capacity, capacity // 2):
        lowest, highest = downstream.run(current)
        unit = log10_step(2 * current)
        assert current <= lowest <= highest <= current + 12 * unit


def test_gradient2_settles_in_proportion_to_the_capacity() -> None:
    """With no tolerance it settles a little above the capacity; by default within four times of
    it, as it takes calls of one and a half times the average for normal. It follows both ways."""
    strict = Downstream(Gradient2(minimum=1, maximum=1000, tolerance=1.0))
    default = Downstream(Gradient2(minimum=1, maximum=1000))
    for capacity in (50, 100, 50, 25):
        lowest, highest = strict.run(capacity)
        assert capacity <= lowest <= highest <= capacity + 20
        lowest, highest = default.run(capacity)
        assert capacity <= lowest <= highest <= 4 * capacity


def test_aimd_saws_below_the_limit_at_which_calls_time_out() -> None:
    """Up by ones to where calls take longer than the timeout, down by a tenth, and again."""
    downstream = Downstream(AIMD(minimum=1, maximum=1000, timeout=0.15))
    for capacity in (50, 100, 50, 25):
        lowest, highest = downstream.run(capacity)
        edge = int(1.5 * capacity)
        assert edge <= highest <= edge + 1
        assert int(0.9 * edge) - 1 <= lowest <= int(0.9 * (edge + 1))


def test_utilisation_settles_where_the_target_is() -> None:
    """With demand of its own, the limit comes to where the share in use is within the band, and
    follows when demand doubles or halves."""
    rule = UtilisationTarget(target=0.7, minimum=1, maximum=1000)
    state = rule.advanced(rule.initial(20), 0.0, 0)
    now = 0.0
    for demand in (50, 100, 50, 25):
        for _ in range(300):
            now += 1.0
            state = rule.advanced(state, now, min(demand, state.limit))
        assert 0.6 <= demand / state.limit <= 0.8
