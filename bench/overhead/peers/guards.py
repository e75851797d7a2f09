"""What a breaker or a bulkhead is to a benchmark, whoever made it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from bench.overhead.subjects import Block, Work


@attrs.frozen
class Guard:
    """One breaker or bulkhead, in the forms that it is used in.

    Attributes:
        call: runs a function under it; raises what the function raises.
        refusal: what it raises instead when it does not let a call through.
        passing: a block of calls that are let through, in the form that costs least.
        refusing: the same of calls that are refused.
    """

    call: Callable[[Work], Awaitable[object]]
    refusal: type[Exception]
    passing: Callable[[Work], Block]
    refusing: Callable[[], Block]


@attrs.frozen
class BreakerMaker:
    """Makes breakers that open after ``failures`` in a row, and let one probe through in time.

    Attributes:
        make: gets the failures and the cooldown in seconds.
    """

    package: str
    label: str
    make: Callable[[int, float], Awaitable[Guard]]


@attrs.frozen
class BulkheadMaker:
    """Makes bulkheads.

    Attributes:
        make: gets how many may run at once, and how many more may wait.
    """

    package: str
    label: str
    make: Callable[[int, int], Awaitable[Guard]]


async def unreachable() -> None:
    """What must not be called."""
    raise AssertionError("a refused call was made all the same")


async def failing() -> None:
    """A call that fails."""
    raise ConnectionError("the dependency is down")


async def open_up(guard: Guard, failures: int) -> None:
    """Let a breaker see so many failures."""
    for _ in range(failures):
        try:
            await guard.call(failing)
        except (ConnectionError, guard.refusal):
            continue
