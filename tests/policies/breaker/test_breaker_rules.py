"""The breaker's moves at each boundary, its table, and its parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bulkhead_trio.policies.breaker import (
    BreakerOutcome,
    BreakerState,
    Consecutive,
    CountWindow,
    TimeWindow,
)
from bulkhead_trio.policies.breaker._rules import (
    MOVES,
    Trigger,
    admitted,
    closed_at,
    ended,
    failures_of,
    has_room,
    seconds_left,
    settled,
    shown,
    transition,
)
from bulkhead_trio.policies.breaker._states import (
    Closed,
    Disabled,
    ForcedOpen,
    HalfOpen,
    Limits,
    Open,
    State,
    limits_of,
)

SOUND: dict[str, Any] = {
    "window": Consecutive(3),
    "failure_rate_threshold": None,
    "slow_call_duration_threshold": None,
    "slow_call_rate_threshold": None,
    "minimum_number_of_calls": None,
    "wait_in_open": 10.0,
    "permitted_calls_in_half_open": 1,
    "success_threshold": 1,
    "max_wait_in_half_open": None,
}

OK, FAILED, IGNORED = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE, BreakerOutcome.IGNORED


def limits(**options: Any) -> Limits:
    return limits_of(**{**SOUND, **options})


# --- boundaries ----------------------------------------------------------------------------------


def opened(rules: Limits, now: float = 0.0) -> Open:
    """A breaker with `Consecutive` that has just opened."""
    state: State = closed_at(now, rules)
    assert isinstance(rules.window, Consecutive)
    for _ in range(rules.window.failures):
        state = ended(state, state.epoch, FAILED, False, rules, now)
    assert isinstance(state, Open)
    return state


def probed(rules: Limits, outcomes: str, *, permits: int | None = None) -> State:
    """After probes that ended as the letters say: good, bad, slow, ignored; all run at once."""
    at = 100.0
    state: State = Open(epoch=1, tally=rules.window.empty(at), failures=3, openings=1, until=at)
    for _ in range(len(outcomes) if permits is None else permits):
        state = admitted(state, rules, at)
    epoch = state.epoch
    for letter in outcomes:
        outcome = {"g": OK, "b": FAILED, "s": OK, "i": IGNORED}[letter]
        state = ended(state, epoch, outcome, letter == "s", rules, at)
    return state


def test_open_lets_a_probe_in_at_the_very_moment() -> None:
    """Not before the cooldown is over, and at once when it is; the cooldown is what was asked."""
    rules = limits(wait_in_open=10.0)
    state = opened(rules, now=5.0)
    assert state.until == 15.0
    assert not has_room(state, rules, 14.99)
    assert transition(state, Trigger.CALL_ASKS, rules, 14.99) is state
    assert shown(state, 14.99) is BreakerState.OPEN
    assert seconds_left(state, 14.0) == 1.0
    assert has_room(state, rules, 15.0)
    assert shown(state, 15.0) is BreakerState.HALF_OPEN
    assert seconds_left(state, 16.0) == 0.0
    half_open = admitted(state, rules, 15.0)
    assert isinstance(half_open, HalfOpen)
    assert (half_open.probes, half_open.epoch) == (1, state.epoch + 1)


def test_every_move_starts_an_epoch() -> None:
    """Whatever state is entered, results from before do not belong to it."""
    rules = limits()
    half_open = probed(rules, "", permits=1)
    for state in (closed_at(0.0, rules), opened(rules), half_open):
        for trigger in (Trigger.FORCE_OPEN, Trigger.DISABLE, Trigger.RESET):
            assert transition(state, trigger, rules, 0.0).epoch == state.epoch + 1
    for outcome in (OK, FAILED):
        after = ended(half_open, half_open.epoch, outcome, False, rules, 0.0)
        assert after.epoch == half_open.epoch + 1
    assert closed_at(0.0, rules).epoch == 0


@pytest.mark.parametrize(
    ("permitted", "needed", "outcomes", "expected"),
    [
        (1, 1, "g", Closed), (1, 1, "b", Open), (1, 1, "s", Open), (1, 1, "i", HalfOpen),
        (5, 1, "g", Closed), (5, 1, "b", Open),
        (5, 3, "gg", HalfOpen), (5, 3, "ggg", Closed), (5, 3, "ggb", Open), (5, 3, "ggs", Open),
        (2, 2, "ig", HalfOpen),
    ],
)  # fmt: skip
def test_half_open_after_failures_in_a_row(
    permitted: int, needed: int, outcomes: str, expected: type
) -> None:
    """The successes close it, and the first bad probe opens it."""
    rules = limits(permitted_calls_in_half_open=permitted, success_threshold=needed)
    assert isinstance(probed(rules, outcomes), expected)


@pytest.mark.parametrize(
    ("permitted", "needed", "outcomes", "expected"),
    [
        (1, 1, "g", Closed), (1, 1, "b", Open), (1, 1, "s", Open),
        # half of four opens, by failures; by slow ones it takes three quarters
        (4, 1, "b", HalfOpen), (4, 1, "bb", Open), (4, 1, "bg", Closed),
        (4, 1, "ss", HalfOpen), (4, 1, "sss", Open), (4, 1, "ssg", Closed), (4, 1, "ssb", HalfOpen),
        (4, 2, "bsg", HalfOpen), (4, 2, "bsgg", Closed), (4, 1, "bssg", Closed),
        # three of four cannot be good any more
        (4, 3, "b", HalfOpen), (4, 3, "bs", Open), (4, 3, "bgg", HalfOpen), (4, 3, "bggg", Closed),
        (4, 4, "s", Open), (4, 3, "gggb", Closed),
    ],
)  # fmt: skip
def test_half_open_with_rates(permitted: int, needed: int, outcomes: str, expected: type) -> None:
    """It opens by the shares of the calls permitted, or once too few can still be good."""
    rules = limits(
        window=CountWindow(10),
        failure_rate_threshold=0.5,
        slow_call_duration_threshold=1.0,
        slow_call_rate_threshold=0.75,
        permitted_calls_in_half_open=permitted,
        success_threshold=needed,
    )
    assert isinstance(probed(rules, outcomes), expected)


def test_half_open_with_fewer_permits_than_successes() -> None:
    """The probes come one after the other, and all must be good."""
    rules = limits(window=CountWindow(10), success_threshold=3)
    state = probed(rules, "", permits=1)
    for number in range(3):
        assert isinstance(state, HalfOpen)
        assert state.good == number
        assert has_room(state, rules, 100.0) == (number > 0)
        if number:
            state = admitted(state, rules, 100.0)
        state = ended(state, state.epoch, OK, False, rules, 100.0)
    assert isinstance(state, Closed)
    assert isinstance(probed(rules, "b"), Open)


def test_half_open_takes_no_more_calls_than_it_is_judged_on() -> None:
    """Ended probes free their places only if they were ignored."""
    rules = limits(
        window=CountWindow(10), permitted_calls_in_half_open=3, failure_rate_threshold=1.0
    )
    assert not has_room(probed(rules, "", permits=3), rules, 100.0)
    assert has_room(probed(rules, "", permits=2), rules, 100.0)
    assert has_room(probed(rules, "i", permits=3), rules, 100.0)
    assert not has_room(probed(rules, "b", permits=3), rules, 100.0)
    assert has_room(probed(rules, "b", permits=2), rules, 100.0)
    state = probed(rules, "bb")
    assert isinstance(state, HalfOpen)
    assert (state.ended, state.failed, state.probes, state.good) == (2, 2, 0, 0)
    assert isinstance(probed(rules, "bbb"), Open)


def test_half_open_that_takes_too_long_opens_when_its_time_is_up() -> None:
    """At the very moment, and however late somebody looks, the cooldown begins there."""
    rules = limits(max_wait_in_half_open=6.0, wait_in_open=(10.0, 20.0))
    state = probed(rules, "", permits=1)
    assert settled(state, rules, 105.99) is state
    for looked_at in (106.0, 999.0):
        again = settled(state, rules, looked_at)
        assert isinstance(again, Open)
        assert again.until == 126.0
        assert again.openings == 2
        assert again.failures == 3
    endless = limits()
    state = probed(endless, "", permits=1)
    assert settled(state, endless, 1e12) is state


def test_wait_in_open_follows_its_schedule() -> None:
    """The next for each opening without closing between, the last for all that follow."""
    rules = limits(window=Consecutive(1), wait_in_open=(1.0, 5.0, 9.0))
    now, waits = 0.0, []
    state: State = closed_at(now, rules)
    for good in (False, False, False, False, True, False, False):
        if isinstance(state, Open):
            now = state.until
        state = admitted(state, rules, now)
        state = ended(state, state.epoch, OK if good else FAILED, False, rules, now)
        waits.append(state.until - now if isinstance(state, Open) else None)
    assert waits == [1.0, 5.0, 9.0, 9.0, None, 1.0, 5.0]


def test_failures_after_opening_are_those_that_opened_it_and_failed_probes() -> None:
    """The number tells how long it has been failing."""
    rules = limits()
    assert failures_of(opened(rules)) == 3
    assert failures_of(probed(rules, "b")) == 4
    assert failures_of(probed(rules, "i")) == 3


def test_results_in_states_that_count_nothing() -> None:
    """Disabled and forced open take note of nothing, not even of their own epoch."""
    rules = limits()
    for trigger, kind in ((Trigger.DISABLE, Disabled), (Trigger.FORCE_OPEN, ForcedOpen)):
        state = transition(closed_at(0.0, rules), trigger, rules, 0.0)
        assert isinstance(state, kind)
        assert ended(state, state.epoch, FAILED, False, rules, 0.0) is state
        assert transition(state, trigger, rules, 0.0) is state
        assert has_room(state, rules, 0.0) == (kind is Disabled)


# --- the table -----------------------------------------------------------------------------------


def test_table_says_when_and_where() -> None:
    """The moves that happen by themselves, each with its condition in words."""
    by_itself = {
        (move.source.value, move.trigger.value, move.target.value) for move in MOVES if move.when
    }
    assert by_itself == {
        ("CLOSED", "a call ended", "OPEN"),
        ("OPEN", "a call asks", "HALF_OPEN"),
        ("HALF_OPEN", "a call ended", "CLOSED"),
        ("HALF_OPEN", "a call ended", "OPEN"),
        ("HALF_OPEN", "time passed", "OPEN"),
    }
    by_hand = [move for move in MOVES if not move.when]
    assert len(by_hand) == 4 + 4 + 5
    assert all(
        move.source is not move.target for move in by_hand if "reset" not in move.trigger.value
    )


# --- parameters ----------------------------------------------------------------------------------

RATES = {"window": CountWindow(20), "slow_call_duration_threshold": 1.0}


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        *(("permitted_calls_in_half_open", value, {}) for value in (0, -1, 1.5, True)),
        *(("success_threshold", value, {}) for value in (0, -1, 2.5)),
        *(("wait_in_open", value, {}) for value in (-1.0, math.nan, math.inf, (), (1.0, -1.0))),
        *(("max_wait_in_half_open", value, {}) for value in (0.0, -1.0, math.nan, math.inf)),
        *(("slow_call_duration_threshold", value, {}) for value in (0.0, -1.0, math.nan)),
        *(("failure_rate_threshold", value, RATES) for value in (0.0, -0.1, 1.01, math.nan)),
        *(("slow_call_rate_threshold", value, RATES) for value in (0.0, -0.1, 1.01, math.nan)),
        *(("minimum_number_of_calls", value, RATES) for value in (0, -1, 1.5, 21)),
        ("slow_call_rate_threshold", 0.5, {"window": CountWindow(20)}),
        ("failure_rate_threshold", 0.5, {}),
        ("slow_call_rate_threshold", 0.5, {"slow_call_duration_threshold": 1.0}),
        ("minimum_number_of_calls", 5, {}),
        *(("window", value, {}) for value in (None, 5)),
    ],
)
def test_limits_nonsense_is_refused_by_name(name: str, value: Any, others: dict[str, Any]) -> None:
    """A value that means nothing, alone or with others, raises, and the message names it."""
    with pytest.raises(ValueError, match=f"^{name} "):
        limits(**{**others, name: value})


def test_limits_at_their_bounds_are_taken() -> None:
    """What is just still sensible is no error."""
    taken = limits(
        **RATES,
        failure_rate_threshold=1.0,
        slow_call_rate_threshold=1.0,
        minimum_number_of_calls=20,
        wait_in_open=0,
        permitted_calls_in_half_open=1,
        success_threshold=3,
    )
    assert taken.thresholds.minimum == 20
    assert taken.waits_in_open == (0.0,)
    assert taken.trial == 3


def test_limits_may_judge_a_single_call() -> None:
    """One call is enough where that is asked for."""
    assert limits(window=TimeWindow(60), minimum_number_of_calls=1).thresholds.minimum == 1


def test_limits_unless_said() -> None:
    """Half of ten calls; of all calls in a window that is smaller; slow only where asked."""
    assert limits(window=TimeWindow(60)).thresholds.minimum == 10
    assert limits(window=CountWindow(11)).thresholds.minimum == 10
    assert limits(window=CountWindow(4)).thresholds.minimum == 4
    usual = limits(window=CountWindow(100))
    assert (usual.thresholds.failure_rate, usual.thresholds.slow_rate) == (0.5, 1.0)
    assert (usual.slow_above, usual.longest_half_open) == (math.inf, math.inf)
