"""Throttle: what counts as refused by the backend, what is refused here, how it recovers."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import BulkheadFull, DatabaseUnavailable, Rejected, Shed, Throttled
from bulkhead_trio.policies.pipeline import Pipeline
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.retry import Retry
from bulkhead_trio.policies.throttle import Throttle, ThrottleRefused, ThrottleStatistics
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def work(error: BaseException | None = None) -> str:
    await trio.lowlevel.checkpoint()
    if error is not None:
        raise error
    return "done"


async def through(throttle: Throttle, error: BaseException | None, *, as_block: bool) -> None:
    if as_block:
        async with throttle as entered:
            assert entered is throttle
            await work(error)
    else:
        await throttle.call(work, error)


def counts(throttle: Throttle) -> tuple[int, int, int]:
    statistics = throttle.statistics()
    return statistics.accepted, statistics.rejected, statistics.refused


def never() -> float:
    """Chance that never refuses."""
    return 1 - 2**-53


def always() -> float:
    """Chance that refuses whenever there is any."""
    return 0.0


async def test_throttle_lets_pass_what_is_accepted() -> None:
    """However unlucky chance is; by call, block and decorator, with results and arguments."""
    throttle = Throttle(random=always, name="rows")
    assert throttle.kind is Kind.THROTTLE
    assert await throttle.call(work) == "done"
    assert await throttle(work)(error=None) == "done"
    await through(throttle, None, as_block=True)
    assert throttle.statistics() == ThrottleStatistics("rows", 3, 3, 0.0, 3, 0, 0)


@pytest.mark.parametrize("as_block", [False, True])
@pytest.mark.parametrize(
    ("error", "is_rejected"),
    [
        (BulkheadFull(""), True),
        (Shed("", retry_after=1), True),
        (ValueError(), False),
        (DatabaseUnavailable(""), False),
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [BulkheadFull("")])]), True),
        (ExceptionGroup("", [ValueError()]), False),
    ],
)
async def test_throttle_counts_what_the_backend_refused(
    error: Exception, is_rejected: bool, as_block: bool
) -> None:
    """A refusal was not accepted; any other error is the work of a backend that took it."""
    throttle = Throttle(random=never)
    with pytest.raises(type(error)) as caught:
        await through(throttle, error, as_block=as_block)
    assert caught.value is error
    assert counts(throttle) == ((0, 1, 0) if is_rejected else (1, 0, 0))
    assert throttle.statistics().refusal_probability == (0.5 if is_rejected else 0)


@pytest.mark.parametrize("as_block", [False, True])
async def test_throttle_refuses_as_likely_as_the_backend(as_block: bool) -> None:
    """At the probability it passes, below it is refused, without calling."""
    chance = [0.5]
    told: list[tuple[ThrottleRefused, int]] = []
    throttle = Throttle(
        random=lambda: chance[0],
        name="rows",
        listeners=[lambda event: told.append((event, throttle.statistics().refused))],
    )
    with pytest.raises(BulkheadFull):
        await through(throttle, BulkheadFull(""), as_block=as_block)
    await through(throttle, None, as_block=as_block)
    with pytest.raises(BulkheadFull):
        await through(throttle, BulkheadFull(""), as_block=as_block)
    with pytest.raises(BulkheadFull):
        await through(throttle, BulkheadFull(""), as_block=as_block)
    assert counts(throttle) == (1, 3, 0)
    chance[0] = 0.4
    assert throttle.statistics().refusal_probability == 0.4
    await through(throttle, None, as_block=as_block)
    chance[0] = 0.16
    with pytest.raises(Throttled, match="rows: too many calls have been refused") as caught:
        await through(throttle, AssertionError(), as_block=as_block)
    assert counts(throttle) == (2, 3, 1)
    assert isinstance(caught.value, Rejected)
    assert (caught.value.reason, caught.value.retry_after) == ("shed", None)
    assert [(event.throttle, event.probability, n) for event, n in told] == [("rows", 1 / 6, 1)]


@pytest.mark.parametrize(
    ("rejected_on", "meant", "not_meant"),
    [
        (OSError, ConnectionError(), BulkheadFull("")),
        ((OSError, Rejected), BulkheadFull(""), ValueError()),
        (lambda error: "503" in str(error), ValueError("503"), ValueError("404")),
    ],
)
async def test_throttle_rejected_on_says_what_counts(
    rejected_on: Any, meant: Exception, not_meant: Exception
) -> None:
    """Types or a function, instead of the default."""
    throttle = Throttle(rejected_on=rejected_on, random=never)
    for error in (meant, not_meant, not_meant):
        with pytest.raises(type(error)):
            await throttle.call(work, error)
    assert counts(throttle) == (2, 1, 0)


async def test_throttle_of_few_requests_refuses_nothing() -> None:
    """The minimum reaches the rule."""
    throttle = Throttle(min_requests=2, random=always)
    for _ in range(2):
        with pytest.raises(BulkheadFull):
            await throttle.call(work, BulkheadFull(""))
    with pytest.raises(Throttled, match="throttle: "):
        await throttle.call(work)


@pytest.mark.parametrize("as_block", [False, True])
async def test_throttle_counts_a_cancellation_neither_way(
    autojump_clock: MockClock, as_block: bool
) -> None:
    """Nor anything else that is no error of the call, alone or in a group."""
    throttle = Throttle(random=never)
    with trio.move_on_after(1):
        if as_block:
            async with throttle:
                await trio.sleep(5)
        else:
            await throttle.call(trio.sleep, 5)
    for error in (KeyboardInterrupt(), BaseExceptionGroup("", [BulkheadFull(""), SystemExit()])):
        with pytest.raises(type(error)):
            await through(throttle, error, as_block=as_block)
    assert throttle.statistics() == ThrottleStatistics("", 0, 0, 0.0, 0, 0, 0)


async def test_throttle_refusing_can_be_cancelled() -> None:
    """A loop of refused calls ends when it is cancelled."""
    throttle = Throttle(random=always)
    with pytest.raises(BulkheadFull):
        await throttle.call(work, BulkheadFull(""))
    with trio.CancelScope() as scope:
        scope.cancel()
        while True:
            with pytest.raises(Throttled):
                await throttle.call(work)
    assert scope.cancelled_caught
    assert throttle.statistics().refused == 0


async def test_throttle_cancelled_anywhere_counts_nothing(autojump_clock: MockClock) -> None:
    """Whatever checkpoint it is cancelled at, only calls that ended are counted."""

    async def two_steps() -> None:
        await trio.sleep(1)
        await trio.sleep(1)

    async def scenario(point: CancellationPoint) -> None:
        throttle = Throttle()
        ended = 0
        with point:
            await throttle.call(two_steps)
            ended += 1
            async with throttle:
                await two_steps()
            ended += 1
        assert counts(throttle) == (ended, 0, 0)
        assert throttle.statistics().requests == ended

    assert await sweep_cancellations(scenario) >= 5


async def test_throttle_finds_its_rate_and_recovers(autojump_clock: MockClock) -> None:
    """With k = 2 a backend that takes one a second is sent about two, and all once it is well."""
    throttle = Throttle(k=2.0, window=30.0, random=random.Random(11).random)
    sent: list[float] = []
    taken: list[int] = []

    async def backend() -> None:
        now = trio.current_time()
        sent.append(now)
        if now < 60 and int(now) in taken:
            raise BulkheadFull("")
        taken.append(int(now))

    async def second() -> int:
        before = len(sent)
        for _ in range(10):
            try:
                await throttle.call(backend)
            except Rejected:
                pass
            await trio.sleep(0.1)
        return len(sent) - before

    sick = [await second() for _ in range(60)]
    assert sum(sick[:2]) > 8, "at first it is sent what comes"
    assert 1.5 <= sum(sick[30:]) / 30 <= 3
    healing = [await second() for _ in range(60)]
    assert sum(healing[:5]) < sum(healing[-5:])
    assert healing[-10:] == [10] * 10


async def test_throttle_refusal_is_not_retried() -> None:
    """It names no time to come back: a retry outside lets it be."""
    throttle = Throttle(random=always)
    with pytest.raises(BulkheadFull):
        await throttle.call(work, BulkheadFull(""))
    with pytest.raises(Throttled):
        await Pipeline(Retry(5), throttle).call(work)
    assert throttle.statistics().refused == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0.5}, "k must be 1 or more"),
        ({"window": 0}, "window"),
        ({"min_requests": -1}, "min_requests"),
        ({"rejected_on": trio.Cancelled}, "rejected_on must be types of Exception"),
    ],
)
def test_throttle_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=message):
        Throttle(**changes)
