"""When to try again: the waits, their bounds, the order of the reasons; the budget's bound."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bulkhead_trio.policies.retry._rules import JITTERS, Budget, Jitter, Reason, Schedule

SECONDS = st.integers(0, 400).map(lambda quarters: quarters / 4)
RANDOM = st.floats(0, 1, exclude_max=True)


def schedule(**changes: Any) -> Schedule:
    settings = {"attempts": 3, "base_delay": 1.0, "max_delay": 10.0, "jitter": "none"}
    return Schedule(**{**settings, **changes})


# --- how long ------------------------------------------------------------------------------------


def test_schedule_without_jitter_doubles_up_to_its_cap() -> None:
    """From the base on, whatever chance says."""
    delays = [schedule().delay(tries, previous=1, random=0.7) for tries in range(1, 7)]
    assert delays == [1, 2, 4, 8, 10, 10]


def test_schedule_with_full_jitter_takes_a_share_of_that() -> None:
    """0 at the one end, all of it at the other."""
    full = schedule(jitter="full")
    assert [full.delay(tries, previous=1, random=0.5) for tries in range(1, 7)] == [
        0.5,
        1,
        2,
        4,
        5,
        5,
    ]
    assert full.delay(3, previous=1, random=0) == 0


def test_schedule_with_decorrelated_jitter_grows_from_the_last_delay() -> None:
    """From the base to three times the last one, up to the cap; the number of tries is nothing."""
    decorrelated = schedule(jitter="decorrelated")
    assert decorrelated.delay(1, previous=1, random=0) == 1
    assert decorrelated.delay(1, previous=1, random=0.5) == 2
    assert decorrelated.delay(9, previous=2, random=0.5) == 3.5
    assert decorrelated.delay(2, previous=8, random=0.9) == 10


@given(
    base=SECONDS,
    more=SECONDS,
    jitter=st.sampled_from(JITTERS),
    randoms=st.lists(RANDOM, min_size=1, max_size=30),
)
def test_schedule_delays_are_within_their_bounds(
    base: float, more: float, jitter: Jitter, randoms: list[float]
) -> None:
    """For any chance: never negative, never above the cap, and within what each jitter says."""
    cap = base + more
    rule = schedule(base_delay=base, max_delay=cap, jitter=jitter, attempts=50)
    previous = base
    for tries, random in enumerate(randoms, start=1):
        delay = rule.delay(tries, previous=previous, random=random)
        ceiling = min(cap, base * 2 ** (tries - 1))
        assert 0 <= delay <= cap
        match jitter:
            case "none":
                assert delay == ceiling
            case "full":
                assert delay <= ceiling
                assert math.isclose(delay, random * ceiling)
            case "decorrelated":
                assert base <= delay <= max(base, 3 * previous)
        previous = delay


@pytest.mark.parametrize("jitter", JITTERS)
def test_schedule_of_very_many_tries_overflows_nowhere(jitter: Jitter) -> None:
    """The ten-thousandth wait is still a number of seconds, the cap."""
    rule = schedule(jitter=jitter, base_delay=1e10, max_delay=1e300)
    assert rule.delay(10_000, previous=1e300, random=0.999) <= 1e300
    assert schedule().delay(1001, previous=1, random=0) == 10
    exact = schedule(base_delay=2.0**-999, max_delay=1e308)
    assert exact.delay(1001, previous=0, random=0) == 2.0
    assert exact.delay(1000, previous=0, random=0) == 1.0
    assert exact.delay(1002, previous=0, random=0) == 2.0


def test_jitters_are_those_of_the_type() -> None:
    """What is checked when it runs is what is checked before."""
    assert get_args(Jitter) == JITTERS


# --- whether -------------------------------------------------------------------------------------


def wait(tries: int = 1, **changes: Any) -> float | Reason:
    given: dict[str, Any] = {"delay": 2.0, "retry_after": None, "now": 100.0, "deadline": math.inf}
    return schedule().wait(tries, **{**given, **changes})


def test_wait_is_the_delay_while_there_are_tries() -> None:
    """Three tries are two waits."""
    assert wait(1) == 2
    assert wait(2) == 2
    assert wait(3) is Reason.ATTEMPTS
    assert wait(4) is Reason.ATTEMPTS


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        (None, 2.0),
        (0.0, 2.0),
        (-1.0, 2.0),
        (1.9, 2.0),
        (2.5, 2.5),
        (10.0, 10.0),
        (10.1, Reason.RETRY_AFTER),
        (math.inf, Reason.RETRY_AFTER),
    ],
)
def test_wait_obeys_retry_after_up_to_the_cap(
    retry_after: float | None, expected: float | Reason
) -> None:
    """At least that long; when it is more than any wait may be, not at all."""
    assert wait(retry_after=retry_after) == expected


@pytest.mark.parametrize(
    ("deadline", "retry_after", "expected"),
    [
        (102.1, None, 2.0),
        (102.0, None, Reason.DEADLINE),
        (101.0, None, Reason.DEADLINE),
        (-math.inf, None, Reason.DEADLINE),
        (105.0, 4.9, 4.9),
        (105.0, 5.0, Reason.DEADLINE),
        (105.0, 11.0, Reason.RETRY_AFTER),
    ],
)
def test_wait_ends_before_the_deadline(
    deadline: float, retry_after: float | None, expected: float | Reason
) -> None:
    """A try that could only begin at the deadline is none."""
    assert wait(deadline=deadline, retry_after=retry_after) == expected


def test_wait_without_any_delay_ends_before_the_deadline_too() -> None:
    """With no delay there is a try as long as there is any time, and none at the deadline."""
    assert wait(delay=0.0, deadline=100.1) == 0
    assert wait(delay=0.0, deadline=100.0) is Reason.DEADLINE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempts": 0}, "attempts must be a whole number, 1 or more"),
        ({"attempts": 1.5}, "attempts must be a whole number"),
        ({"attempts": True}, "attempts must be a whole number"),
        ({"base_delay": -0.1}, "base_delay must be 0 or more seconds"),
        ({"base_delay": math.nan}, "base_delay must be 0 or more seconds"),
        ({"max_delay": math.inf}, "max_delay must be 0 or more seconds"),
        ({"base_delay": 2.0, "max_delay": 1.0}, "max_delay must not be below base_delay"),
        ({"jitter": "some"}, "jitter must be one of full, decorrelated, none, not 'some'"),
    ],
)
def test_schedule_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=message):
        schedule(**changes)


def test_schedule_may_have_nothing_to_wait_and_a_single_try() -> None:
    """The least of everything makes sense."""
    least = schedule(attempts=1, base_delay=0, max_delay=0, jitter="full")
    assert least.delay(1, previous=0, random=0.9) == 0
    assert schedule(base_delay=3.0, max_delay=3.0).delay(5, previous=0, random=0) == 3


# --- the budget ----------------------------------------------------------------------------------


def test_budget_grants_the_minimum_without_calls() -> None:
    """Three, and three again when these are out of view: the window and a tenth of it later."""
    budget = Budget(ratio=0.2, min_retries=3, window=10.0)
    assert [budget.take(0.5) for _ in range(4)] == [0, 0, 0, None]
    assert budget.take(10.9) is None
    assert [budget.take(11.0) for _ in range(4)] == [11, 11, 11, None]
    assert budget.retries(11.0) == 3


def test_budget_grants_the_share_where_it_is_more() -> None:
    """Twenty calls are four retries, nineteen are three; the two do not add up."""
    budget = Budget(ratio=0.2, min_retries=3, window=10.0)
    for _ in range(19):
        budget.called(1.0)
    assert [budget.take(1.0) is not None for _ in range(4)] == [True, True, True, False]
    budget.called(1.0)
    assert budget.calls(1.0) == 20
    assert budget.allowed(1.0) == 4
    assert budget.take(1.0) is not None
    assert budget.take(1.0) is None


def test_budget_calls_are_in_view_for_the_window_at_most() -> None:
    """Their bucket is gone when the window has passed since it began."""
    budget = Budget(ratio=1.0, min_retries=0, window=10.0)
    budget.called(0.5)
    assert budget.take(9.9) is not None
    other = Budget(ratio=1.0, min_retries=0, window=10.0)
    other.called(0.5)
    assert other.allowed(10.0) == 0
    assert other.take(10.0) is None


def test_budget_takes_back_what_was_not_used() -> None:
    """It can be granted again."""
    budget = Budget(ratio=0.2, min_retries=1, window=10.0)
    grant = budget.take(0.0)
    assert grant is not None
    assert budget.take(4.0) is None
    budget.give_back(grant, 5.0)
    assert budget.retries(5.0) == 0
    assert budget.take(5.0) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 0}, "ratio must be above 0 and at most 1"),
        ({"ratio": 1.1}, "ratio must be above 0 and at most 1"),
        ({"ratio": math.nan}, "ratio must be above 0"),
        ({"min_retries": -1}, "min_retries must be a whole number, 0 or more"),
        ({"min_retries": 0.5}, "min_retries must be a whole number"),
        ({"window": 0}, "window must be a positive number of seconds"),
        ({"window": math.inf}, "window must be a positive number of seconds"),
    ],
)
def test_budget_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=message):
        Budget(**{"ratio": 0.2, "min_retries": 3, "window": 10.0, **changes})


class BudgetMachine(RuleBasedStateMachine):
    """Random calls, retries and give-backs, against a log of the times of everything."""

    WINDOW = 10.0

    @initialize(
        ratio=st.sampled_from([0.125, 0.25, 0.5, 1.0]),
        min_retries=st.integers(0, 3),
        start=st.integers(0, 50),
    )
    def begin(self, ratio: float, min_retries: int, start: int) -> None:
        self.ratio, self.min_retries = ratio, min_retries
        self.budget = Budget(ratio=ratio, min_retries=min_retries, window=self.WINDOW)
        self.now = start / 4
        self.calls: list[float] = []
        self.retries: list[tuple[float, int]] = []

    @rule(quarters=st.integers(0, 60))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(count=st.integers(1, 9))
    def calls_come(self, count: int) -> None:
        for _ in range(count):
            self.budget.called(self.now)
            self.calls.append(self.now)

    @rule()
    def a_retry_is_asked_for(self) -> None:
        allowed = max(self.min_retries, self.ratio * self._calls_in_view())
        grant = self.budget.take(self.now)
        assert (grant is not None) == (self._retries_in_view() + 1 <= allowed)
        if grant is not None:
            self.retries.append((self.now, grant))
            # The promise itself, in true seconds rather than buckets.
            since = self.now - self.WINDOW
            recent_calls = sum(at > since for at in self.calls)
            recent_retries = sum(at > since for at, _ in self.retries)
            assert recent_retries <= max(self.min_retries, self.ratio * recent_calls)

    @precondition(lambda self: self.retries)
    @rule(data=st.data())
    def a_retry_is_given_back(self, data: st.DataObject) -> None:
        retry = data.draw(st.sampled_from(self.retries))
        self.retries.remove(retry)
        self.budget.give_back(retry[1], self.now)

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        if hasattr(self, "budget"):
            assert self.budget.calls(self.now) == self._calls_in_view()
            assert self.budget.retries(self.now) == self._retries_in_view()

    def _calls_in_view(self) -> int:
        return sum(int(at) > int(self.now) - 10 for at in self.calls)

    def _retries_in_view(self) -> int:
        return sum(int(at) > int(self.now) - 11 for at, _ in self.retries)


TestBudgetMachine = BudgetMachine.TestCase
