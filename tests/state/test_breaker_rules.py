"""What a shared breaker does with what Redis says of it."""

from __future__ import annotations

import pytest

from bulkhead_trio.gateway.group_settings import BreakerSettings
from bulkhead_trio.policies.breaker import BreakerOutcome, Consecutive, CountWindow, TimeWindow
from bulkhead_trio.policies.breaker._rules import closed_at, ended
from bulkhead_trio.policies.breaker._states import Closed, Open
from bulkhead_trio.state._breaker_rules import (
    MOST_RUNS,
    Report,
    Seen,
    limits_from,
    seen_in,
    state_after,
    told_rules,
)

SUCCESS, FAILURE = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE
LIMITS = limits_from(BreakerSettings(window=Consecutive(3), cooldown=10.0, successes=2))


def seen(state: str = "c", *, failures: int = 0, cooldown: float = 0.0, epoch: int = 7) -> Seen:
    return Seen(state, epoch, 1, failures, cooldown, 1 if state != "c" else 0, 0.0)


def failed(times: int) -> Closed | Open:
    state = closed_at(0.0, LIMITS)
    for _ in range(times):
        state = ended(state, state.epoch, FAILURE, False, LIMITS, 0.0)
    return state


def report(*outcomes: BreakerOutcome) -> Report:
    made = Report()
    for outcome in outcomes:
        made.add(outcome)
    return made


def test_failures_of_others_count_here() -> None:
    """And those come on top which Redis has not been told of."""
    state = state_after(
        failed(0), seen(failures=1), LIMITS, 5.0, is_same_epoch=True, report=report(FAILURE)
    )
    assert isinstance(state, Closed)
    assert state.tally.failures == 2
    assert state.epoch == 0, "calls that are under way still count in it"


def test_enough_together_open_it_before_redis_says_so() -> None:
    """Two of others and one of ours are three."""
    state = state_after(
        failed(0), seen(failures=2), LIMITS, 5.0, is_same_epoch=True, report=report(FAILURE)
    )
    assert isinstance(state, Open)
    assert state.until == 15.0


def test_opened_here_waits_for_what_redis_was_not_told() -> None:
    """Its word is older than what is on its way."""
    opened = failed(3)
    assert isinstance(opened, Open)
    kept = state_after(
        opened, seen(failures=1), LIMITS, 5.0, is_same_epoch=True, report=report(FAILURE)
    )
    assert kept is opened


def test_opened_here_wrongly_closes_when_redis_says_so() -> None:
    """A success elsewhere came between our failures."""
    state = state_after(
        failed(3), seen(failures=1), LIMITS, 5.0, is_same_epoch=True, report=Report()
    )
    assert isinstance(state, Closed)
    assert state.tally.failures == 1


def test_opened_elsewhere_opens_here() -> None:
    """With what is left of its cooldown."""
    state = state_after(
        failed(1), seen("o", failures=3, cooldown=4.0), LIMITS, 5.0, is_same_epoch=False,
        report=Report(),
    )  # fmt: skip
    assert isinstance(state, Open)
    assert (state.until, state.failures, state.epoch) == (9.0, 3, 1)


def test_half_open_elsewhere_is_an_open_one_that_may_be_asked_for() -> None:
    """Its cooldown is over."""
    state = state_after(
        failed(1), seen("h", failures=3), LIMITS, 5.0, is_same_epoch=False, report=Report()
    )
    assert isinstance(state, Open)
    assert state.until == 5.0


def test_report_keeps_the_order_and_is_bounded() -> None:
    """The oldest go, and are counted."""
    made = report(FAILURE, FAILURE, SUCCESS, FAILURE)
    assert made.take() == b"f2 s1 f1"
    assert not made
    for _ in range(MOST_RUNS):
        made.add(SUCCESS)
        made.add(FAILURE)
    assert len(made.runs) == MOST_RUNS
    assert made.dropped == MOST_RUNS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (BreakerSettings(window=Consecutive(4)), (b"c", 4, b"0.5", 10, 30_000_000, 1)),
        (
            BreakerSettings(window=CountWindow(8), failure_rate=0.07, cooldown=0.5, successes=3),
            (b"n", 8, b"0.07", 8, 500_000, 3),
        ),
        (
            BreakerSettings(window=TimeWindow(2.5), minimum_calls=3),
            (b"t", 2_500_000, b"0.5", 3, 30_000_000, 1),
        ),
    ],
)
def test_rules_are_told_as_the_script_reads_them(
    settings: BreakerSettings, words: tuple[object, ...]
) -> None:
    """Durations in microseconds, a rate with all its digits."""
    assert told_rules(limits_from(settings)) == words


def test_message_is_read_as_it_was_published() -> None:
    """The key may hold whatever a tenant's id does, but no line of it is lost."""
    key, found = seen_in(b"cb:{a b}:r:1 o 12 13 5 2500000 2 0")
    assert key == b"cb:{a b}:r:1"
    assert found == Seen("o", 12, 13, 5, 2.5, 2, 0.0)
    with pytest.raises(ValueError):
        seen_in(b"nonsense")
