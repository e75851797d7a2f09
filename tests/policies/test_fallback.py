"""Fallback: what it answers, what it lets through, what it keeps."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.errors import CircuitOpen, Rejected
from bulkhead_trio.policies.fallback import Fallback, FallbackStatistics, FellBack
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def give(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


async def fail(error: BaseException) -> object:
    await trio.lowlevel.checkpoint()
    raise error


async def test_fallback_of_what_works_is_not_asked() -> None:
    """The call's own result comes out, also one that is nothing."""
    fallback = Fallback("other", name="rows")
    assert fallback.kind is Kind.FALLBACK
    assert await fallback.call(give, "own") == "own"
    assert await fallback.call(give, None) is None
    assert fallback.statistics() == FallbackStatistics(
        name="rows", calls=2, active=0, succeeded=2, fell_back=0, failed=0, cancelled=0
    )


@pytest.mark.parametrize("value", [None, 0, [], "other"])
async def test_fallback_to_a_value(value: object) -> None:
    """The very object, also where it is false; a refusal is answered too; by decorator too."""
    fallback = Fallback(value)

    @fallback
    async def fetch(*, error: Exception) -> object:
        return await fail(error)

    assert await fetch(error=ValueError()) is value
    assert await fallback.call(fail, CircuitOpen("", retry_after=1)) is value
    assert fallback.statistics().fell_back == 2


async def test_fallback_to_what_a_function_says() -> None:
    """It gets the error; it may be async, or hand back something to wait for."""

    def plain(error: Exception) -> str:
        return f"instead of {error}"

    async def asynchronous(error: Exception) -> str:
        await trio.lowlevel.checkpoint()
        return f"instead of {error}"

    def handing_on(error: Exception) -> Awaitable[str]:
        return asynchronous(error)

    for use in (plain, asynchronous, handing_on):
        assert await Fallback(use=use).call(fail, ValueError("it")) == "instead of it"


async def test_fallback_that_fails_raises_its_own_error() -> None:
    """With the call's error as its context, whether it is async or not."""

    def plain(error: Exception) -> None:
        raise KeyError("the cache too")

    async def asynchronous(error: Exception) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("the cache too")

    first = ValueError("the call")
    for use in (plain, asynchronous):
        fallback = Fallback(use=use)
        with pytest.raises(KeyError, match="the cache too") as caught:
            await fallback.call(fail, first)
        assert caught.value.__context__ is first
        assert fallback.statistics() == FallbackStatistics("", 1, 0, 0, 0, 1, 0)


async def test_fallback_to_the_last_good_result(autojump_clock: MockClock) -> None:
    """The newest one, up to its age and not beyond; before there is one, the error comes."""
    fallback = Fallback(last_good=True, max_age=10)
    first = ValueError("too early")
    with pytest.raises(ValueError, match="too early") as caught:
        await fallback.call(fail, first)
    assert caught.value is first
    assert await fallback.call(give, "old") == "old"
    await trio.sleep(5)
    assert await fallback.call(give, None) is None
    await trio.sleep(10)
    assert await fallback.call(fail, ValueError()) is None
    await trio.sleep(0.25)
    for _ in range(2):
        with pytest.raises(ValueError, match="too late"):
            await fallback.call(fail, ValueError("too late"))
    assert fallback._good is None
    assert fallback.statistics() == FallbackStatistics("", 6, 0, 2, 1, 3, 0)


async def test_fallback_to_the_last_good_result_of_any_age(autojump_clock: MockClock) -> None:
    """By default it never grows too old, and a fallback's answer is not a good result."""
    fallback = Fallback(last_good=True)
    await fallback.call(give, "good")
    await trio.sleep(80_000)
    assert await fallback.call(fail, ValueError()) == "good"
    keeps_nothing = Fallback("value")
    await keeps_nothing.call(give, "good")
    assert keeps_nothing._good is None


@pytest.mark.parametrize(
    ("on", "meant", "not_meant"),
    [
        (OSError, ConnectionError(), ValueError()),
        ((OSError, Rejected), CircuitOpen(""), ValueError()),
        (lambda error: "busy" in str(error), ValueError("busy"), ValueError("gone")),
        (OSError, ExceptionGroup("", [OSError()]), ExceptionGroup("", [OSError(), KeyError()])),
    ],
)
async def test_fallback_on_says_what_to_answer(
    on: Any, meant: Exception, not_meant: Exception
) -> None:
    """Types or a function; of a group every leaf has to be meant."""
    fallback = Fallback("other", on=on)
    assert await fallback.call(fail, meant) == "other"
    with pytest.raises(type(not_meant)) as caught:
        await fallback.call(fail, not_meant)
    assert caught.value is not_meant
    assert fallback.statistics().failed == 1


async def test_fallback_never_answers_a_cancellation(autojump_clock: MockClock) -> None:
    """Nor what ends the program, alone or in a group."""
    fallback = Fallback("other")
    with trio.move_on_after(1) as scope:
        await fallback.call(trio.sleep, 5)
    assert scope.cancelled_caught
    for error in (KeyboardInterrupt(), BaseExceptionGroup("", [ValueError(), SystemExit()])):
        with pytest.raises(type(error)):
            await fallback.call(fail, error)
    assert fallback.statistics() == FallbackStatistics("", 3, 0, 0, 0, 0, 3)


async def test_fallback_tells_its_listeners(autojump_clock: MockClock) -> None:
    """Of what it has answered, after it was counted, and of nothing else."""
    told: list[tuple[FellBack, int]] = []

    def note(event: FellBack) -> None:
        told.append((event, fallback.statistics().fell_back))

    fallback = Fallback("other", name="rows", on=ValueError, listeners=[note])
    error = ValueError()
    await trio.sleep(2)
    await fallback.call(give, "own")
    await fallback.call(fail, error)
    with pytest.raises(KeyError):
        await fallback.call(fail, KeyError())
    assert told == [(FellBack("rows", error, 2), 1)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fallback(), "give one of them, not 0"),
        (lambda: Fallback(None, last_good=True), "give one of them, not 2"),
        (lambda: Fallback(None, use=str, last_good=True), "give one of them, not 3"),
        (lambda: Fallback(use="x"), "use must be a function"),  # type: ignore[arg-type]
        (lambda: Fallback(last_good=True, max_age=0), "max_age must be a positive number"),
        (lambda: Fallback(last_good=True, max_age=math.nan), "max_age must be a positive number"),
        (lambda: Fallback(1, max_age=5), "max_age goes with last_good alone"),
        (lambda: Fallback(1, on=trio.Cancelled), "on must be types of Exception"),  # type: ignore[arg-type]
    ],
)
def test_fallback_of_nonsense_is_refused(make: Callable[[], Fallback], message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=message):
        make()


async def test_fallback_cancelled_anywhere_is_at_rest(autojump_clock: MockClock) -> None:
    """In the call or in the fallback: nobody is active, and it counts as cancelled."""

    async def use(_: Exception) -> str:
        await trio.sleep(1)
        await trio.sleep(1)
        return "other"

    async def scenario(point: CancellationPoint) -> None:
        fallback = Fallback(use=use)
        with point:
            await fallback.call(fail, ValueError())
        statistics = fallback.statistics()
        assert (statistics.calls, statistics.active, statistics.failed) == (1, 0, 0)
        assert statistics.cancelled == point.was_cancelled
        assert statistics.fell_back == (not point.was_cancelled)

    assert await sweep_cancellations(scenario) >= 3


@given(
    max_age=st.integers(1, 8),
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["good", "bad", "other", "cancelled"])),
        max_size=20,
    ),
)
def test_fallback_to_the_last_good_result_is_its_model(
    max_age: int, steps: list[tuple[int, str]]
) -> None:
    """Any order of successes, failures, cancellations and time: the newest young enough answers."""
    counts = dict.fromkeys(("succeeded", "fell_back", "failed", "cancelled"), 0)

    async def main() -> None:
        fallback = Fallback(last_good=True, max_age=max_age, on=ValueError)
        newest: tuple[int, float] | None = None
        for number, (pause, step) in enumerate(steps):
            await trio.sleep(pause)
            now = trio.current_time()
            match step:
                case "good":
                    assert await fallback.call(give, number) == number
                    newest = (number, now)
                    counts["succeeded"] += 1
                case "cancelled":
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await fallback.call(give, number)
                    counts["cancelled"] += 1
                case "bad" if newest is not None and now - newest[1] <= max_age:
                    assert await fallback.call(fail, ValueError()) == newest[0]
                    counts["fell_back"] += 1
                case _:
                    with pytest.raises((ValueError, KeyError)):
                        await fallback.call(fail, ValueError() if step == "bad" else KeyError())
                    counts["failed"] += 1
        assert fallback.statistics() == FallbackStatistics("", len(steps), 0, **counts)

    trio.run(main, clock=MockClock(autojump_threshold=0))
