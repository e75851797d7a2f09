"""A breaker for each endpoint: its own, bounded in number, forgotten when idle."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.delivery.endpoint_breakers import (
    COOLDOWNS,
    FAILURES,
    IDLE_SECONDS,
    EndpointBreakers,
)
from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import CircuitBreaker

URL = "https://one.example/hook"


def breakers(most: int = 3) -> EndpointBreakers:
    """Calls return ``fail``, ``nothing``, or anything else for a success."""
    return EndpointBreakers(
        is_failure=lambda result: result == "fail",
        is_ignored=lambda result: result == "nothing",
        most=most,
    )


async def end(breaker: CircuitBreaker, result: str) -> str:
    async def work() -> str:
        await trio.lowlevel.checkpoint()
        return result

    return await breaker.call(work)


async def trip(breaker: CircuitBreaker) -> None:
    for _ in range(FAILURES):
        await end(breaker, "fail")


async def test_breaker_is_the_endpoints_own(autojump_clock: MockClock) -> None:
    """One that is down stops its own deliveries and nobody else's."""
    known = breakers()
    await trip(known.get(UUID(int=1), URL))
    with pytest.raises(CircuitOpen):
        await end(known.get(UUID(int=1), URL), "ok")
    assert await end(known.get(UUID(int=2), URL), "ok") == "ok"


async def test_new_url_begins_anew(autojump_clock: MockClock) -> None:
    """Who has put the URL right is not left waiting for what the old one did."""
    known = breakers()
    await trip(known.get(UUID(int=1), URL))
    assert await end(known.get(UUID(int=1), URL + "/new"), "ok") == "ok"


async def test_breaker_opens_after_five_failures_in_a_row(autojump_clock: MockClock) -> None:
    """A success between begins the count anew; what says nothing neither counts nor ends it."""
    known = breakers()
    breaker = known.get(UUID(int=1), URL)
    for result in ["fail"] * (FAILURES - 1) + ["ok"] + ["fail"] * (FAILURES - 1) + ["nothing"] * 5:
        await end(breaker, result)
    await end(breaker, "fail")
    with pytest.raises(CircuitOpen) as caught:
        await end(breaker, "ok")
    assert caught.value.retry_after == pytest.approx(COOLDOWNS[0])


async def test_cooldown_grows_while_probes_fail(autojump_clock: MockClock) -> None:
    """From 5 seconds to 30, and back to 5 when it has worked again."""
    known = breakers()
    breaker = known.get(UUID(int=1), URL)
    await trip(breaker)
    for cooldown in (*COOLDOWNS, COOLDOWNS[-1]):
        with pytest.raises(CircuitOpen) as caught:
            await end(breaker, "ok")
        assert caught.value.retry_after == pytest.approx(cooldown)
        await trio.sleep(cooldown)
        await end(breaker, "fail")
    await trio.sleep(COOLDOWNS[-1])
    await end(breaker, "ok")
    await trip(breaker)
    with pytest.raises(CircuitOpen) as caught:
        await end(breaker, "ok")
    assert caught.value.retry_after == pytest.approx(COOLDOWNS[0])


async def test_error_of_ours_counts_neither_way(autojump_clock: MockClock) -> None:
    """What a call raises is no matter of the endpoint's."""
    known = breakers()
    breaker = known.get(UUID(int=1), URL)

    async def broken() -> str:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("ours")

    for _ in range(3 * FAILURES):
        with pytest.raises(RuntimeError):
            await breaker.call(broken)
    assert await end(breaker, "ok") == "ok"


async def test_number_of_breakers_is_bounded(autojump_clock: MockClock) -> None:
    """The one that was asked for longest ago makes room."""
    known = breakers(most=3)
    first, second, third = (known.get(UUID(int=each), URL) for each in (1, 2, 3))
    assert known.get(UUID(int=1), URL) is first
    known.get(UUID(int=4), URL)
    assert known.get(UUID(int=2), URL) is not second
    assert known.get(UUID(int=1), URL) is first
    assert known.get(UUID(int=3), URL) is not third
    assert known.statistics().endpoints == 3


async def test_idle_breaker_is_forgotten(autojump_clock: MockClock) -> None:
    """A quarter of an hour after it was last asked for."""
    known = breakers()
    breaker = known.get(UUID(int=1), URL)
    await trip(breaker)
    await trio.sleep(IDLE_SECONDS - 1)
    assert known.get(UUID(int=1), URL) is breaker
    await trio.sleep(IDLE_SECONDS)
    assert known.statistics().endpoints == 0
    assert known.get(UUID(int=1), URL) is not breaker


async def test_statistics_tell_states_as_they_are(autojump_clock: MockClock) -> None:
    """A breaker whose cooldown has passed is half open, and one that works again closed."""
    known = breakers()
    await end(known.get(UUID(int=1), URL), "ok")
    breaker = known.get(UUID(int=2), URL)
    await trip(breaker)
    assert known.statistics().states == {"CLOSED": 1, "OPEN": 1, "HALF_OPEN": 0}
    await trio.sleep(COOLDOWNS[0])
    assert known.statistics().states == {"CLOSED": 1, "OPEN": 0, "HALF_OPEN": 1}
    await end(breaker, "ok")
    assert known.statistics().states == {"CLOSED": 2, "OPEN": 0, "HALF_OPEN": 0}
    assert known.statistics().opened == 1


async def test_breaker_that_moves_after_it_was_forgotten_is_not_counted(
    autojump_clock: MockClock,
) -> None:
    """A call may outlast its breaker's place; how it ends is nobody's state then."""
    known = breakers(most=1)
    breaker = known.get(UUID(int=1), URL)
    for _ in range(FAILURES - 1):
        await end(breaker, "fail")
    known.get(UUID(int=2), URL)
    await end(breaker, "fail")
    assert known.statistics().states == {"CLOSED": 1, "OPEN": 0, "HALF_OPEN": 0}
    known.get(UUID(int=1), URL)
    assert known.statistics().states == {"CLOSED": 1, "OPEN": 0, "HALF_OPEN": 0}


async def test_forgotten_breaker_leaves_no_state_behind(autojump_clock: MockClock) -> None:
    """Neither by being idle nor by making room."""
    known = breakers(most=1)
    await trip(known.get(UUID(int=1), URL))
    known.get(UUID(int=2), URL)
    assert known.statistics().states == {"CLOSED": 1, "OPEN": 0, "HALF_OPEN": 0}
    await trip(known.get(UUID(int=2), URL))
    await trio.sleep(IDLE_SECONDS)
    assert known.statistics().states == {"CLOSED": 0, "OPEN": 0, "HALF_OPEN": 0}


@pytest.mark.parametrize(("most", "idle"), [(0, 1.0), (1, 0.0)])
def test_nonsense_is_refused(most: int, idle: float) -> None:
    """By name."""
    with pytest.raises(ValueError, match=r"most|idle"):
        EndpointBreakers(is_failure=bool, is_ignored=bool, most=most, idle=idle)
