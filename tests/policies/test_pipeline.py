"""Pipelines: order of running, refusal of wrong orders, what comes out."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio import (
    BulkheadFull,
    CircuitBreaker,
    Consecutive,
    SingleFlight,
    ThreadBulkhead,
)
from bulkhead_trio.policies.bulkhead import Bulkhead, BulkheadStatistics
from bulkhead_trio.policies.pipeline import Pipeline, PipelineOrderError
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Noting(Policy):
    """Notes when a call goes in and comes out."""

    kind = Kind.SINGLE_FLIGHT

    def __init__(self, name: str, notes: list[str], kind: Kind = Kind.SINGLE_FLIGHT) -> None:
        self.name = name
        self.kind = kind  # type: ignore[misc]
        self._notes = notes

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        self._notes.append(f"> {self.name}")
        try:
            return await work(*args)
        finally:
            self._notes.append(f"< {self.name}")

    def statistics(self) -> int:
        return len(self._notes)


async def add(a: int, b: int) -> int:
    await trio.lowlevel.checkpoint()
    return a + b


async def test_pipeline_runs_outermost_first() -> None:
    """The first policy is the first in and the last out; arguments and result pass through."""
    notes: list[str] = []
    pipeline = Pipeline(Noting("a", notes), Noting("b", notes), Noting("c", notes))
    assert await pipeline.call(add, 1, 2) == 3
    assert notes == ["> a", "> b", "> c", "< c", "< b", "< a"]


async def test_pipeline_of_one_and_as_a_decorator() -> None:
    """One policy is enough; keywords reach a decorated function."""
    notes: list[str] = []

    @Pipeline(Noting("only", notes), name="sums")
    async def total(a: int, *, b: int) -> int:
        """Adds."""
        return await add(a, b)

    assert await total(3, b=4) == 7
    assert total.__doc__ == "Adds."
    assert notes == ["> only", "< only"]


async def test_pipeline_inside_a_pipeline_counts_as_its_policies() -> None:
    """Nesting runs in order, and hides no wrong order."""
    notes: list[str] = []
    inner = Pipeline(Noting("b", notes), Noting("c", notes))
    await Pipeline(Noting("a", notes), inner).call(add, 1, 1)
    assert notes[:3] == ["> a", "> b", "> c"]
    with pytest.raises(PipelineOrderError, match="circuit breaker b must not be outside retry r"):
        Pipeline(
            Pipeline(Noting("b", notes, Kind.BREAKER)), Pipeline(Noting("r", notes, Kind.RETRY))
        )


def test_pipeline_refuses_a_wrong_order_unless_told() -> None:
    """The error names both and says why; who knows better may have it so."""
    notes: list[str] = []
    policies = (Noting("orders", notes, Kind.BREAKER), Noting("again", notes, Kind.RETRY))
    with pytest.raises(PipelineOrderError, match="one probe would be several calls") as refused:
        Pipeline(*policies)
    assert isinstance(refused.value, ValueError)
    assert refused.value.finding.outer == "circuit breaker orders"
    assert Pipeline(*policies, allow_any_order=True).policies == policies


def test_pipeline_refuses_nothing_and_the_same_twice() -> None:
    """There has to be a policy, and a call cannot pass one twice."""
    with pytest.raises(ValueError, match="policies must be one or more"):
        Pipeline()
    one = Noting("one", [])
    with pytest.raises(ValueError, match="policies must differ"):
        Pipeline(one, one, allow_any_order=True)


def test_pipeline_takes_policies_only() -> None:
    """What is none is refused; threads belong to the very inside."""
    with pytest.raises(TypeError, match="policies must be policies, not 5"):
        Pipeline(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bulkhead t runs plain functions"):
        Pipeline(ThreadBulkhead("t", 1), CircuitBreaker("b"))


async def test_pipeline_keys_see_through_threads() -> None:
    """A key function gets the function's own arguments, whatever runs it."""
    seen: list[int] = []

    def key(number: int) -> int:
        seen.append(number)
        return number

    pipeline = Pipeline(SingleFlight().keyed(key), ThreadBulkhead("t", 1))
    assert await pipeline.call(lambda number: 2 * number, 21) == 42  # type: ignore[arg-type,return-value]
    assert await pipeline.call(functools.partial(lambda number: 2 * number, 5)) == 10
    assert seen == [21, 5]


def test_pipeline_prints_itself() -> None:
    """As a stair for people, on one line for logs."""
    pipeline = Pipeline(Bulkhead("db", 3), CircuitBreaker("db"), name="rows")
    assert str(pipeline) == "\n".join(
        ["rows", "└─ bulkhead db", "   └─ circuit breaker db", "      └─ the call"]
    )
    assert repr(pipeline) == "Pipeline(bulkhead db > circuit breaker db)"


async def test_pipeline_refusal_within_is_no_failure_to_an_outer_breaker() -> None:
    """A full bulkhead inside a breaker never opens it."""
    breaker = CircuitBreaker("outer", window=Consecutive(1))
    bulkhead = Bulkhead("inner", 1)
    pipeline = Pipeline(breaker, bulkhead)
    with bulkhead.acquire_nowait():
        for _ in range(5):
            with pytest.raises(BulkheadFull):
                await pipeline.call(add, 1, 1)
    assert breaker.statistics().failures == 0
    assert await pipeline.call(add, 1, 1) == 2


async def test_pipeline_statistics_are_those_of_all() -> None:
    """In the order of the policies, with the calls that came in."""
    pipeline = Pipeline(Noting("two", []), Bulkhead("one", 1), name="both")
    await pipeline.call(add, 1, 1)
    statistics = pipeline.statistics()
    assert (statistics.name, statistics.calls) == ("both", 1)
    noted, bulkhead = statistics.policies
    assert isinstance(bulkhead, BulkheadStatistics)
    assert (bulkhead.completed, noted) == (1, 2)


async def test_pipeline_cancelled_anywhere_gives_everything_back(
    autojump_clock: MockClock,
) -> None:
    """Whatever checkpoint a call is cancelled at, every permit is back."""

    async def work() -> None:
        await trio.sleep(1)
        await trio.sleep(1)

    async def scenario(point: CancellationPoint) -> None:
        breaker = CircuitBreaker("b", window=Consecutive(1))
        bulkhead = Bulkhead("a", 1)
        with point:
            await Pipeline(bulkhead, breaker).call(work)
        assert bulkhead.statistics().active == 0
        assert breaker.statistics().failures == 0

    assert await sweep_cancellations(scenario) >= 2
