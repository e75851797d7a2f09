"""Retry: when it tries again, exactly how long it waits, which errors and results."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    InvalidHeader,
    RateLimited,
)
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.retry import (
    GaveUp,
    Reason,
    Retry,
    RetryBudget,
    Retrying,
    is_worth_retrying,
)
from tests.policies.retry._script import Script, given_up

# --- tries and waits -----------------------------------------------------------------------------


async def test_retry_of_what_works_calls_once() -> None:
    """Arguments and result pass through."""
    retry = Retry(name="rows")

    async def add(a: int, b: int) -> int:
        return a + b

    assert retry.kind is Kind.RETRY
    assert await retry.call(add, 1, 2) == 3
    statistics = retry.statistics()
    assert (statistics.name, statistics.calls, statistics.tries) == ("rows", 1, 1)
    assert (statistics.succeeded, statistics.retried, statistics.active) == (1, 0, 0)
    assert statistics.cancelled == 0
    assert given_up(retry) == {}


@pytest.mark.parametrize(
    ("jitter", "begun"),
    [
        ("none", [0, 1, 3, 7, 12]),
        ("full", [0, 0.5, 1.5, 3.5, 6]),
        ("decorrelated", [0, 2, 5.5, 10.5, 15.5]),
    ],
)
async def test_retry_waits_exactly_as_its_jitter_says(
    autojump_clock: MockClock, jitter: Any, begun: list[float]
) -> None:
    """Each try begins when the sum of the waits says, and no try comes after the last one."""
    chance = iter([0.5, 0.5, 0.9375, 0.9375] if jitter == "decorrelated" else [0.5] * 4)
    retry = Retry(5, base_delay=1, max_delay=5, jitter=jitter, random=lambda: next(chance, 0.5))
    work = Script(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await retry.call(work)
    assert work.begun == begun
    assert given_up(retry) == {Reason.ATTEMPTS: 1}
    assert (retry.statistics().tries, retry.statistics().retried) == (5, 4)


async def test_retry_succeeds_at_a_later_try(autojump_clock: MockClock) -> None:
    """Then the errors before are forgotten; by decorator too, with keywords."""
    retry = Retry(jitter="none")
    work = Script(ValueError(), OSError(), "here")

    @retry
    async def fetch(*, again: bool) -> object:
        assert again
        return await work()

    assert await fetch(again=True) == "here"
    assert work.begun == pytest.approx([0, 0.1, 0.3])
    assert (retry.statistics().succeeded, given_up(retry)) == (1, {})


async def test_retry_raises_the_last_error_unchanged(autojump_clock: MockClock) -> None:
    """The very object, with a note of the tries; a note is not added twice."""
    first, last = ValueError("first"), ValueError("last")
    retry = Retry(2, name="rows")
    for _ in range(3):
        with pytest.raises(ValueError, match="last") as caught:
            await retry.call(Script(first, last))
        assert caught.value is last
    assert last.__notes__ == ["rows: gave up after 2 tries (attempts)"]
    assert not hasattr(first, "__notes__")
    with pytest.raises(ValueError, match="first"):
        await Retry(1).call(Script(first))
    assert first.__notes__ == ["retry: gave up after 1 try (attempts)"]


# --- which errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ValueError(), True),
        (DeadlineExceeded("slow"), True),
        (BulkheadFull("full"), False),
        (BulkheadFull("full", retry_after=0.5), True),
        (BulkheadFull("full", retry_after=0.0), True),
        (InvalidHeader("wrong", retry_after=1), False),
    ],
)
async def test_retry_by_default_tries_what_may_help(
    autojump_clock: MockClock, error: Exception, again: bool
) -> None:
    """Not the caller's mistakes, nor refusals that name no time to come back."""
    assert is_worth_retrying(error) == again
    retry = Retry()
    work = Script(error, "well")
    if again:
        assert await retry.call(work) == "well"
        return
    with pytest.raises(type(error)):
        await retry.call(work)
    assert len(work.begun) == 1
    assert not hasattr(error, "__notes__")
    assert given_up(retry) == {Reason.NOT_RETRYABLE: 1}


@pytest.mark.parametrize(
    ("retry_on", "again", "not_again"),
    [
        (OSError, ConnectionError(), ValueError()),
        ((OSError, ValueError), ValueError(), KeyError()),
        (lambda error: "busy" in str(error), KeyError("busy"), KeyError("gone")),
        (BulkheadFull, BulkheadFull("told to, whatever it says"), ValueError()),
    ],
)
async def test_retry_on_says_what_to_try_again(
    autojump_clock: MockClock, retry_on: Any, again: Exception, not_again: Exception
) -> None:
    """Types or a function; what is said counts instead of the default."""
    retry = Retry(retry_on=retry_on)
    assert await retry.call(Script(again, "well")) == "well"
    with pytest.raises(type(not_again)):
        await retry.call(Script(not_again, "never"))
    with pytest.raises(type(not_again)) as caught:
        await retry.call(Script(again, not_again, "never"))
    assert caught.value.__notes__ == ["retry: gave up after 2 tries (not_retryable)"]
    assert given_up(retry) == {Reason.NOT_RETRYABLE: 2}


async def test_retry_of_a_group_needs_every_leaf(autojump_clock: MockClock) -> None:
    """One that is not to be tried again keeps all from it; the longest wait asked for counts."""
    retry = Retry(retry_on=(OSError, RateLimited), jitter="none")
    mixed = ExceptionGroup("", [OSError(), ExceptionGroup("", [KeyError()])])
    with pytest.raises(ExceptionGroup):
        await retry.call(Script(mixed, "never"))
    asking = ExceptionGroup(
        "",
        [
            RateLimited("", retry_after=3),
            ExceptionGroup("", [RateLimited("", retry_after=7), OSError()]),
            RateLimited(""),
        ],
    )
    work = Script(asking, "well")
    assert await retry.call(work) == "well"
    assert work.begun == [0, 7]


async def test_retry_obeys_retry_after(autojump_clock: MockClock) -> None:
    """It waits at least that long; its own delay where that is longer; any error may ask."""

    class Busy(Exception):
        def __init__(self, retry_after: object) -> None:
            self.retry_after = retry_after

    retry = Retry(6, base_delay=1, jitter="none", max_delay=10)
    work = Script(Busy(5), Busy(0.5), Busy("soon"), Busy(math.nan), Busy(-3), "well")
    assert await retry.call(work) == "well"
    assert work.begun == [0, 5, 7, 11, 19, 29]


async def test_retry_told_to_wait_longer_than_its_cap_gives_up_at_once(
    autojump_clock: MockClock,
) -> None:
    """Coming back sooner would disobey, sleeping longer was not agreed to."""
    retry = Retry(max_delay=10)
    assert await retry.call(Script(CircuitOpen("", retry_after=10), "well")) == "well"
    begun = trio.current_time()
    with pytest.raises(CircuitOpen):
        await retry.call(Script(CircuitOpen("", retry_after=10.5), "never"))
    assert trio.current_time() == begun
    assert given_up(retry) == {Reason.RETRY_AFTER: 1}


# --- results -------------------------------------------------------------------------------------


async def test_retry_of_a_result_that_is_not_good_enough(autojump_clock: MockClock) -> None:
    """It is tried again; when nothing more can be tried, the last one is returned."""
    told: list[Retrying | GaveUp] = []
    retry = Retry(
        base_delay=1, jitter="none", retry_result=lambda r: r != "ready", listeners=[told.append]
    )
    assert await retry.call(Script("not yet", "ready")) == "ready"
    assert await retry.call(Script("not yet", "nearly", "soon")) == "soon"
    with trio.fail_after(1):
        assert await retry.call(Script("not yet", "ready")) == "not yet"
    assert given_up(retry) == {Reason.ATTEMPTS: 1, Reason.DEADLINE: 1}
    assert retry.statistics().succeeded == 1
    assert told == [
        Retrying("", 2, 1, None, 0),
        Retrying("", 2, 1, None, 1),
        Retrying("", 3, 2, None, 2),
        GaveUp("", 3, Reason.ATTEMPTS, None, 4),
        GaveUp("", 1, Reason.DEADLINE, None, 4),
    ]


async def test_retry_with_a_predicate_that_raises_is_at_rest(autojump_clock: MockClock) -> None:
    """Its error comes out, and the call is over."""

    def broken(_: object) -> bool:
        raise KeyError("predicate")

    for retry in (Retry(retry_on=broken), Retry(retry_result=broken)):
        with pytest.raises(KeyError, match="predicate"):
            await retry.call(Script("fine" if retry._retry_result else ValueError()))
        statistics = retry.statistics()
        assert (statistics.active, statistics.cancelled, statistics.tries) == (0, 1, 1)


# --- the rest ------------------------------------------------------------------------------------


async def test_retry_tells_its_listeners(autojump_clock: MockClock) -> None:
    """Before each wait and when it gives up, after it has been counted."""
    told: list[Retrying | GaveUp] = []
    counted: list[int] = []

    def note(event: Retrying | GaveUp) -> None:
        told.append(event)
        counted.append(retry.statistics().gave_up[Reason.ATTEMPTS])

    first, last = ValueError(), OSError()
    retry = Retry(2, base_delay=1, jitter="none", name="rows", listeners=[note])
    with pytest.raises(OSError):
        await retry.call(Script(first, last, takes=0.5))
    assert told == [
        Retrying("rows", 2, 1, first, 0.5),
        GaveUp("rows", 2, Reason.ATTEMPTS, last, 2),
    ]
    assert counted == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempts": 0}, "attempts"),
        ({"base_delay": -1}, "base_delay"),
        ({"max_delay": 0.05}, "max_delay"),
        ({"jitter": "half"}, "jitter"),
        ({"timeout_per_try": 0}, "timeout_per_try must be a positive number of seconds"),
        ({"timeout_per_try": math.inf}, "timeout_per_try"),
        ({"retry_on": trio.Cancelled}, "retry_on"),
    ],
)
def test_retry_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=message):
        Retry(**changes)


@pytest.mark.parametrize("changes", [{"ratio": 2}, {"min_retries": -1}, {"window": 0}])
def test_retry_budget_of_nonsense_is_refused(changes: dict[str, Any]) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        RetryBudget(**changes)


async def test_retry_jitter_by_default_is_left_to_chance(autojump_clock: MockClock) -> None:
    """The waits of the default differ, and none is longer than the schedule says."""
    delays: list[float] = []

    def note(event: Retrying | GaveUp) -> None:
        if isinstance(event, Retrying):
            delays.append(event.delay)

    retry = Retry(2, listeners=[note])
    for _ in range(20):
        with pytest.raises(ValueError):
            await retry.call(Script(ValueError()))
    assert len(set(delays)) > 10
    assert all(0 <= delay < 0.1 for delay in delays)
