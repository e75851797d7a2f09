"""What must hold of every rule: exact waits, honest remainders, clocks that go back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bulkhead_trio.policies.rate import (
    FixedWindow,
    LeakyBucket,
    Rule,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from bulkhead_trio.policies.rate._decision import seconds_until
from tests.policies.rate._rules_under_test import RULES, STARTS, STEPS, run

ONE_OF_EACH: list[Rule[Any]] = [
    FixedWindow(limit=4, seconds=8),
    SlidingWindow(limit=4, seconds=8),
    SlidingLog(limit=4, seconds=8),
    TokenBucket(rate=0.5, capacity=4),
    LeakyBucket(rate=0.5, capacity=4),
    LeakyBucket(rate=0.5, capacity=4, pacing=True),
]


def just_before(moment: float, now: float) -> float:
    """Two floats earlier, of the largest time's size: a wait may have been rounded up by one."""
    return moment - 2 * math.ulp(max(abs(moment), abs(now), moment - now))


@given(rule=RULES, start=STARTS, steps=STEPS, cost=st.integers(1, 12))
def test_rule_wait_is_exact(
    rule: Rule[Any], start: float, steps: list[tuple[float, int]], cost: int
) -> None:
    """A refused request passes after exactly its `retry_after`, and not just before."""
    state, now, _ = run(rule, start, steps)
    cost = min(cost, rule.limit)
    state, decision = rule.decide(state, now, cost)
    if decision.allowed:
        assert decision.retry_after == 0
        return
    assert 0 < decision.retry_after < math.inf
    moment = now + decision.retry_after
    _, later = rule.decide(state, moment, cost)
    assert later.allowed
    early = just_before(moment, now)
    if early > now:
        _, sooner = rule.decide(state, early, cost)
        assert not sooner.allowed


@given(rule=RULES, start=STARTS, steps=STEPS, part=st.floats(0, 3))
def test_rule_remaining_is_the_largest_cost_that_passes(
    rule: Rule[Any], start: float, steps: list[tuple[float, int]], part: float
) -> None:
    """What `remaining` says passes, and one more does not; decisions say the same."""
    state, now, _ = run(rule, start, steps)
    now += part * rule.window
    left = rule.remaining(state, now)
    assert 0 <= left <= rule.limit
    if left:
        after, decision = rule.decide(state, now, left)
        assert decision.allowed
        assert decision.remaining == rule.remaining(after, now)
    if left < rule.limit:
        after, decision = rule.decide(state, now, left + 1)
        assert not decision.allowed
        assert decision.remaining == left
        assert after == state


@given(rule=RULES, start=STARTS, steps=STEPS)
def test_rule_is_at_rest_when_it_says(
    rule: Rule[Any], start: float, steps: list[tuple[float, int]]
) -> None:
    """From `rests_at` on the whole quota is there, which is never later than the longest debt."""
    state, now, passed = run(rule, start, steps)
    rests_at = rule.rests_at(state)
    assume(passed)
    moment = max(now, rests_at)
    assert rule.remaining(state, moment) == rule.limit
    _, decision = rule.decide(state, moment, rule.limit)
    assert decision.allowed
    assert rests_at <= passed[-1][0] + rule.longest_debt + 1e-6
    early = just_before(rests_at, now)
    if early > now and not isinstance(rule, SlidingWindow):
        assert rule.remaining(state, early) < rule.limit


@given(rule=RULES, start=STARTS, steps=STEPS, cost=st.integers(1, 13))
def test_rule_reset_is_when_the_quota_is_whole(
    rule: Rule[Any], start: float, steps: list[tuple[float, int]], cost: int
) -> None:
    """After `reset_after` seconds everything can be had again, allowed or not."""
    state, now, _ = run(rule, start, steps)
    state, decision = rule.decide(state, now, cost)
    assert 0 <= decision.reset_after <= rule.longest_debt + 1e-6
    assert rule.remaining(state, now + decision.reset_after) == rule.limit
    assert (decision.limit, decision.window) == (rule.limit, rule.window)


@given(rule=RULES, start=STARTS, steps=STEPS, back=st.floats(0.0, 1e9))
def test_rule_clock_that_goes_back_gives_nothing(
    rule: Rule[Any], start: float, steps: list[tuple[float, int]], back: float
) -> None:
    """What is used up stays used up; the wait is true, and no longer than the rule's longest."""
    state, now, _ = run(rule, start, steps)
    while (decision := rule.decide(state, now, 1))[1].allowed:
        state = decision[0]
    earlier = now - back
    state, refused = rule.decide(state, earlier, 1)
    assert not refused.allowed
    assert rule.remaining(state, earlier) == 0
    assert refused.retry_after <= rule.longest_debt + 1e-3
    _, later = rule.decide(state, earlier + refused.retry_after, 1)
    assert later.allowed


@pytest.mark.parametrize("rule", ONE_OF_EACH, ids=repr)
def test_rule_clock_far_back_heals(rule: Rule[Any]) -> None:
    """After a jump of a day back, the quota comes back as fast as ever."""
    state, now = rule.initial(), 100_000.0
    for _ in range(4):
        state, _ = rule.decide(state, now)
    state, refused = rule.decide(state, now - 86_400, 1)
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert 0 < refused.retry_after <= 16
    assert 0 < refused.reset_after <= 16
    assert rule.remaining(state, now - 86_400 + 16) == 4


@pytest.mark.parametrize("rule", ONE_OF_EACH, ids=repr)
def test_rule_remaining_before_its_time_is_none(rule: Rule[Any]) -> None:
    """Asked for a moment before the last request, nothing has come back yet."""
    state, now = rule.initial(), 100.0
    for _ in range(4):
        state, _ = rule.decide(state, now)
    assert rule.remaining(state, 99.0) == 0


@pytest.mark.parametrize("rule", ONE_OF_EACH, ids=repr)
def test_rule_refusal_hands_the_same_state_back(rule: Rule[Any]) -> None:
    """Nothing is made that nobody needs, also at the very moment of the request before."""
    state, _ = rule.decide(rule.initial(), 100.0, 4)
    for now in (100.0, 100.5):
        after, refused = rule.decide(state, now)
        assert not refused.allowed
        assert after is state


@pytest.mark.parametrize("rule", ONE_OF_EACH, ids=repr)
def test_rule_cost_above_the_limit_never_passes(rule: Rule[Any]) -> None:
    """It is refused, no wait would help, and nothing is used; the limit itself passes."""
    state, decision = rule.decide(rule.initial(), 10.0, 5)
    assert (decision.allowed, decision.retry_after) == (False, math.inf)
    assert (decision.remaining, decision.reset_after) == (4, 0.0)
    assert state == rule.initial()
    state, decision = rule.decide(state, 10.0, 4)
    assert (decision.allowed, decision.remaining) == (True, 0)
    after, decision = rule.decide(state, 11.0, 5)
    assert (decision.allowed, decision.retry_after) == (False, math.inf)
    assert after == state


@pytest.mark.parametrize("rule", ONE_OF_EACH, ids=repr)
def test_rule_starts_with_all_of_it(rule: Rule[Any]) -> None:
    """A new state has the whole quota and is at rest, however early the clock is."""
    assert rule.remaining(rule.initial(), -1e9) == rule.limit == 4
    assert rule.rests_at(rule.initial()) == -math.inf
    assert rule.window == (8 if not isinstance(rule, LeakyBucket | TokenBucket) else 8.0)


def test_rule_longest_debts() -> None:
    """A sliding window remembers two windows, everything else one."""
    assert [rule.longest_debt for rule in ONE_OF_EACH] == [8, 16, 8, 8, 8, 8]


def test_rule_only_a_pacing_bucket_bounds_who_waits() -> None:
    """A pacing bucket holds its capacity; other rules leave it to the shell."""
    assert [rule.most_waiting for rule in ONE_OF_EACH] == [math.inf] * 5 + [4]


@given(now=st.floats(-1e9, 1e9), ahead=st.floats(1e-9, 1e9))
def test_wait_reaches_its_moment_as_floats_add(now: float, ahead: float) -> None:
    """`now + wait` is not below the moment, and a wait two floats shorter would be."""
    moment = now + ahead
    assume(moment > now)
    wait = seconds_until(moment, now)
    assert now + wait >= moment
    assert wait - (moment - now) <= math.ulp(wait)


NAN = math.nan


@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow, SlidingLog])
@pytest.mark.parametrize(
    ("limit", "seconds", "name"),
    [
        (0, 1.0, "limit"), (-1, 1.0, "limit"), (1.5, 1.0, "limit"), (True, 1.0, "limit"),
        (1, 0.0, "seconds"), (1, -1.0, "seconds"), (1, NAN, "seconds"), (1, math.inf, "seconds"),
    ],
)  # fmt: skip
def test_window_parameters_that_mean_nothing(
    kind: Any, limit: Any, seconds: float, name: str
) -> None:
    """They raise, and the message names the parameter."""
    with pytest.raises(ValueError, match=name):
        kind(limit=limit, seconds=seconds)


@pytest.mark.parametrize("kind", [TokenBucket, LeakyBucket])
@pytest.mark.parametrize(
    ("rate", "capacity", "name"),
    [
        (0.0, 1, "rate"), (-1.0, 1, "rate"), (NAN, 1, "rate"), (math.inf, 1, "rate"),
        (1e-308, 10**9, "rate"), (1.0, 0, "capacity"), (1.0, -1, "capacity"),
        (1.0, 1.5, "capacity"), (1.0, NAN, "capacity"),
    ],
)  # fmt: skip
def test_bucket_parameters_that_mean_nothing(
    kind: Any, rate: float, capacity: Any, name: str
) -> None:
    """They raise, and the message names the parameter."""
    with pytest.raises(ValueError, match=name):
        kind(rate=rate, capacity=capacity)
