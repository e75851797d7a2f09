"""The breaker's shell: probes under concurrency, cancellation, what counts, what is reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import (
    BreakerState,
    BreakerTransition,
    CircuitBreaker,
    Consecutive,
)


class BackendError(Exception):
    """What the tests' backend fails with."""


def make(**options: object) -> CircuitBreaker:
    return CircuitBreaker("test", window=Consecutive(3), wait_in_open=10.0, **options)  # type: ignore[arg-type]


@contextmanager
def raised(error: type[BaseException]) -> Iterator[None]:
    with pytest.raises(error):
        yield


def open_it(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        with raised(BackendError), breaker.permit():
            raise BackendError


async def test_breaker_opens_after_consecutive_failures(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The threshold's failure opens it; then it refuses and says how long the cooldown lasts."""
    breaker = make()
    open_it(breaker)
    await trio.sleep(4)
    with pytest.raises(CircuitOpen) as caught, breaker.permit():
        raise AssertionError("must not run")
    assert caught.value.retry_after == pytest.approx(6.0)
    with pytest.raises(CircuitOpen):
        breaker.check()
    assert breaker.statistics().state is BreakerState.OPEN
    assert breaker.statistics().refused == 2


async def test_breaker_success_between_failures_keeps_it_closed() -> None:
    """Only failures in a row count."""
    breaker = make()
    for _ in range(5):
        for _ in range(2):
            with raised(BackendError), breaker.permit():
                raise BackendError
        with breaker.permit():
            pass
    assert breaker.statistics().state is BreakerState.CLOSED


async def test_breaker_half_open_runs_one_probe_of_a_thousand(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However many arrive after the cooldown, exactly one probes and the rest are refused."""
    breaker = make()
    open_it(breaker)
    await trio.sleep(10)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    ran = refused = 0

    async def caller() -> None:
        nonlocal ran, refused
        try:
            with breaker.permit():
                ran += 1
                await trio.sleep(1)
        except CircuitOpen:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(caller)
    assert (ran, refused) == (1, 999)
    assert breaker.statistics().state is BreakerState.CLOSED


async def test_breaker_cancelled_probe_gives_the_permit_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled probe counts neither way: the next caller may probe at once."""
    breaker = make()
    open_it(breaker)
    await trio.sleep(10)
    with trio.move_on_after(1):
        with breaker.permit():
            await trio.sleep_forever()
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    assert breaker.statistics().probes == 0
    with breaker.permit():
        pass
    assert breaker.statistics().state is BreakerState.CLOSED


async def test_breaker_failed_probe_opens_again(autojump_clock: trio.testing.MockClock) -> None:
    """A probe that fails starts a whole new cooldown."""
    breaker = make()
    open_it(breaker)
    await trio.sleep(10)
    with pytest.raises(BackendError), breaker.permit():
        raise BackendError
    assert breaker.statistics().retry_after == pytest.approx(10.0)
    assert breaker.statistics().opened == 2


async def test_breaker_late_results_change_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Calls begun while closed that fail or succeed after it opened neither reopen nor close it."""
    breaker = make()

    async def slow(fails: bool) -> None:
        with breaker.permit():
            await trio.sleep(12)
            if fails:
                raise BackendError

    async def tolerant(fails: bool) -> None:
        try:
            await slow(fails)
        except BackendError:
            pass

    async with trio.open_nursery() as nursery:
        for fails in (True, False, True):
            nursery.start_soon(tolerant, fails)
        await trio.testing.wait_all_tasks_blocked()
        open_it(breaker)
        await trio.sleep(11)
        with breaker.permit():
            await trio.sleep(3)  # the probe is under way while the old results come in
            assert breaker.statistics().state is BreakerState.HALF_OPEN
    assert breaker.statistics().state is BreakerState.CLOSED
    assert breaker.statistics().failures == 0


async def test_breaker_counts_only_what_is_a_failure() -> None:
    """An exception that is ignored, a caller's mistake for one, leaves the count as it was."""
    breaker = make(ignore=KeyError)
    for _ in range(10):
        with raised(KeyError), breaker.permit():
            raise KeyError
    assert breaker.statistics().failures == 0
    for _ in range(3):
        with raised(ExceptionGroup), breaker.permit():
            raise ExceptionGroup("both", [KeyError(), BackendError()])
    assert breaker.statistics().state is BreakerState.OPEN


async def test_breaker_tells_listener_after_the_move(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The listener sees the breaker as it is after the transition it is told of."""
    seen: list[tuple[BreakerTransition, BreakerState]] = []
    breaker: CircuitBreaker = make(
        listeners=(lambda moved: seen.append((moved, breaker.statistics().state)),)
    )
    open_it(breaker)
    await trio.sleep(10)
    await breaker.call(trio.sleep, 1)
    assert [(moved.before.value, moved.after.value) for moved, _ in seen] == [
        ("CLOSED", "OPEN"),
        ("OPEN", "HALF_OPEN"),
        ("HALF_OPEN", "CLOSED"),
    ]
    assert all(moved.after is state for moved, state in seen)


async def test_breaker_listener_that_raises_costs_no_probe(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A listener that raises on every move changes nothing about the moves."""

    def broken(moved: BreakerTransition) -> None:
        raise OSError("no space left on device")

    breaker = make(listeners=(broken,))
    open_it(breaker)
    await trio.sleep(10)
    with breaker.permit():
        pass
    assert breaker.statistics().state is BreakerState.CLOSED
