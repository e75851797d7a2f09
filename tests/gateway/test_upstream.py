"""One upstream: what counts as its failure, and that everything it gives out comes back."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.errors import (
    BulkheadFull,
    BulkheadTrioError,
    CircuitOpen,
    DeadlineExceeded,
    DeadlineUnreachable,
    UpstreamBodyTooLarge,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from bulkhead_trio.gateway._outcome_rules import outcome_of_error
from bulkhead_trio.gateway.breaker import BreakerPermit, LocalBreaker
from bulkhead_trio.gateway.group_settings import BreakerSettings, LimitSettings
from bulkhead_trio.gateway.upstream import Upstream
from bulkhead_trio.policies.breaker import (
    BreakerOutcome,
    BreakerState,
    BreakerStatistics,
    CountWindow,
)
from bulkhead_trio.policies.bulkhead import Bulkhead
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from .upstreams import fail, group_of, send

ORIGIN = "http://u0"
BREAKER = BreakerSettings(cooldown=10.0)


def one(**options: object) -> Upstream:
    return group_of(1, **options).upstreams[0]


def counts(upstream: Upstream) -> tuple[int, int, int, int]:
    now = upstream.statistics()
    return (now.succeeded, now.failed, now.ignored, now.in_flight)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UpstreamError("", origin=ORIGIN), BreakerOutcome.FAILURE),
        (UpstreamUnreachable("", origin=ORIGIN), BreakerOutcome.FAILURE),
        (UpstreamProtocolError("", origin=ORIGIN), BreakerOutcome.FAILURE),
        (UpstreamTimeout("", origin=ORIGIN, phase="head"), BreakerOutcome.FAILURE),
        (UpstreamBodyTooLarge("", origin=ORIGIN, max_bytes=1), BreakerOutcome.IGNORED),
        (DeadlineExceeded(""), BreakerOutcome.IGNORED),
        (BulkheadFull(""), BreakerOutcome.IGNORED),
        (OSError(), BreakerOutcome.IGNORED),
        (KeyboardInterrupt(), BreakerOutcome.IGNORED),
        (
            ExceptionGroup("", [ValueError(), ExceptionGroup("", [UpstreamError("", origin="")])]),
            BreakerOutcome.FAILURE,
        ),
        (ExceptionGroup("", [ValueError()]), BreakerOutcome.IGNORED),
        (
            BaseExceptionGroup("", [KeyboardInterrupt(), UpstreamError("", origin="")]),
            BreakerOutcome.IGNORED,
        ),
    ],
)
def test_outcome_is_a_failure_where_the_upstream_failed(
    error: BaseException, expected: BreakerOutcome
) -> None:
    """The upstream's errors and our timeouts for it count; callers' and our own say nothing."""
    assert outcome_of_error(error) is expected


async def test_turn_counts_what_became_of_the_request() -> None:
    """5xx is a failure at the head of the answer; else how the block ends decides."""
    upstream = one()
    for status in (200, 302, 404, 429, 499):
        send(upstream, status)
    for status in (500, 503, 599):
        send(upstream, status)
    fail(upstream)
    with pytest.raises(DeadlineExceeded), upstream.enter_nowait() as turn:
        turn.answered(200)
        raise DeadlineExceeded("the caller was in a hurry")
    assert counts(upstream) == (5, 4, 1, 0)


async def test_turn_is_decided_once() -> None:
    """What was said first holds, whatever the block ends with."""
    upstream = one()
    with pytest.raises(UpstreamError), upstream.enter_nowait() as turn:
        turn.succeeded()
        raise UpstreamError("the stream broke off after hours", origin=ORIGIN)
    with pytest.raises(DeadlineExceeded), upstream.enter_nowait() as turn:
        turn.failed()
        turn.succeeded()
        raise DeadlineExceeded("it had its fair time")
    assert counts(upstream) == (1, 1, 0, 0)


async def test_turn_that_is_cancelled_says_nothing_and_gives_everything_back() -> None:
    """A caller that goes away is no failure of the upstream, and no success."""
    upstream = one(breaker=BREAKER, bulkhead=LimitSettings(1))
    with trio.CancelScope() as scope:
        with upstream.enter_nowait():
            assert upstream.in_flight == 1
            scope.cancel()
            await trio.sleep_forever()
    assert counts(upstream) == (0, 0, 1, 0)
    statistics = upstream.statistics()
    assert statistics.bulkhead is not None
    assert statistics.bulkhead.active == 0
    assert statistics.breaker is not None
    assert (statistics.breaker.ignored, statistics.breaker.failures) == (1, 0)


async def test_upstream_breaker_opens_and_closes(autojump_clock: MockClock) -> None:
    """Failures in a row open it; after the cooldown one probe at a time; good ones close it."""
    upstream = one(breaker=BreakerSettings(cooldown=10.0, successes=2))
    fail(upstream, 4)
    send(upstream, 500)
    assert upstream.breaker is not None
    assert not upstream.breaker.is_closed
    assert upstream.breaker.refusal() == 10.0
    with pytest.raises(CircuitOpen, match=r"upstream [0-9a-f]{8} of route r1 is open") as refusal:
        upstream.enter_nowait()
    assert refusal.value.retry_after == 10.0
    assert upstream.in_flight == 0
    await trio.sleep(10)
    assert upstream.breaker.refusal() is None
    with upstream.enter_nowait():
        assert upstream.breaker.refusal() == 0.0
        with pytest.raises(CircuitOpen):
            upstream.enter_nowait()
    assert not upstream.breaker.is_closed
    send(upstream)
    assert upstream.breaker.is_closed
    assert upstream.breaker.refusal() is None


async def test_upstream_breaker_counts_rates(autojump_clock: MockClock) -> None:
    """Where the settings say a window of calls, it is the share of failures that opens it."""
    settings = BreakerSettings(window=CountWindow(10), failure_rate=0.5, minimum_calls=4)
    upstream = one(breaker=settings)
    for status in (200, 500, 200):
        send(upstream, status)
    assert upstream.breaker is not None
    assert upstream.breaker.is_closed
    send(upstream, 500)
    assert upstream.breaker.statistics().state is BreakerState.OPEN


async def test_upstream_bulkhead_holds_until_the_block_ends(autojump_clock: MockClock) -> None:
    """So many at once, so many in line, and the rest are refused; a decision frees no place."""
    upstream = one(bulkhead=LimitSettings(1, 1))
    got_in: list[float] = []

    async def ask() -> None:
        with await upstream.enter():
            got_in.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        with upstream.enter_nowait() as turn:
            turn.answered(500)
            with pytest.raises(trio.WouldBlock):
                upstream.enter_nowait()
            nursery.start_soon(ask)
            await trio.sleep(1)
            assert upstream.in_flight == 2, "who waits counts as load"
            with pytest.raises(BulkheadFull):
                await upstream.enter()
            assert upstream.in_flight == 2
    assert got_in == [1.0]
    assert upstream.in_flight == 0
    statistics = upstream.statistics().bulkhead
    assert statistics is not None
    assert statistics.refused == 1, "what would have had to wait was not refused"


async def test_upstream_bulkhead_refuses_who_could_not_be_in_time(
    autojump_clock: MockClock,
) -> None:
    """Who would be cut off before its turn is sent away at once."""
    upstream = one(bulkhead=LimitSettings(1, 5))
    with upstream.enter_nowait():
        await trio.sleep(4)
    with upstream.enter_nowait():
        with trio.fail_after(2), pytest.raises(DeadlineUnreachable):
            await upstream.enter()
    assert upstream.in_flight == 0


async def test_upstream_whose_breaker_opens_while_somebody_waits(
    autojump_clock: MockClock,
) -> None:
    """The breaker is asked after the line: who waited is refused, and gives its place back."""
    upstream = one(breaker=BREAKER, bulkhead=LimitSettings(1, 1))
    refused: list[str] = []

    async def ask() -> None:
        try:
            await upstream.enter()
        except CircuitOpen as error:
            refused.append(error.reason)

    fail(upstream, 4)
    async with trio.open_nursery() as nursery:
        with upstream.enter_nowait() as turn:
            nursery.start_soon(ask)
            await trio.sleep(1)
            turn.failed()
    assert refused == ["circuit_open"]
    statistics = upstream.statistics()
    assert statistics.in_flight == 0
    assert statistics.bulkhead is not None
    assert statistics.bulkhead.active == 0


class AskingBreaker:
    """A breaker that has to ask others for its permits, for a second, as a shared one may."""

    is_closed = False

    def __init__(self) -> None:
        self.ended: list[BreakerOutcome] = []
        self.given = 0
        self._inner = LocalBreaker("inner", BreakerSettings())

    def refusal(self) -> float | None:
        return None

    def admit_nowait(self) -> BreakerPermit | None:
        return None

    async def admit(self) -> BreakerPermit:
        await trio.sleep(1)
        self.given += 1
        return self

    def end(self, outcome: BreakerOutcome) -> None:
        self.ended.append(outcome)

    def statistics(self) -> BreakerStatistics:
        return self._inner.statistics()


async def test_upstream_gives_everything_back_wherever_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """In line, asking for the permit, or with the request under way: all is at rest after it."""

    async def scenario(point: CancellationPoint) -> None:
        breaker = AskingBreaker()
        bulkhead = Bulkhead("one", 1, max_wait=math.inf)
        upstream = Upstream(("t", "r", "http://u"), 1.0, breaker=breaker, bulkhead=bulkhead)
        async with trio.open_nursery() as nursery:

            async def hold() -> None:
                with bulkhead.acquire_nowait():
                    await trio.sleep(1)

            nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
            with point:
                with await upstream.enter() as turn:
                    await trio.sleep(1)
                    turn.answered(200)
        assert upstream.in_flight == 0
        assert bulkhead.is_at_rest
        assert len(breaker.ended) == breaker.given, "each permit is ended once"
        if not point.was_cancelled:
            assert breaker.ended == [BreakerOutcome.SUCCESS]

    assert await sweep_cancellations(scenario) >= 3


async def test_upstream_enters_without_waiting_only_where_it_can() -> None:
    """Where the breaker has to ask others, `enter_nowait` takes nothing and says so."""
    breaker = AskingBreaker()
    bulkhead = Bulkhead("one", 1)
    upstream = Upstream(("t", "r", "http://u"), 1.0, breaker=breaker, bulkhead=bulkhead)
    with pytest.raises(trio.WouldBlock):
        upstream.enter_nowait()
    assert bulkhead.is_at_rest
    assert upstream.in_flight == 0


async def test_upstream_refusals_name_no_host() -> None:
    """What callers may read of a refusal says nothing of where the upstream is."""
    upstream = one(breaker=BREAKER, bulkhead=LimitSettings(1))
    messages = []
    with upstream.enter_nowait() as turn:
        for _ in range(2):
            try:
                await upstream.enter()
            except BulkheadTrioError as error:
                messages.append(error.message)
        turn.failed()
    fail(upstream, 4)
    with pytest.raises(CircuitOpen) as refusal:
        upstream.enter_nowait()
    messages.append(refusal.value.message)
    assert len(messages) == 3
    assert not any("u0" in message or "http" in message for message in messages)
