"""Retry and time: deadlines, limits of a try, cancellation."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import (
    DeadlineExceeded,
)
from bulkhead_trio.policies.retry import (
    Reason,
    Retry,
)
from tests.policies.retry._script import Script, given_up


async def test_retry_does_not_sleep_towards_a_deadline(autojump_clock: MockClock) -> None:
    """A try that could begin at the deadline or later is none, and the error comes at once."""
    retry = Retry(5, base_delay=1, jitter="none")
    work = Script(ValueError())
    with trio.fail_after(7):
        with pytest.raises(ValueError) as caught:
            await retry.call(work)
        assert trio.current_time() == 3
    assert work.begun == [0, 1, 3]
    assert caught.value.__notes__ == ["retry: gave up after 3 tries (deadline)"]
    assert given_up(retry) == {Reason.DEADLINE: 1}
    with trio.fail_after(7.25):
        with pytest.raises(ValueError):
            await retry.call(work)
    assert work.begun[3:] == [3, 4, 6, 10]


async def test_retry_per_try_timeout_fails_that_try_alone(autojump_clock: MockClock) -> None:
    """It is tried again like any failure; each try has the whole time."""
    retry = Retry(base_delay=1, jitter="none", timeout_per_try=2, name="rows")
    work = Script("never", takes=2.5)
    with pytest.raises(DeadlineExceeded, match="the limit of rows of 2 s has passed") as caught:
        await retry.call(work)
    assert work.begun == [0, 3, 7]
    assert trio.current_time() == 9
    assert caught.value.__notes__ == ["rows: gave up after 3 tries (attempts)"]
    assert await retry.call(Script("in time", takes=1.5)) == "in time"


async def test_retry_never_tries_a_cancellation_again(autojump_clock: MockClock) -> None:
    """Not with a limit a try, and not when cleaning up turns it into an error."""
    retry = Retry(9, base_delay=4, jitter="none", timeout_per_try=3)
    work = Script("never", takes=2)
    with trio.move_on_after(1) as scope:
        await retry.call(work)
    assert scope.cancelled_caught
    assert len(work.begun) == 1

    async def turns_into_an_error() -> None:
        turned.append(trio.current_time())
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("closed")

    turned: list[float] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(OSError, match="closed"):
            await retry.call(turns_into_an_error)
    assert len(turned) == 1
    statistics = retry.statistics()
    assert (statistics.cancelled, statistics.active) == (1, 0)
    assert given_up(retry) == {Reason.DEADLINE: 1}


async def test_retry_waiting_when_cancelled_counts_as_cancelled(autojump_clock: MockClock) -> None:
    """A wait without a deadline is ended by whoever cancels, and no try follows."""
    retry = Retry(base_delay=4, jitter="none")
    work = Script(ValueError())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retry.call, work)
        await trio.sleep(2)
        assert retry.statistics().active == 1
        nursery.cancel_scope.cancel()
    statistics = retry.statistics()
    assert (statistics.active, statistics.cancelled, statistics.retried) == (0, 1, 0)
    assert work.begun == [0]


async def test_retry_of_a_base_exception_never_happens() -> None:
    """Whoever ends the program ends it."""

    class Stop(BaseException):
        pass

    retry = Retry()
    work = Script(Stop())
    with pytest.raises(Stop):
        await retry.call(work)
    group = Script(BaseExceptionGroup("", [Stop(), ValueError()]))
    with pytest.raises(BaseExceptionGroup):
        await retry.call(group)
    assert len(work.begun) == len(group.begun) == 1
    assert retry.statistics().cancelled == 2


async def test_retry_without_a_delay_lets_others_run() -> None:
    """There is a checkpoint between two tries, however short the wait."""
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async def work() -> None:
        ran.append("try")
        raise ValueError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        with pytest.raises(ValueError):
            await Retry(3, base_delay=0, max_delay=0).call(work)
    assert ran[0] == "try"
    assert "other" in ran[1:3]
