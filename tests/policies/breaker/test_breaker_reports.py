"""What a breaker can be told by hand, what it tells its listeners, and its statistics."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import (
    BreakerCallEnded,
    BreakerOutcome,
    BreakerRefused,
    BreakerState,
    BreakerStatistics,
    BreakerTransition,
    CircuitBreaker,
    Consecutive,
    CountWindow,
)
from tests.policies.breaker._backend import BackendError, answer, fail, failing

# --- by hand -------------------------------------------------------------------------------------


async def test_forced_open_refuses_until_it_is_reset(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However long one waits, so no `retry_after` is promised."""
    breaker = CircuitBreaker("forced")
    breaker.force_open()
    await trio.sleep(10_000)
    with pytest.raises(CircuitOpen, match="forced was forced open") as refused:
        await breaker.call(answer, 1)
    assert refused.value.retry_after is None
    with pytest.raises(CircuitOpen):
        breaker.check()
    statistics = breaker.statistics()
    assert (statistics.state, statistics.retry_after) == (BreakerState.FORCED_OPEN, 0.0)
    assert (statistics.opened, statistics.refused) == (0, 2)
    breaker.reset()
    assert await breaker.call(answer, 1) == 1


async def test_disabled_lets_everything_pass_and_counts_nothing() -> None:
    """Also what started while it was disabled and ends after that."""
    heard: list[object] = []
    breaker = CircuitBreaker("disabled", window=Consecutive(1), call_listeners=[heard.append])
    breaker.disable()
    breaker.check()
    await failing(breaker, 5)
    late = breaker.permit()
    late.__enter__()
    statistics = breaker.statistics()
    assert (statistics.state, statistics.failed, statistics.refused) == (
        BreakerState.DISABLED, 0, 0,
    )  # fmt: skip
    breaker.reset()
    late.__exit__(BackendError, BackendError(), None)
    assert breaker.statistics().state is BreakerState.CLOSED
    assert breaker.statistics().failed == 0
    assert heard == []


async def test_reset_closes_with_an_empty_window() -> None:
    """From open, and from closed with failures counted."""
    breaker = CircuitBreaker("reset", window=CountWindow(4), minimum_number_of_calls=4)
    await failing(breaker, 3)
    breaker.reset()
    assert breaker.statistics().calls == 0
    await failing(breaker, 3)
    assert breaker.statistics().state is BreakerState.CLOSED
    await failing(breaker)
    assert breaker.statistics().state is BreakerState.OPEN
    breaker.reset()
    statistics = breaker.statistics()
    assert (statistics.state, statistics.calls, statistics.retry_after) == (
        BreakerState.CLOSED, 0, 0.0,
    )  # fmt: skip


# --- metrics only --------------------------------------------------------------------------------


async def test_metrics_only_moves_and_counts_but_never_refuses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What it would have refused passes, is told as such, and moves nothing."""
    moves: list[str] = []
    heard: list[object] = []
    breaker = CircuitBreaker(
        "shadow",
        window=Consecutive(2),
        wait_in_open=10.0,
        metrics_only=True,
        listeners=[lambda move: moves.append(move.after.value)],
        call_listeners=[heard.append],
    )
    await failing(breaker, 2)
    breaker.check()
    assert await breaker.call(answer, 1) == 1
    statistics = breaker.statistics()
    assert (statistics.state, statistics.metrics_only) == (BreakerState.OPEN, True)
    assert (statistics.refused, statistics.succeeded) == (1, 1)
    refused = [record for record in heard if isinstance(record, BreakerRefused)]
    assert [(record.passed, record.state) for record in refused] == [(True, BreakerState.OPEN)]
    await trio.sleep(10)
    with breaker.permit():
        await failing(breaker)  # no probe: the place is taken
    assert moves == ["OPEN", "HALF_OPEN", "CLOSED"]
    breaker.force_open()
    assert await breaker.call(answer, 1) == 1
    assert breaker.statistics().refused == 3


# --- what it tells -------------------------------------------------------------------------------


async def test_breaker_tells_of_calls_and_refusals(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each ended call with its outcome and duration, each refusal with what it promised."""
    heard: list[object] = []
    breaker = CircuitBreaker(
        "told",
        window=Consecutive(2),
        wait_in_open=10.0,
        ignore=KeyError,
        slow_call_duration_threshold=2.0,
        call_listeners=[heard.append],
    )
    began = trio.current_time()
    await breaker.call(trio.sleep, 1)
    with pytest.raises(KeyError), breaker.permit():
        raise KeyError
    with pytest.raises(BackendError):
        await breaker.call(fail, 3)
    await failing(breaker)
    with pytest.raises(CircuitOpen):
        await breaker.call(fail)
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        breaker.check()
    assert heard == [
        BreakerCallEnded("told", BreakerOutcome.SUCCESS, began + 1 - began, False, began + 1),
        BreakerCallEnded("told", BreakerOutcome.IGNORED, 0.0, False, began + 1),
        BreakerCallEnded("told", BreakerOutcome.FAILURE, began + 4 - (began + 1), True, began + 4),
        BreakerCallEnded("told", BreakerOutcome.FAILURE, 0.0, False, began + 4),
        BreakerRefused("told", BreakerState.OPEN, 10.0, False, began + 4),
        BreakerRefused("told", BreakerState.FORCED_OPEN, None, False, began + 4),
    ]


async def test_breaker_listener_that_raises_changes_no_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Results are returned, refusals are refusals, probes come back, whatever listeners do."""

    def broken(record: object) -> None:
        raise OSError("no space left on device")

    breaker = CircuitBreaker(
        "broken", window=Consecutive(1), listeners=[broken], call_listeners=[broken]
    )
    assert await breaker.call(answer, 1) == 1
    await failing(breaker)
    with pytest.raises(CircuitOpen):
        await breaker.call(answer, 1)
    await trio.sleep(60)
    assert await breaker.call(answer, 2) == 2
    assert breaker.statistics().state is BreakerState.CLOSED


async def test_breaker_listener_may_act_on_the_breaker(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A listener that forces it open while a probe starts is obeyed; the probe ends in peace."""

    def stop(move: BreakerTransition) -> None:
        if move.after is BreakerState.HALF_OPEN:
            breaker.force_open()

    breaker: CircuitBreaker = CircuitBreaker("obeys", window=Consecutive(1), listeners=[stop])
    await failing(breaker)
    await trio.sleep(60)
    assert await breaker.call(answer, 1) == 1
    assert breaker.statistics().state is BreakerState.FORCED_OPEN


async def test_breaker_manual_moves_are_told_once() -> None:
    """What changes nothing is not told."""
    moves: list[tuple[str, str]] = []
    breaker = CircuitBreaker(
        "manual", listeners=[lambda move: moves.append((move.before.value, move.after.value))]
    )
    for act in (breaker.reset, breaker.force_open, breaker.force_open, breaker.disable):
        act()
    breaker.disable()
    breaker.reset()
    assert moves == [
        ("CLOSED", "FORCED_OPEN"), ("FORCED_OPEN", "DISABLED"), ("DISABLED", "CLOSED"),
    ]  # fmt: skip


# --- statistics ----------------------------------------------------------------------------------


async def test_breaker_statistics_say_all(autojump_clock: trio.testing.MockClock) -> None:
    """Before, closed, open and half open; what opened it stays to be seen."""
    breaker = CircuitBreaker(
        "all", window=CountWindow(4), wait_in_open=10.0, permitted_calls_in_half_open=2,
        success_threshold=2, ignore=KeyError,
    )  # fmt: skip
    expected: dict[str, Any] = {
        "name": "all", "state": BreakerState.CLOSED, "failures": 0, "calls": 0,
        "failure_rate": None, "slow_rate": None, "retry_after": 0.0, "probes": 0, "opened": 0,
        "refused": 0, "succeeded": 0, "failed": 0, "ignored": 0, "metrics_only": False,
    }  # fmt: skip
    assert breaker.statistics() == BreakerStatistics(**expected)
    await breaker.call(answer, 1)
    await failing(breaker)
    with pytest.raises(KeyError), breaker.permit():
        raise KeyError
    expected |= {
        "failures": 1, "calls": 2, "failure_rate": 0.5, "slow_rate": 0.0, "succeeded": 1,
        "failed": 1, "ignored": 1,
    }  # fmt: skip
    assert breaker.statistics() == BreakerStatistics(**expected)
    await failing(breaker, 2)
    await trio.sleep(4)
    expected |= {
        "state": BreakerState.OPEN, "failures": 3, "calls": 4, "failure_rate": 0.75,
        "retry_after": pytest.approx(6.0), "opened": 1, "failed": 3,
    }  # fmt: skip
    assert breaker.statistics() == BreakerStatistics(**expected)
    await trio.sleep(6)
    expected |= {"state": BreakerState.HALF_OPEN, "retry_after": 0.0}
    assert breaker.statistics() == BreakerStatistics(**expected)
    with breaker.permit():
        assert breaker.statistics() == BreakerStatistics(**expected | {"probes": 1})


async def test_breaker_statistics_of_consecutive_know_no_rates() -> None:
    """A run of failures is no share of anything."""
    breaker = CircuitBreaker("run")
    await failing(breaker)
    statistics = breaker.statistics()
    assert (statistics.failures, statistics.calls) == (1, 1)
    assert (statistics.failure_rate, statistics.slow_rate) == (None, None)
