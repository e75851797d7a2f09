"""Half open under concurrency: how many run, who gets a place back, and what cancelling does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
import trio.testing

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import (
    BreakerState,
    BreakerTransition,
    CircuitBreaker,
    Consecutive,
    CountWindow,
    TimeWindow,
)
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations
from tests.policies.breaker._backend import BackendError, fail

CALLERS = 1000


async def half_open(window: object, **options: object) -> CircuitBreaker:
    """A breaker that has just opened and whose cooldown is over."""
    breaker = CircuitBreaker("test", window=window, wait_in_open=10.0, **options)  # type: ignore[arg-type]
    while breaker.statistics().state is BreakerState.CLOSED:
        with pytest.raises(BackendError):
            await breaker.call(fail)
    await trio.sleep(10)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    return breaker


WINDOWS = pytest.mark.parametrize("window", [Consecutive(3), CountWindow(3), TimeWindow(60.0)])


@WINDOWS
@pytest.mark.parametrize("permitted", [1, 5])
async def test_probes_of_a_thousand_callers_are_as_many_as_permitted(
    window: object, permitted: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Exactly so many run, by `call`, `async with` and `permit` alike; all others are refused."""
    breaker = await half_open(
        window, permitted_calls_in_half_open=permitted, success_threshold=permitted
    )
    ran = refused = running = most = 0
    promised: set[float | None] = set()

    async def work() -> None:
        nonlocal ran, running, most
        ran, running = ran + 1, running + 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    async def with_block() -> None:
        async with breaker:
            await work()

    async def with_permit() -> None:
        with breaker.permit():
            await work()

    async def caller(number: int) -> None:
        nonlocal refused
        try:
            if number % 3 == 0:
                await breaker.call(work)
            else:
                await (with_block if number % 3 == 1 else with_permit)()
        except CircuitOpen as error:
            refused += 1
            promised.add(error.retry_after)

    async with trio.open_nursery() as nursery:
        for number in range(CALLERS):
            nursery.start_soon(caller, number)
        await trio.sleep(0.5)
        assert breaker.statistics().probes == permitted
    assert (ran, most, refused) == (permitted, permitted, CALLERS - permitted)
    assert promised == {0.0}
    assert breaker.statistics().state is BreakerState.CLOSED


@pytest.mark.parametrize("permitted", [1, 5])
@pytest.mark.parametrize("seed", range(3))
async def test_probes_that_are_cancelled_give_their_places_to_others(
    permitted: int, seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Callers come and are cancelled all the time: never more run, and none of the places is lost.

    None is counted but those that end by themselves, which only the last ones can.
    """
    chance = random.Random(seed)
    breaker = await half_open(
        CountWindow(3), permitted_calls_in_half_open=permitted, success_threshold=permitted
    )
    running = most = started = 0

    async def work() -> None:
        nonlocal running, most, started
        running, started = running + 1, started + 1
        most = max(most, running)
        try:
            await trio.sleep(1000)
        finally:
            running -= 1
        assert breaker.statistics().probes >= 1

    async def caller() -> None:
        await trio.sleep(chance.uniform(0, 100))
        with trio.move_on_after(chance.uniform(0, 1)):
            try:
                await breaker.call(work)
            except CircuitOpen:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(caller)
    assert most == permitted
    assert started > 5 * permitted
    statistics = breaker.statistics()
    assert statistics.state is BreakerState.HALF_OPEN
    assert (statistics.probes, statistics.ignored) == (0, started)
    async with trio.open_nursery() as nursery:
        for _ in range(permitted):
            nursery.start_soon(breaker.call, work)
    assert breaker.statistics().state is BreakerState.CLOSED


@WINDOWS
async def test_breaker_is_at_rest_wherever_a_call_is_cancelled(
    window: object, autojump_clock: trio.testing.MockClock
) -> None:
    """Closed or half open, in a call or a block: no probe is lost, no cancellation is counted."""

    async def work() -> None:
        await trio.sleep(1)
        await trio.lowlevel.checkpoint()

    async def call(breaker: CircuitBreaker) -> None:
        await breaker.call(work)

    async def block(breaker: CircuitBreaker) -> None:
        async with breaker, trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(work)

    async def decorated(breaker: CircuitBreaker) -> None:
        await breaker(work)()

    def scenario(is_half_open: bool, use: Callable[[CircuitBreaker], object]) -> object:
        async def run(point: CancellationPoint) -> None:
            breaker = (
                await half_open(window) if is_half_open else CircuitBreaker("test", window=window)  # type: ignore[arg-type]
            )
            before = breaker.statistics()
            with point:
                await use(breaker)  # type: ignore[misc]
            after = breaker.statistics()
            assert after.probes == 0
            assert after.failed == before.failed
            if point.was_cancelled:
                assert after.state is before.state
                assert (after.succeeded, after.calls) == (before.succeeded, before.calls)
            else:
                assert after.state is BreakerState.CLOSED
                assert after.succeeded == before.succeeded + 1
            with breaker.permit():
                assert breaker.statistics().probes == (after.state is BreakerState.HALF_OPEN)

        return run

    for is_half_open in (False, True):
        for use in (call, block, decorated):
            assert await sweep_cancellations(scenario(is_half_open, use)) >= 2  # type: ignore[arg-type]


async def test_half_open_that_hangs_opens_again(autojump_clock: trio.testing.MockClock) -> None:
    """Its time up, it refuses and waits anew; what the probes say afterwards is too late."""
    moves: list[tuple[str, str, float]] = []
    breaker = await half_open(
        Consecutive(1),
        max_wait_in_half_open=5.0,
        listeners=[lambda move: moves.append((move.before.value, move.after.value, move.at))],
    )
    began = trio.current_time()

    async def probe(seconds: float) -> None:
        with breaker.permit():
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe, 7)
        await trio.sleep(4.99)
        with pytest.raises(CircuitOpen):
            breaker.check()
        assert breaker.statistics().state is BreakerState.HALF_OPEN
        await trio.sleep(1.01)
        with pytest.raises(CircuitOpen) as refused:
            breaker.check()
        assert refused.value.retry_after == pytest.approx(9.0)
        statistics = breaker.statistics()
        assert (statistics.state, statistics.opened) == (BreakerState.OPEN, 2)
    statistics = breaker.statistics()
    assert (statistics.state, statistics.succeeded) == (BreakerState.OPEN, 1)
    assert moves[2:] == [("HALF_OPEN", "OPEN", began + 5)]


async def test_half_open_result_after_its_time_counts_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also when the result itself is the first thing that looks."""
    breaker = await half_open(Consecutive(1), max_wait_in_half_open=5.0)
    await breaker.call(trio.sleep, 5)
    assert breaker.statistics().state is BreakerState.OPEN
    await trio.sleep(10)
    await breaker.call(trio.sleep, 4.99)
    assert breaker.statistics().state is BreakerState.CLOSED


async def test_half_open_forgotten_for_long_probes_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its time and the cooldown after it over unseen, the next caller is a probe of a new epoch."""
    breaker = await half_open(Consecutive(1), max_wait_in_half_open=5.0)
    old = breaker.permit()
    old.__enter__()
    await trio.sleep(15)
    with breaker.permit():
        old.__exit__(None, None, None)
        assert breaker.statistics().probes == 1
        assert breaker.statistics().state is BreakerState.HALF_OPEN
    assert breaker.statistics().state is BreakerState.CLOSED


@WINDOWS
async def test_late_results_belong_to_their_own_time(
    window: object, autojump_clock: trio.testing.MockClock
) -> None:
    """Results of calls from before a reset, a move or a forced opening change no window."""
    breaker = CircuitBreaker("test", window=window)  # type: ignore[arg-type]
    permits = [breaker.permit() for _ in range(9)]
    for permit in permits:
        permit.__enter__()
    breaker.reset()
    for permit in permits[:3]:
        permit.__exit__(BackendError, BackendError(), None)
    breaker.force_open()
    for permit in permits[3:6]:
        permit.__exit__(BackendError, BackendError(), None)
    breaker.reset()
    for permit in permits[6:]:
        permit.__exit__(None, None, None)
    statistics = breaker.statistics()
    assert (statistics.state, statistics.calls, statistics.failures) == (BreakerState.CLOSED, 0, 0)
    assert (statistics.failed, statistics.succeeded) == (6, 3)


async def test_probe_whose_listener_is_interrupted_gives_its_place_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Ctrl-C in a listener ends the program, or not; the breaker can be probed all the same."""
    interrupts = [KeyboardInterrupt()]

    def listener(moved: BreakerTransition) -> None:
        if moved.after is BreakerState.HALF_OPEN and interrupts:
            raise interrupts.pop()

    breaker = CircuitBreaker("test", window=Consecutive(1), wait_in_open=1.0, listeners=(listener,))
    with pytest.raises(OSError, match="scripted"), breaker.permit():
        raise OSError("scripted")
    await trio.sleep(1)
    with pytest.raises(KeyboardInterrupt):
        await breaker.call(trio.sleep, 0)
    await breaker.call(trio.sleep, 0)
    assert breaker.statistics().state is BreakerState.CLOSED
