"""The breaker as a policy: its forms, what counts in them, its parameters."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import BulkheadFull, CircuitOpen
from bulkhead_trio.policies.breaker import (
    BreakerState,
    CircuitBreaker,
    Consecutive,
    CountWindow,
    TimeWindow,
)
from bulkhead_trio.policies.policy import Kind
from tests.policies.breaker._backend import BackendError, answer, fail, failing

# --- forms ---------------------------------------------------------------------------------------


async def test_breaker_forms_count_alike() -> None:
    """`call`, a decorated function, `async with` and `permit`: each of them is a call."""
    breaker = CircuitBreaker("forms", window=CountWindow(100))
    assert breaker.kind is Kind.BREAKER
    assert breaker.name == "forms"

    @breaker
    async def decorated(value: int, *, fails: bool) -> int:
        """Documented."""
        if fails:
            raise BackendError
        return value

    assert decorated.__name__ == "decorated"
    assert await decorated(3, fails=False) == 3
    assert await breaker.call(answer, 4) == 4
    async with breaker:
        async with breaker:
            pass
    with breaker.permit():
        pass
    with pytest.raises(BackendError):
        await decorated(3, fails=True)
    with pytest.raises(BackendError):
        async with breaker:
            raise BackendError
    with pytest.raises(BackendError), breaker.permit():
        raise BackendError
    statistics = breaker.statistics()
    assert (statistics.calls, statistics.failures) == (8, 3)
    assert (statistics.succeeded, statistics.failed) == (5, 3)


async def test_breaker_open_refuses_every_form(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing is called, and the refusal is a `Rejected` with its reason."""
    breaker = CircuitBreaker("open", window=Consecutive(1))
    await failing(breaker)
    with pytest.raises(CircuitOpen, match="open is open") as refused:
        await breaker.call(fail)
    assert refused.value.reason == "circuit_open"
    assert refused.value.retry_after == pytest.approx(60.0)
    with pytest.raises(CircuitOpen):
        async with breaker:
            raise AssertionError("must not run")
    with pytest.raises(CircuitOpen), breaker.permit():
        raise AssertionError("must not run")
    assert breaker.statistics().refused == 3


async def test_permit_is_for_one_call_at_a_time() -> None:
    """Entered twice it says so, and harms nothing; once left it can be used again."""
    breaker = CircuitBreaker("permit")
    permit = breaker.permit()
    with permit:
        with pytest.raises(RuntimeError, match="this permit of permit is in use"):
            permit.__enter__()
    with permit:
        pass
    assert breaker.statistics().succeeded == 2


def test_breaker_outside_trio_says_so() -> None:
    """It needs Trio's clock."""
    with pytest.raises(RuntimeError):
        CircuitBreaker("outside").permit().__enter__()


async def test_call_that_is_cancelled_already_does_not_start() -> None:
    """Neither the work nor a count."""
    breaker = CircuitBreaker("cancelled")
    with trio.CancelScope() as scope:
        scope.cancel()
        await breaker.call(fail)
    assert scope.cancelled_caught
    statistics = breaker.statistics()
    assert (statistics.succeeded, statistics.failed, statistics.ignored) == (0, 0, 0)


# --- what counts ---------------------------------------------------------------------------------


async def test_results_can_be_failures() -> None:
    """By `call` and decorator a result is recorded, ignored or a success; it is returned anyway."""
    breaker = CircuitBreaker(
        "results",
        window=CountWindow(10),
        minimum_number_of_calls=4,
        record_result=lambda status: status >= 500,
        ignore_result=lambda status: status == 501,
    )
    for status in (200, 503, 501, 501, 404):
        assert await breaker.call(answer, status) == status
    statistics = breaker.statistics()
    assert (statistics.calls, statistics.failures, statistics.ignored) == (3, 1, 2)
    assert await breaker.call(answer, 500) == 500
    assert breaker.statistics().state is BreakerState.OPEN


@pytest.mark.parametrize("option", ["record_result", "ignore_result", "record", "ignore"])
async def test_breaker_function_that_raises_costs_no_permit(
    option: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The caller gets the mistake; the call counts neither way, and the probe's place is free."""

    def broken(value: object) -> bool:
        raise ZeroDivisionError(value)

    breaker = CircuitBreaker("broken", window=Consecutive(1), **{option: broken})  # type: ignore[arg-type]
    work = answer if "result" in option else fail
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await breaker.call(work, 0)
    statistics = breaker.statistics()
    assert (statistics.ignored, statistics.failures) == (2, 0)


async def test_breaker_half_open_keeps_its_place_when_a_function_raises(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A predicate that breaks down during a probe gives the place back."""
    breaker = CircuitBreaker(
        "broken", window=Consecutive(1), record_result=lambda value: 1 / value > 1
    )
    await failing(breaker)
    await trio.sleep(60)
    with pytest.raises(ZeroDivisionError):
        await breaker.call(answer, 0)
    assert breaker.statistics().probes == 0
    assert await breaker.call(answer, 1) == 1
    assert breaker.statistics().state is BreakerState.CLOSED


async def test_refusals_within_never_count() -> None:
    """What another policy refuses inside is no failure, alone or in a group, and no success."""
    breaker = CircuitBreaker("outer", window=Consecutive(2), record=lambda error: error is not None)

    async def refuse(error: Exception) -> None:
        raise error

    await failing(breaker)
    for error in (BulkheadFull("full"), ExceptionGroup("", [BulkheadFull("full")])):
        with pytest.raises(type(error)):
            await breaker.call(refuse, error)
    statistics = breaker.statistics()
    assert (statistics.failures, statistics.ignored) == (1, 2)


@pytest.mark.parametrize("window", [CountWindow(4), TimeWindow(1000.0)])
async def test_slow_calls_open_by_their_own_share(
    window: CountWindow | TimeWindow, autojump_clock: trio.testing.MockClock
) -> None:
    """A call is slow only when it takes longer than the threshold, whether it fails or not."""
    breaker = CircuitBreaker(
        "slow",
        window=window,
        failure_rate_threshold=1.0,
        slow_call_duration_threshold=2.0,
        slow_call_rate_threshold=0.5,
        minimum_number_of_calls=4,
    )
    await breaker.call(trio.sleep, 2.0)
    await breaker.call(trio.sleep, 2.5)
    await breaker.call(trio.sleep, 0)
    assert breaker.statistics().slow_rate == pytest.approx(1 / 3)
    with pytest.raises(BackendError):
        await breaker.call(fail, 3.0)
    statistics = breaker.statistics()
    assert statistics.state is BreakerState.OPEN
    assert (statistics.slow_rate, statistics.failure_rate) == (0.5, 0.25)


async def test_slow_calls_are_failures_to_consecutive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """So many slow calls in a row open it."""
    breaker = CircuitBreaker("slow", window=Consecutive(2), slow_call_duration_threshold=2.0)
    async with breaker:
        await trio.sleep(3)
    with breaker.permit():
        await trio.sleep(3)
    statistics = breaker.statistics()
    assert (statistics.state, statistics.failures) == (BreakerState.OPEN, 2)
    assert (statistics.succeeded, statistics.failed) == (2, 0)


async def test_time_window_forgets_while_nobody_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Failures that are too old are neither shown nor held against it."""
    breaker = CircuitBreaker("time", window=TimeWindow(10.0), minimum_number_of_calls=4)
    await failing(breaker, 3)
    assert breaker.statistics().failure_rate == 1.0
    await trio.sleep(10)
    statistics = breaker.statistics()
    assert (statistics.calls, statistics.failures, statistics.failure_rate) == (0, 0, None)
    await failing(breaker, 3)
    assert breaker.statistics().state is BreakerState.CLOSED
    await failing(breaker)
    assert breaker.statistics().state is BreakerState.OPEN


async def test_wait_in_open_grows_by_its_schedule(autojump_clock: trio.testing.MockClock) -> None:
    """Each opening without having closed between takes the next wait; closing starts over."""
    breaker = CircuitBreaker("grows", window=Consecutive(1), wait_in_open=[1.0, 10.0, 100.0])
    for expected in (1.0, 10.0, 100.0, 100.0):
        await failing(breaker)
        assert breaker.statistics().retry_after == pytest.approx(expected)
        await trio.sleep(expected)
    await breaker.call(answer, 1)
    await failing(breaker)
    assert breaker.statistics().retry_after == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("window", {"window": None}),
        ("wait_in_open", {"wait_in_open": -1}),
        ("permitted_calls_in_half_open", {"permitted_calls_in_half_open": 0}),
        ("success_threshold", {"success_threshold": 0}),
        ("max_wait_in_half_open", {"max_wait_in_half_open": 0}),
        ("failure_rate_threshold", {"failure_rate_threshold": 1.5}),
        ("slow_call_rate_threshold", {"slow_call_rate_threshold": 0.5}),
        ("slow_call_duration_threshold", {"slow_call_duration_threshold": -1}),
        ("minimum_number_of_calls", {"minimum_number_of_calls": 0}),
        ("ignore", {"ignore": trio.Cancelled}),
        ("record", {"record": BaseException}),
        ("ignore_result", {"ignore_result": 1}),
        ("record_result", {"record_result": 1}),
    ],
)
def test_breaker_nonsense_is_refused_by_name(name: str, options: dict[str, Any]) -> None:
    """Each parameter is checked, at construction."""
    with pytest.raises(ValueError, match=f"^{name} "):
        CircuitBreaker("nonsense", **options)
