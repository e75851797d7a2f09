"""One shared quota: decisions, waiting in line, reservations, shadow mode, and as a policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import DeadlineUnreachable, RateLimited
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.rate import (
    Decision,
    FixedWindow,
    LeakyBucket,
    RateLimiter,
    RateLimiterStatistics,
    RateLimitRefused,
    Reservation,
    Rule,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from bulkhead_trio.policies.rate._line_rules import Line
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

Clock = trio.testing.MockClock


def one_a_second(capacity: int = 1, **options: Any) -> RateLimiter:
    return RateLimiter(TokenBucket(rate=1, capacity=capacity), name="quota", **options)


async def answer(value: int) -> int:
    return value


# --- decisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [0, -1, 1.5, True, math.nan, "1"])
async def test_limiter_cost_that_means_nothing(cost: Any) -> None:
    """It raises by name, however the limiter is asked, and nothing is counted."""
    limiter = one_a_second()
    with pytest.raises(ValueError, match="cost"):
        limiter.acquire_nowait(cost)
    with pytest.raises(ValueError, match="cost"):
        limiter.reserve(cost)
    with pytest.raises(ValueError, match="cost"):
        await limiter.acquire(cost)
    assert limiter.statistics().allowed == limiter.statistics().refused == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_wait": -0.1}, "max_wait"), ({"max_wait": math.nan}, "max_wait"),
        ({"max_waiting": -1}, "max_waiting"), ({"max_waiting": 1.5}, "max_waiting"),
    ],
)  # fmt: skip
def test_limiter_parameters_that_mean_nothing(options: dict[str, Any], name: str) -> None:
    """They raise at construction, and the message names the parameter."""
    with pytest.raises(ValueError, match=name):
        one_a_second(**options)


@pytest.mark.parametrize("timeout", [-1.0, math.nan])
async def test_limiter_timeout_that_means_nothing(timeout: float) -> None:
    """It raises by name."""
    with pytest.raises(ValueError, match="timeout"):
        await one_a_second().acquire(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        one_a_second().reserve(timeout=timeout)


def test_limiter_needs_trio() -> None:
    """Outside of Trio there is no clock, and it says so."""
    with pytest.raises(RuntimeError, match="async context"):
        one_a_second().acquire_nowait()


async def test_limiter_statistics_tell_everything(autojump_clock: Clock) -> None:
    """Counts, what is left and who waits, in one frozen record."""
    limiter = one_a_second(3)
    assert limiter.acquire_nowait(2).allowed
    assert not limiter.acquire_nowait(2).allowed
    limiter.reserve(2)
    limiter.reserve(1).cancel()
    assert limiter.statistics() == RateLimiterStatistics(
        limit=3,
        window=3.0,
        remaining=0,
        allowed=1,
        refused=1,
        name="quota",
        waiting=1,
        given_back=1,
        shadow=False,
    )
    await trio.sleep(1)
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.waiting, statistics.remaining) == (2, 0, 0)
    await trio.sleep(1.5)
    assert limiter.statistics().remaining == 1


async def test_limiter_tells_listeners_of_refusals(autojump_clock: Clock) -> None:
    """A frozen record for each, after it was counted; one that raises harms nobody."""
    heard: list[tuple[RateLimitRefused, int]] = []

    def broken(record: RateLimitRefused) -> None:
        raise ZeroDivisionError

    limiter: RateLimiter = one_a_second(
        listeners=[broken, lambda record: heard.append((record, limiter.statistics().refused))]
    )
    assert limiter.acquire_nowait().allowed
    refused = limiter.acquire_nowait()
    with trio.move_on_after(0.5), pytest.raises(DeadlineUnreachable):
        await limiter.acquire()
    now = trio.current_time()
    assert heard == [
        (RateLimitRefused("quota", None, 1, "rate_limited", refused, False, now), 1),
        (RateLimitRefused("quota", None, 1, "deadline_unreachable", refused, False, now), 2),
    ]


# --- waiting -------------------------------------------------------------------------------------


async def test_acquire_waits_its_turn(autojump_clock: Clock) -> None:
    """First come first served, each at the moment its units are there."""
    limiter = one_a_second(2)
    went: list[tuple[int, float]] = []

    async def want(number: int, cost: int) -> None:
        decision = await limiter.acquire(cost)
        assert (decision.allowed, decision.retry_after) == (True, 0.0)
        went.append((number, trio.current_time()))

    start = trio.current_time()
    limiter.acquire_nowait(2)
    async with trio.open_nursery() as nursery:
        for number, cost in enumerate([2, 1, 1, 2]):
            nursery.start_soon(want, number, cost)
            await trio.testing.wait_all_tasks_blocked()
        assert limiter.statistics().waiting == 4
    assert went == [(number, start + at) for number, at in enumerate([2, 3, 4, 6])]


async def test_acquire_of_a_new_window_lets_all_go_that_fit(autojump_clock: Clock) -> None:
    """When a window begins, as many as fit go at once, in order."""
    limiter = RateLimiter(FixedWindow(limit=3, seconds=10))
    limiter.acquire_nowait(3)
    went: list[tuple[int, float]] = []

    async def want(number: int) -> None:
        await limiter.acquire()
        went.append((number, trio.current_time()))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(want, number)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(went) == [(number, start + (10 if number < 3 else 20)) for number in range(5)]


async def test_acquire_that_need_not_wait_is_a_checkpoint() -> None:
    """Others get to run, and a cancelled caller takes nothing."""
    limiter = one_a_second()
    with trio.testing.assert_checkpoints():
        assert (await limiter.acquire()).allowed
    with trio.CancelScope() as scope:
        scope.cancel()
        await limiter.acquire()
    assert scope.cancelled_caught
    assert (limiter.statistics().allowed, limiter.statistics().given_back) == (1, 0)


async def test_acquire_nowait_does_not_overtake(autojump_clock: Clock) -> None:
    """While somebody waits, whoever does not is refused, and told when it would be their turn."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    reservation = limiter.reserve()
    await trio.sleep(0.5)
    refused = limiter.acquire_nowait()
    assert (refused.allowed, refused.remaining, refused.retry_after) == (False, 0, 1.5)
    assert refused.reset_after == 1.5
    await trio.sleep(0.5)
    assert reservation.wait == 0
    assert not limiter.acquire_nowait().allowed
    await trio.sleep(1)
    assert limiter.acquire_nowait().allowed


async def test_acquire_that_outlasts_the_deadline_is_refused_at_once(autojump_clock: Clock) -> None:
    """A wait that ends with the deadline or after it is refused before it begins."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    start = trio.current_time()
    for seconds in (0.5, 1.0):
        with trio.move_on_after(seconds) as scope, pytest.raises(DeadlineUnreachable) as refusal:
            await limiter.acquire()
        assert refusal.value.retry_after == 1.0
        assert not scope.cancelled_caught
    assert trio.current_time() == start
    assert (limiter.statistics().refused, limiter.statistics().waiting) == (2, 0)
    with trio.move_on_after(1.001):
        await limiter.acquire()
    assert trio.current_time() == start + 1


async def test_acquire_waits_no_longer_than_it_was_told(autojump_clock: Clock) -> None:
    """Its own timeout, else the limiter's `max_wait`; a wait of just that is still accepted."""
    limiter = one_a_second(max_wait=2.0)
    limiter.acquire_nowait()
    with pytest.raises(RateLimited) as refusal:
        await limiter.acquire(timeout=0.999)
    assert refusal.value.retry_after == 1.0
    with pytest.raises(RateLimited):
        await limiter.acquire(timeout=0)
    await limiter.acquire(timeout=1.0)
    limiter.reserve()
    await limiter.acquire()  # in 2 seconds
    limiter.reserve()
    limiter.reserve()
    with pytest.raises(RateLimited) as refusal:
        await limiter.acquire()
    assert refusal.value.retry_after == 3.0
    with pytest.raises(RateLimited):
        limiter.reserve()
    await limiter.acquire(timeout=math.inf)


async def test_acquire_of_what_never_passes_is_refused_at_once() -> None:
    """A cost above the capacity waits for nothing, and no retry would help."""
    limiter = one_a_second(2)
    for cost, timeout in ((3, None), (3, math.inf)):
        with pytest.raises(RateLimited, match="never") as refusal:
            await limiter.acquire(cost, timeout=timeout)
        assert refusal.value.retry_after is None
        with pytest.raises(RateLimited, match="never"):
            limiter.reserve(cost, timeout=timeout)
    assert limiter.acquire_nowait(3).retry_after == math.inf


async def test_acquire_line_is_bounded(autojump_clock: Clock) -> None:
    """No more than `max_waiting` wait; the next is told when its turn would have been."""
    limiter = one_a_second(max_waiting=2)
    limiter.acquire_nowait()
    first = limiter.reserve()
    limiter.reserve()
    with pytest.raises(RateLimited) as refusal:
        await limiter.acquire()
    assert refusal.value.retry_after == 3.0
    with pytest.raises(RateLimited):
        limiter.reserve()
    first.cancel()
    limiter.reserve()
    none = one_a_second(max_waiting=0)
    await none.acquire()
    with pytest.raises(RateLimited):
        await none.acquire()


async def test_pacing_queue_holds_its_capacity(autojump_clock: Clock) -> None:
    """Calls leave evenly spaced; as many units wait as the bucket holds, the rest is refused."""
    limiter = RateLimiter(LeakyBucket(rate=4, capacity=3, pacing=True))
    assert limiter.max_wait == 0.75
    start = trio.current_time()
    left: list[float] = []

    async def work() -> None:
        left.append(trio.current_time() - start)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(limiter.call, work)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RateLimited):
            await limiter.call(work)
        with pytest.raises(RateLimited):
            limiter.reserve(timeout=math.inf)
    assert left == [0, 0.25, 0.5, 0.75]
    await trio.sleep(60)
    start = trio.current_time()
    left.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(limiter.call, work)
    assert left == [0, 0.25, 0.5]


async def test_pacing_queue_counts_units(autojump_clock: Clock) -> None:
    """A cost of two takes two of the bucket's places and leaves a gap twice as long."""
    limiter = RateLimiter(LeakyBucket(rate=1, capacity=3, pacing=True), max_wait=math.inf)
    limiter.acquire_nowait()
    two = limiter.reserve(2)
    with pytest.raises(RateLimited):
        limiter.reserve(2)
    one = limiter.reserve(1)
    assert (two.wait, one.wait) == (1.0, 3.0)


# --- cancelled -----------------------------------------------------------------------------------


async def test_cancelled_waiter_lets_those_behind_move_up(autojump_clock: Clock) -> None:
    """Whoever is behind goes as if the one who left had never come."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    start, went = trio.current_time(), []
    scopes = [trio.CancelScope() for _ in range(4)]

    async def want(number: int) -> None:
        with scopes[number]:
            await limiter.acquire()
            went.append((number, trio.current_time() - start))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(want, number)
            await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        await trio.sleep(0.5)
        scopes[0].cancel()
    assert went == [(2, 1.0), (3, 2.0)]
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.given_back, statistics.waiting) == (3, 2, 0)


async def test_cancelled_in_the_moment_of_going_uses_nothing(autojump_clock: Clock) -> None:
    """Where its moment and its cancellation are one, the units are there for the next."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(limiter.acquire)
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(1.0)
            scope.cancel()
            assert limiter.statistics().allowed == 2  # it had gone, before it knew
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.given_back, statistics.remaining) == (1, 1, 1)
    assert limiter.acquire_nowait().allowed


@pytest.mark.parametrize("how", ["acquire", "call", "block", "reservation"])
async def test_limiter_is_at_rest_wherever_it_was_cancelled(
    autojump_clock: Clock, how: str
) -> None:
    """Nobody is left in line, and a call that did not go has used nothing."""
    checkpoints = []

    async def scenario(point: CancellationPoint) -> None:
        limiter = one_a_second(max_wait=10.0)
        limiter.acquire_nowait()
        went = 0
        with point:
            if how == "acquire":
                await limiter.acquire()
            elif how == "call":
                await limiter.call(answer, 1)
            elif how == "reservation":
                await limiter.reserve()
            else:
                async with limiter:
                    pass
            went = 1
        statistics = limiter.statistics()
        assert statistics.waiting == 0
        assert statistics.allowed == 1 + went
        assert limiter._account.line.first is None
        await trio.sleep(1)
        assert limiter.acquire_nowait().allowed
        checkpoints.append(went)

    assert await sweep_cancellations(scenario) >= 1
    assert 0 in checkpoints
    assert 1 in checkpoints


WAITED_FOR: list[Rule[Any]] = [
    SlidingLog(limit=3, seconds=8),
    TokenBucket(rate=0.5, capacity=3),
    SlidingWindow(limit=3, seconds=8),
    FixedWindow(limit=3, seconds=8),
    LeakyBucket(rate=0.5, capacity=3, pacing=True),
]

SCHEDULES = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.integers(1, 3)),
        st.tuples(st.just("reserve"), st.integers(1, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("sleep"), st.integers(0, 40)),
        st.tuples(st.just("take"), st.integers(1, 3)),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(rule=st.sampled_from(WAITED_FOR), schedule=SCHEDULES)
def test_limiter_follows_the_line_whatever_happens(
    rule: Rule[Any], schedule: list[tuple[str, int]]
) -> None:
    """Tasks that wait, reserve, are cancelled or ask in between go when the model says, in order.

    The model is the line of places itself, with nothing of tasks, timers and scopes; it has a test
    of its own.
    """

    async def scenario() -> None:
        limiter = RateLimiter(rule)
        line = Line(rule, rule.initial())
        went: list[tuple[int, float]] = []
        expected: list[tuple[int, float]] = []
        refused = given_back = 0
        tasks: set[int] = set()
        cancels: list[Callable[[], object]] = []
        places: list[Any] = []

        def model_settle() -> None:
            while (place := line.next_to_go(trio.current_time())) is not None:
                expected.append((places.index(place), place.at))

        async def want(number: int, cost: int, scope: trio.CancelScope) -> None:
            with scope:
                decision = await limiter.acquire(cost, timeout=math.inf)
                assert isinstance(decision, Decision)
                went.append((number, trio.current_time()))

        async with trio.open_nursery() as nursery:
            for what, value in schedule:
                model_settle()
                now = trio.current_time()
                if what == "take":
                    decision = line.decide(now, value)
                    refused += not decision.allowed
                    assert limiter.acquire_nowait(value) == decision
                elif what == "sleep":
                    await trio.sleep(value / 8)
                elif what == "cancel" and value < len(places):
                    cancels[value]()
                    cancels[value] = bool
                    if places[value].is_in_line:
                        line.leave(places[value], now)
                        given_back += 1
                elif what in ("reserve", "want") and line.units + value <= rule.most_waiting:
                    place = line.join(now, value)
                    places.append(place)
                    if what == "want":
                        scope = trio.CancelScope()
                        cancels.append(scope.cancel)
                        tasks.add(len(places) - 1)
                        nursery.start_soon(want, len(places) - 1, value, scope)
                    else:
                        # Nobody waits for it: it goes by itself, or is given back.
                        reservation = limiter.reserve(value, timeout=math.inf)
                        assert reservation.wait == pytest.approx(place.at - now)
                        cancels.append(_before_it_goes(reservation))
                await trio.testing.wait_all_tasks_blocked()
                statistics = limiter.statistics()
                model_settle()
                assert statistics.waiting == line.length
                assert statistics.given_back == given_back
                assert statistics.refused == refused
        await trio.sleep(500)
        model_settle()
        assert limiter.statistics().waiting == line.length == 0
        assert [number for number, _ in expected] == sorted(number for number, _ in expected)
        moments = dict(expected)
        assert sorted(number for number, _ in went) == sorted(tasks & moments.keys())
        for number, at in went:
            assert at == pytest.approx(moments[number])

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def _before_it_goes(reservation: Reservation) -> Callable[[], object]:
    return lambda: reservation.wait and reservation.cancel()


# --- reservations --------------------------------------------------------------------------------


async def test_reservation_sleeps_until_it_may_go(autojump_clock: Clock) -> None:
    """`await` and `async with` sleep for `wait` seconds and hand over the decision."""
    limiter = one_a_second()
    start = trio.current_time()
    reservations = [limiter.reserve() for _ in range(3)]
    assert [reservation.wait for reservation in reservations] == [0, 1, 2]
    assert [reservation.cost for reservation in reservations] == [1, 1, 1]
    with trio.testing.assert_checkpoints():
        assert (await reservations[0]).allowed
    assert (await reservations[1]).allowed
    assert trio.current_time() == start + 1
    async with reservations[2] as decision:
        assert trio.current_time() == start + 2
        assert decision.allowed
    assert limiter.statistics().allowed == 3


async def test_reservation_goes_by_itself(autojump_clock: Clock) -> None:
    """Whether or not anybody waits for it, its units are used when its moment comes."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    reservation = limiter.reserve()
    await trio.sleep(1.5)
    assert limiter.statistics().allowed == 2
    assert limiter.acquire_nowait().retry_after == 0.5
    assert reservation.wait == 0
    assert (await reservation).allowed


async def test_reservation_given_back_lets_those_behind_move_up(autojump_clock: Clock) -> None:
    """Others that wait, with a task or without, go earlier, and it cannot be used any more."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    start = trio.current_time()
    first, second = limiter.reserve(), limiter.reserve()
    went: list[float] = []

    async def want() -> None:
        await limiter.acquire()
        went.append(trio.current_time() - start)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(want)
        await trio.testing.wait_all_tasks_blocked()
        assert first.cancel()
        assert not first.cancel()
        assert second.wait == 1
    assert went == [2.0]
    with pytest.raises(RuntimeError, match="given back"):
        first.wait  # noqa: B018  it is the property that raises
    with pytest.raises(RuntimeError, match="given back"):
        await first
    assert limiter.statistics().given_back == 1


async def test_reservation_whose_moment_came_can_be_given_back_until_it_is_used(
    autojump_clock: Clock,
) -> None:
    """As long as nothing has gone since and nobody slept it to its end."""
    limiter = one_a_second()
    assert limiter.reserve().cancel()
    assert limiter.statistics().remaining == 1
    assert limiter.statistics().allowed == 0
    used = limiter.reserve()
    await used
    assert not used.cancel()
    late = limiter.reserve()
    await trio.sleep(2)
    assert limiter.acquire_nowait().allowed
    assert not late.cancel()
    assert limiter.statistics().given_back == 1


async def test_reservation_is_waited_for_once(autojump_clock: Clock) -> None:
    """A second task that waits for it is told so, and harms nobody."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    reservation = limiter.reserve()

    async def sleep() -> None:
        assert (await reservation).allowed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="once"):
            await reservation
    assert limiter.statistics().allowed == 2


async def test_reservation_given_back_under_a_sleeper_wakes_it(autojump_clock: Clock) -> None:
    """The task that sleeps does not go, and hears why at once."""
    limiter = one_a_second()
    limiter.acquire_nowait()
    reservation, start = limiter.reserve(), trio.current_time()

    async def sleep() -> None:
        with pytest.raises(RuntimeError, match="given back"):
            await reservation
        assert trio.current_time() == start

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)
        await trio.testing.wait_all_tasks_blocked()
        assert reservation.cancel()
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.given_back, statistics.waiting) == (1, 1, 0)


# --- shadow --------------------------------------------------------------------------------------


async def test_shadow_lets_pass_and_counts(autojump_clock: Clock) -> None:
    """Every caller passes at once, however it asks; refusals are counted and told as such."""
    heard: list[RateLimitRefused] = []
    limiter = one_a_second(shadow=True, listeners=[heard.append], max_wait=5.0)
    start = trio.current_time()
    assert limiter.acquire_nowait().allowed
    decision = limiter.acquire_nowait()
    assert (decision.allowed, decision.retry_after, decision.remaining) == (True, 0.0, 0)
    assert (decision.limit, decision.window, decision.reset_after) == (1, 1.0, 1.0)
    assert (await limiter.acquire(5)).allowed
    assert await limiter.call(answer, 42) == 42
    async with limiter as entered:
        assert entered.allowed
    reservation = limiter.reserve()
    assert reservation.wait == 0
    assert (await reservation).allowed
    assert not reservation.cancel()
    assert trio.current_time() == start
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.refused, statistics.shadow) == (1, 5, True)
    assert [record.decision.allowed for record in heard] == [False] * 5
    assert all(record.shadow for record in heard)
    assert heard[0].decision.retry_after == 1.0
    assert limiter.reserve(1, timeout=0).wait == 0


# --- a policy ------------------------------------------------------------------------------------


async def test_policy_refuses_at_once_by_default(autojump_clock: Clock) -> None:
    """Call, block and decorated function raise with the rule's wait, and do not run."""
    limiter = one_a_second()
    runs = 0

    @limiter
    async def work(value: int) -> int:
        nonlocal runs
        runs += 1
        return value

    assert await work(7) == 7
    for attempt in (lambda: work(8), lambda: limiter.call(answer, 8), limiter.__aenter__):
        with pytest.raises(RateLimited) as refusal:
            await attempt()
        assert refusal.value.retry_after == 1.0
        assert refusal.value.reason == "rate_limited"
        assert "quota allows 1 per 1 seconds" in refusal.value.message
    assert runs == 1
    assert (limiter.kind, limiter.max_wait, limiter.name) == (Kind.RATE_LIMIT, 0.0, "quota")
    assert limiter.statistics().refused == 3
    await trio.sleep(1)
    async with limiter as decision:
        assert decision.allowed


async def test_policy_waits_as_long_as_it_was_told(autojump_clock: Clock) -> None:
    """Up to `max_wait`; beyond it, or beyond the caller's deadline, it refuses at once."""
    limiter = one_a_second(max_wait=1.0)
    limiter.acquire_nowait()
    start = trio.current_time()
    with trio.move_on_after(0.5), pytest.raises(DeadlineUnreachable):
        await limiter.call(answer, 1)
    assert trio.current_time() == start
    assert await limiter.call(answer, 1) == 1
    assert trio.current_time() == start + 1
    async with limiter:
        assert trio.current_time() == start + 2
    limiter.reserve()
    with pytest.raises(RateLimited) as refusal:
        await limiter.call(answer, 1)
    assert refusal.value.retry_after == 2.0


async def test_policy_call_that_fails_has_used_its_unit(autojump_clock: Clock) -> None:
    """What a call raises goes through, and its quota does not come back."""
    limiter = one_a_second()

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await limiter.call(fail)
    assert not limiter.acquire_nowait().allowed
    await trio.sleep(1)
    with pytest.raises(ZeroDivisionError):
        async with limiter:
            raise ZeroDivisionError
    assert limiter.statistics().allowed == 2


async def test_policy_block_decides_after_its_checkpoint() -> None:
    """A caller that is cancelled on its way in takes nothing."""
    limiter = one_a_second()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with limiter:
            raise AssertionError
    with trio.CancelScope() as second:
        second.cancel()
        await limiter.call(answer, 1)
    assert scope.cancelled_caught
    assert second.cancelled_caught
    assert limiter.statistics().allowed == 0


async def test_limiter_without_a_name_says_what_it_is() -> None:
    """The message of a refusal has something to call it."""
    limiter = RateLimiter(FixedWindow(limit=1, seconds=60))
    limiter.acquire_nowait()
    with pytest.raises(RateLimited, match=r"^the limiter allows 1 per 60 seconds$"):
        await limiter.call(answer, 1)
