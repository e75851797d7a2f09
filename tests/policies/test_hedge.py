"""The hedge: first success wins, the rest is cut off and gone, errors come out plain."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import BulkheadFull, CallerError, CircuitOpen
from bulkhead_trio.policies.hedge import Hedge, HedgeEnded, HedgeEvent, HedgeStarted
from bulkhead_trio.policies.pipeline import Pipeline, PipelineOrderError
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from tests.policies._hedge import Failed, Script, Try


async def test_hedge_quick_call_is_run_once(autojump_clock: MockClock) -> None:
    """What answers before the delay is never run again; arguments and result pass through."""

    async def add(a: int, b: int) -> int:
        await trio.sleep(0.9)
        return a + b

    hedge = Hedge(1.0, name="sums")
    assert await hedge.call(add, 1, 2) == 3
    statistics = hedge.statistics()
    assert (statistics.name, statistics.calls, statistics.active) == ("sums", 1, 0)
    assert (statistics.hedges, statistics.cancelled, statistics.failed) == (0, 0, 0)
    assert statistics.wins == (1, 0)
    assert statistics.delay == 1.0
    assert statistics.samples == 0


async def test_hedge_late_call_is_run_again_and_the_first_success_wins(
    autojump_clock: MockClock,
) -> None:
    """The second try starts after the delay, wins, and the first is finished before the return."""
    script = Script(Try(9), Try(1))
    hedge = Hedge(2.0)
    began = trio.current_time()
    assert await hedge.call(script) == 1
    assert trio.current_time() - began == pytest.approx(3.001)
    assert [at - began for at in script.began] == [0, 2]
    assert (script.cut_off, script.running) == ([0], 0)
    statistics = hedge.statistics()
    assert (statistics.hedges, statistics.cancelled, statistics.wins) == (1, 1, (0, 1))


async def test_hedge_first_try_may_win_after_all(autojump_clock: MockClock) -> None:
    """Being hedged does not cut the first try off."""
    script = Script(Try(3), Try(9))
    hedge = Hedge(2.0)
    assert await hedge.call(script) == 0
    assert (script.cut_off, script.running) == ([1], 0)
    assert hedge.statistics().wins == (1, 0)


async def test_hedge_several_hedges_start_a_delay_apart(autojump_clock: MockClock) -> None:
    """At most ``max_hedges`` beyond the first."""
    script = Script(Try(9), Try(9), Try(2.5), Try(0))
    hedge = Hedge(1.0, 2)
    began = trio.current_time()
    assert await hedge.call(script) == 2
    assert [at - began for at in script.began] == [0, 1, 2]
    assert hedge.statistics().wins == (0, 0, 1)
    assert hedge.statistics().cancelled == 2


async def test_hedge_of_no_delay_starts_all_at_once(autojump_clock: MockClock) -> None:
    """Zero seconds is a delay too."""
    script = Script(Try(3), Try(1), Try(2))
    assert await Hedge(0.0, 2).call(script) == 1
    assert len(set(script.began)) == 1


async def test_hedge_failure_starts_the_next_at_once(autojump_clock: MockClock) -> None:
    """There is nothing to wait for."""
    script = Script(Try(0.5, Failed()), Try(1))
    began = trio.current_time()
    assert await Hedge(10.0).call(script) == 1
    assert trio.current_time() - began == pytest.approx(1.5)


async def test_hedge_failure_waits_for_the_others(autojump_clock: MockClock) -> None:
    """One that fails late harms nobody while another runs."""
    script = Script(Try(5), Try(1, Failed()))
    assert await Hedge(2.0).call(script) == 0


async def test_hedge_all_failed_raises_the_first_failure_plain(autojump_clock: MockClock) -> None:
    """It is the very exception, in no group, with the frames of the work in its traceback."""
    first, second = Failed("first"), Failed("second")
    hedge = Hedge(10.0)
    with pytest.raises(Failed) as caught:
        await hedge.call(Script(Try(1, first), Try(1, second)))
    assert caught.value is first
    assert caught.traceback[-1].name == "__call__"
    statistics = hedge.statistics()
    assert (statistics.failed, statistics.wins, statistics.cancelled) == (1, (0, 0), 0)
    assert statistics.active == 0


async def test_hedge_group_that_the_work_raises_stays_as_it_is(autojump_clock: MockClock) -> None:
    """Only what the hedge itself would put round an error is taken off."""
    group = ExceptionGroup("mine", [Failed()])
    with pytest.raises(ExceptionGroup) as caught:
        await Hedge(1.0).call(Script(Try(0, group), Try(0, group)))
    assert caught.value is group


@pytest.mark.parametrize("error", [BulkheadFull("full", retry_after=3.0), CallerError("wrong")])
async def test_hedge_refusal_starts_no_other_try(
    error: Exception, autojump_clock: MockClock
) -> None:
    """A refusal or a caller's mistake comes out at once: trying again would only make it worse."""
    script = Script(Try(0.5, error), Try(0))
    with pytest.raises(type(error)) as caught:
        await Hedge(10.0).call(script)
    assert caught.value is error
    assert len(script.began) == 1


async def test_hedge_refused_hedge_leaves_the_first_try_alone(autojump_clock: MockClock) -> None:
    """What runs goes on; and no third try is started."""
    script = Script(Try(9), Try(0, CircuitOpen("open")), Try(0))
    assert await Hedge(1.0, 2).call(script) == 0
    assert len(script.began) == 2


async def test_hedge_failure_counts_before_a_refusal(autojump_clock: MockClock) -> None:
    """An outer breaker has to see that something failed, though a refusal came first."""
    failure, refusal = Failed(), CircuitOpen("open")
    with pytest.raises(Failed):
        await Hedge(1.0).call(Script(Try(5, failure), Try(0, refusal)))
    with pytest.raises(CircuitOpen):
        await Hedge(1.0).call(Script(Try(5, CircuitOpen("late")), Try(0, refusal)))


async def test_hedge_error_of_a_try_that_is_cut_off_is_dropped(autojump_clock: MockClock) -> None:
    """The call has its result; how a loser takes its end is no error of the call."""

    async def sore_loser() -> str:
        runs.append(len(runs))
        if len(runs) > 1:
            return "won"
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise Failed from None
        raise AssertionError

    runs: list[int] = []
    hedge = Hedge(1.0)
    assert await hedge.call(sore_loser) == "won"
    assert hedge.statistics().failed == 0


async def test_hedge_loser_that_does_not_stop_is_waited_for(autojump_clock: MockClock) -> None:
    """Nothing runs after the return; its result comes too late and is not counted as a win."""

    async def stubborn() -> int:
        number = len(runs)
        runs.append(number)
        with trio.CancelScope(shield=number == 0):
            await trio.sleep(5 if number == 0 else 1)
        return number

    runs: list[int] = []
    hedge = Hedge(1.0)
    began = trio.current_time()
    assert await hedge.call(stubborn) == 1
    assert trio.current_time() - began == pytest.approx(5)
    assert hedge.statistics().wins == (0, 1)
    assert hedge.statistics().cancelled == 0


async def test_hedge_deadline_holds_for_every_try(autojump_clock: MockClock) -> None:
    """Each sees the caller's deadline, and is gone once it has passed."""
    deadlines: list[float] = []

    async def look() -> None:
        deadlines.append(trio.current_effective_deadline())
        await trio.sleep_forever()

    hedge = Hedge(1.0, 2)
    with trio.move_on_after(4) as scope:
        await hedge.call(look)
    assert deadlines == [scope.deadline] * 3
    assert scope.cancelled_caught
    statistics = hedge.statistics()
    assert (statistics.active, statistics.failed, statistics.cancelled) == (0, 0, 0)


async def test_hedge_cancellation_comes_out_plain(autojump_clock: MockClock) -> None:
    """Whoever is inside the cancelled block may catch it by its name."""
    caught: list[BaseException] = []
    with trio.move_on_after(3):
        try:
            await Hedge(1.0).call(trio.sleep_forever)
        except BaseException as error:
            caught.append(error)
            raise
    assert [type(error) for error in caught] == [trio.Cancelled]


async def test_hedge_end_of_the_program_comes_out_plain(autojump_clock: MockClock) -> None:
    """An interrupt in a try is no failure of it: it ends the others and the call."""
    script = Script(Try(9))

    async def interrupted() -> None:
        if script.began:
            raise KeyboardInterrupt
        await script()

    hedge = Hedge(1.0)
    with pytest.raises(KeyboardInterrupt):
        await hedge.call(interrupted)
    assert script.running == 0
    assert hedge.statistics().active == 0


async def test_hedge_tries_have_the_context_of_the_caller(autojump_clock: MockClock) -> None:
    """A context variable set before the call is seen by each try."""
    tenant = contextvars.ContextVar("tenant", default="")
    seen: list[str] = []

    async def look() -> None:
        seen.append(tenant.get())
        await trio.sleep(1.5)

    tenant.set("acme")
    await Hedge(1.0).call(look)
    assert seen == ["acme", "acme"]


async def test_hedge_quantile_counts_once_there_are_enough(autojump_clock: MockClock) -> None:
    """Up to the least number of samples it is the delay, from then on what was observed."""
    hedge = Hedge(50.0, quantile=0.75, minimum_samples=4, window=4)
    for seconds in (1, 2, 3):
        await hedge.call(trio.sleep, seconds)
        assert hedge.current_delay() == 50.0
    await hedge.call(trio.sleep, 4)
    assert hedge.current_delay() == pytest.approx(3)
    assert hedge.statistics().samples == 4
    began = trio.current_time()
    script = Script(Try(9), Try(0))
    await hedge.call(script)
    assert script.began[1] - began == pytest.approx(3)


async def test_hedge_quantile_counts_what_was_cut_off(autojump_clock: MockClock) -> None:
    """A loser ran at least so long; without it, the quantile would fall from call to call."""
    hedge = Hedge(2.0, quantile=1.0, minimum_samples=1)
    await hedge.call(Script(Try(9), Try(1)))
    assert hedge.current_delay() == pytest.approx(3.001)


async def test_hedge_quantile_leaves_failures_and_hedges_out(autojump_clock: MockClock) -> None:
    """How long a failure took says nothing of how long a success takes."""
    hedge = Hedge(2.0, quantile=0.5, minimum_samples=1)
    await hedge.call(Script(Try(0, Failed()), Try(1)))
    with trio.move_on_after(1):
        await hedge.call(trio.sleep_forever)
    assert hedge.statistics().samples == 0


async def test_hedge_tells_its_listeners(autojump_clock: MockClock) -> None:
    """Of each hedge and of the end of a hedged call, when all has settled; else of nothing."""
    told: list[HedgeEvent] = []
    active: list[int] = []
    hedge: Hedge

    def listen(event: HedgeEvent) -> None:
        told.append(event)
        active.append(hedge.statistics().active)

    hedge = Hedge(2.0, name="h", listeners=[listen])
    await hedge.call(trio.sleep, 1)
    assert told == []
    began = trio.current_time()
    await hedge.call(Script(Try(9), Try(1)))
    started, ended = told
    assert started == HedgeStarted("h", 1, 2.0, began + 2.0)
    assert isinstance(ended, HedgeEnded)
    assert (ended.hedge, ended.winner, ended.tries) == ("h", 1, 2)
    assert ended.seconds == ended.at - began == pytest.approx(3.001)
    assert active == [1, 0]
    told.clear()
    with pytest.raises(Failed):
        await hedge.call(Script(Try(1, Failed()), Try(1, Failed())))
    ended = told[-1]
    assert isinstance(ended, HedgeEnded)
    assert (ended.winner, ended.tries) == (None, 2)


async def test_hedge_cancelled_anywhere_leaves_nothing(autojump_clock: MockClock) -> None:
    """Whatever checkpoint of the call is cancelled, no try is running after it."""

    async def scenario(point: CancellationPoint) -> None:
        script = Script(Try(9), Try(1.5, Failed()), Try(1))
        hedge = Hedge(1.0, 2)
        with point:
            await hedge.call(script)
        assert script.running == 0
        assert hedge.statistics().active == 0

    assert await sweep_cancellations(scenario) >= 4


async def test_hedge_decorates_and_stands_in_a_pipeline(autojump_clock: MockClock) -> None:
    """It is a policy like the others; two of them multiply the calls and are refused."""
    script = Script(Try(9), Try(1))
    assert await Hedge(1.0)(script.__call__)() == 1
    assert Hedge(1.0).kind is Kind.HEDGE
    with pytest.raises(PipelineOrderError):
        Pipeline(Hedge(1.0), Hedge(1.0))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Hedge(-1.0), "delay"),
        (lambda: Hedge(math.nan), "delay"),
        (lambda: Hedge(math.inf), "delay"),
        (lambda: Hedge(1.0, 0), "max_hedges"),
        (lambda: Hedge(1.0, 1.5), "max_hedges"),  # type: ignore[arg-type]
        (lambda: Hedge(1.0, quantile=0.0), "quantile"),
        (lambda: Hedge(1.0, quantile=1.1), "quantile"),
        (lambda: Hedge(1.0, quantile=math.nan), "quantile"),
        (lambda: Hedge(1.0, minimum_samples=0), "minimum_samples"),
        (lambda: Hedge(1.0, window=0), "window"),
        (lambda: Hedge(1.0, minimum_samples=20, window=19), "window"),
    ],
)
def test_hedge_nonsense_is_refused_by_name(make: Callable[[], Hedge], name: str) -> None:
    """A number that makes no sense is refused where the hedge is made."""
    with pytest.raises(ValueError, match=f"^{name} "):
        make()
