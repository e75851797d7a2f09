"""Retry within a budget: what is shared, what is given back, under any schedule."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.errors import (
    BulkheadFull,
    RateLimited,
    Shed,
)
from bulkhead_trio.policies.retry import (
    GaveUp,
    Reason,
    Retry,
    RetryBudget,
    Retrying,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from tests.policies.retry._script import Script, given_up


async def test_retry_without_budget_left_gives_up_at_once(autojump_clock: MockClock) -> None:
    """The minimum is granted, what is more is not; two policies share one budget."""
    budget = RetryBudget(min_retries=3, name="shared")
    one, two = (Retry(base_delay=0, budget=budget) for _ in range(2))
    works = [Script(ValueError()) for _ in range(3)]
    for retry, work in zip((one, two, one), works, strict=True):
        with pytest.raises(ValueError) as caught:
            await retry.call(work)
    assert [len(work.begun) for work in works] == [3, 2, 1]
    assert caught.value.__notes__ == ["retry: gave up after 1 try (budget)"]
    assert given_up(one) == {Reason.ATTEMPTS: 1, Reason.BUDGET: 1}
    assert given_up(two) == {Reason.BUDGET: 1}
    statistics = budget.statistics()
    assert (statistics.name, statistics.calls, statistics.retries) == ("shared", 3, 3)
    assert (statistics.allowed, statistics.granted, statistics.refused) == (3, 3, 2)


async def test_retry_budget_by_default_is_a_fifth_and_three(autojump_clock: MockClock) -> None:
    """Three without any calls, a fifth of many, of the last ten seconds."""
    budget = RetryBudget()
    assert budget.statistics().allowed == 3
    for _ in range(24):
        budget.count_call()
    assert budget.statistics().allowed == 4
    await trio.sleep(9.75)
    assert budget.statistics().allowed == 4
    await trio.sleep(0.25)
    assert (budget.statistics().allowed, budget.statistics().calls) == (3, 0)


async def test_retry_budget_is_asked_last(autojump_clock: MockClock) -> None:
    """What would not be tried again anyway takes nothing from it."""
    budget = RetryBudget()
    retry = Retry(1, budget=budget)
    with pytest.raises(ValueError):
        await retry.call(Script(ValueError()))
    with pytest.raises(Shed):
        await Retry(budget=budget).call(Script(Shed("")))
    assert budget.statistics().retries == budget.statistics().refused == 0
    assert budget.statistics().calls == 2


async def test_retry_cancelled_in_its_wait_gives_the_budget_back(
    autojump_clock: MockClock,
) -> None:
    """A retry that never began was not made."""
    budget = RetryBudget(min_retries=1)
    retry = Retry(base_delay=5, jitter="none", budget=budget)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retry.call, Script(ValueError()))
        await trio.sleep(1)
        assert budget.statistics().granted == 1
        nursery.cancel_scope.cancel()
    statistics = budget.statistics()
    assert (statistics.granted, statistics.retries, statistics.calls) == (0, 0, 1)


async def test_retry_cancelled_anywhere_is_at_rest(autojump_clock: MockClock) -> None:
    """Whatever checkpoint it is cancelled at: nobody is active, and granted means begun."""

    async def scenario(point: CancellationPoint) -> None:
        budget = RetryBudget()
        retry = Retry(base_delay=1, budget=budget, timeout_per_try=9)
        work = Script(ValueError(), ValueError(), "well", takes=1)
        with point:
            await retry.call(work)
        statistics = retry.statistics()
        assert statistics.active == 0
        assert statistics.calls == statistics.succeeded + statistics.cancelled == 1
        assert statistics.cancelled == point.was_cancelled
        assert statistics.tries == len(work.begun)
        assert budget.statistics().granted == statistics.retried
        assert budget.statistics().retries == statistics.retried

    assert await sweep_cancellations(scenario) >= 5


OUTCOMES = st.sampled_from(["well", "bad", "busy", "full", "wrong"])
ERRORS: dict[str, Callable[[], Exception]] = {
    "bad": ValueError,
    "busy": lambda: RateLimited("", retry_after=1.5),
    "full": lambda: BulkheadFull(""),
    "wrong": lambda: RateLimited("", retry_after=60),
}
QUARTERS = st.integers(0, 40).map(lambda quarters: quarters / 4)


@given(
    attempts=st.integers(1, 4),
    ratio=st.sampled_from([0.25, 0.5]),
    min_retries=st.integers(0, 2),
    tasks=st.lists(
        st.tuples(QUARTERS, st.lists(OUTCOMES, min_size=1, max_size=5), QUARTERS, QUARTERS),
        max_size=8,
    ),
)
def test_retry_under_any_schedule_keeps_its_budget_and_its_counts(
    attempts: int,
    ratio: float,
    min_retries: int,
    tasks: list[tuple[float, list[str], float, float]],
) -> None:
    """Many tasks, random starts, outcomes, durations and cancellations, against simple lists."""
    begun: list[float] = []
    ends = {"well": 0, "error": 0, "cancelled": 0}
    granted: list[float] = []
    window = 10.0

    def check_bound(event: Retrying | GaveUp) -> None:
        if isinstance(event, Retrying):
            granted.append(event.at)
            calls = sum(at > event.at - window for at in begun)
            held = budget.statistics().retries
            assert held <= max(min_retries, ratio * calls)

    async def task(starts: float, script: list[str], takes: float, patience: float) -> None:
        await trio.sleep(starts)
        tries = 0

        async def work() -> None:
            nonlocal tries
            tries += 1
            outcome = script[min(tries, len(script)) - 1]
            await trio.sleep(takes)
            if outcome in ERRORS:
                raise ERRORS[outcome]()

        begun.append(trio.current_time())
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def lose_patience() -> None:
                    await trio.sleep(patience + 0.125)
                    scope.cancel()

                nursery.start_soon(lose_patience)
                try:
                    await retry.call(work)
                    ends["well"] += 1
                except (ValueError, BulkheadFull, RateLimited):
                    ends["error"] += 1
                nursery.cancel_scope.cancel()
        ends["cancelled"] += scope.cancelled_caught
        assert tries <= attempts
        all_tries.append(tries)

    all_tries: list[int] = []
    failures: list[AssertionError] = []

    def listener(event: Retrying | GaveUp) -> None:
        try:
            check_bound(event)
        except AssertionError as failure:
            failures.append(failure)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for one in tasks:
                nursery.start_soon(task, *one)
        statistics = retry.statistics()
        assert statistics.active == 0
        assert statistics.calls == len(tasks)
        assert statistics.succeeded == ends["well"]
        assert sum(statistics.gave_up.values()) == ends["error"]
        assert statistics.cancelled == ends["cancelled"]
        assert statistics.tries == sum(all_tries)
        assert budget.statistics().granted == statistics.retried
        assert len(granted) >= statistics.retried

    budget = RetryBudget(ratio, min_retries=min_retries, window=window)
    retry = Retry(attempts, base_delay=1, jitter="none", budget=budget, listeners=[listener])
    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not failures
