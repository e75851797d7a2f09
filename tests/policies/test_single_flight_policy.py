"""Single flight as a policy; its listeners and its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio.policies.bulkhead import Bulkhead
from bulkhead_trio.policies.deadline import Timeout
from bulkhead_trio.policies.pipeline import Pipeline
from bulkhead_trio.policies.policy import Kind
from bulkhead_trio.policies.single_flight import (
    FlightHandedOver,
    FlightLanded,
    SingleFlight,
    SingleFlightEvent,
)
from tests.policies._single_flight import Caller, Failed, Work


async def test_keyed_flight_decorates(autojump_clock: MockClock) -> None:
    """The key is made of the call's own arguments, keywords too."""
    flight, runs = SingleFlight(name="rows"), []

    @flight.keyed(lambda row, *, tenant: (tenant, row))
    async def read(row: int, *, tenant: str) -> str:
        """Reads."""
        runs.append((tenant, row))
        await trio.sleep(1)
        return f"{tenant} {row}"

    results: list[str] = []

    async def ask(row: int, tenant: str) -> None:
        results.append(await read(row, tenant=tenant))

    async with trio.open_nursery() as nursery:
        for tenant in ("a", "b", "a", "b"):
            nursery.start_soon(ask, 7, tenant)
    assert sorted(results) == ["a 7", "a 7", "b 7", "b 7"]
    assert sorted(runs) == [("a", 7), ("b", 7)]
    assert read.__doc__ == "Reads."


async def test_keyed_flight_in_a_pipeline_has_the_innermost_arguments(
    autojump_clock: MockClock,
) -> None:
    """Whatever policies are between, and whether the pipeline is called or decorates."""
    keys: list[object] = []

    def key_of(row: int, tenant: str) -> object:
        keys.append((tenant, row))
        return tenant, row

    async def read(row: int, tenant: str) -> str:
        await trio.sleep(1)
        return f"{tenant} {row}"

    flight = SingleFlight(name="rows")
    keyed = flight.keyed(key_of)
    assert (keyed.kind, keyed.name) == (Kind.SINGLE_FLIGHT, "rows")
    for pipeline in (
        Pipeline(keyed),
        Pipeline(keyed, Bulkhead("b", 1)),
        Pipeline(Timeout(5.0), keyed, Timeout(4.0), Bulkhead("b", 1)),
    ):
        assert await pipeline.call(read, 1, "a") == "a 1"
        assert await pipeline(read)(2, tenant="b") == "b 2"
    assert keys == [("a", 1), ("b", 2)] * 3
    assert keyed.statistics() == flight.statistics()
    assert keyed.statistics().led == 6


async def test_keyed_flight_lets_one_call_of_a_key_through_a_bulkhead(
    autojump_clock: MockClock,
) -> None:
    """Outside a bulkhead, those who share take no permit."""
    bulkhead = Bulkhead("b", 1)
    pipeline = Pipeline(SingleFlight().keyed(lambda _: "all"), bulkhead)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(pipeline.call, trio.sleep, 1)
    assert bulkhead.statistics().completed == 1


async def test_flight_tells_its_listeners(autojump_clock: MockClock) -> None:
    """Of each landing and each hand-over, when the state has settled."""
    told: list[SingleFlightEvent] = []
    rest: list[tuple[int, int]] = []
    flight: SingleFlight

    def listen(event: SingleFlightEvent) -> None:
        told.append(event)
        statistics = flight.statistics()
        rest.append((statistics.in_flight, statistics.waiting))

    flight = SingleFlight(name="f", listeners=[listen])
    error = Failed()
    async with trio.open_nursery() as nursery:
        callers = []
        for work in (Work(), Work(error=error), Work()):
            callers.append(Caller(nursery, flight, "key", work))
            await wait_all_tasks_blocked()
        callers[0].scope.cancel()
    await flight.call("other", trio.sleep, 1)
    assert [attrs.evolve(event, at=0.0) for event in told] == [
        FlightHandedOver("f", "key", 1, 0.0),
        FlightLanded("f", "key", 1, error, 0.0),
        FlightLanded("f", "other", 0, None, 0.0),
    ]
    assert [event.at for event in told] == [0, 1, 2]
    assert rest == [(1, 1), (0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SingleFlight(ttl=0.0), "ttl"),
        (lambda: SingleFlight(ttl=-1.0), "ttl"),
        (lambda: SingleFlight(ttl=math.nan), "ttl"),
        (lambda: SingleFlight(ttl=math.inf), "ttl"),
        (lambda: SingleFlight(ttl=1.0, stale=-1.0), "stale"),
        (lambda: SingleFlight(ttl=1.0, stale=math.inf), "stale"),
        (lambda: SingleFlight(stale=1.0), "stale"),
        (lambda: SingleFlight(ttl=1.0, max_keys=0), "max_keys"),
        (lambda: SingleFlight(ttl=1.0, max_keys=2.5), "max_keys"),  # type: ignore[arg-type]
    ],
)
def test_flight_nonsense_is_refused_by_name(make: Callable[[], SingleFlight], name: str) -> None:
    """A number that makes no sense is refused where the flight is made."""
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make()
