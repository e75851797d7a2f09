"""Work that must not run twice at once, callers to be cancelled, and a look at what is left."""

from __future__ import annotations

import math
from typing import Any

import trio

from bulkhead_trio.policies.single_flight import SingleFlight


class Failed(Exception):
    """What work that fails raises."""


class Work:
    """Counts its runs; never more than one at a time may be running."""

    def __init__(self, seconds: float = 1.0, error: Exception | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.runs = 0
        self.running = 0

    async def __call__(self, result: object = None) -> object:
        self.runs += 1
        self.running += 1
        assert self.running == 1
        try:
            await trio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return self.runs if result is None else result


class Caller:
    """A task that asks once, and what came of it; it may be cancelled."""

    def __init__(self, nursery: trio.Nursery, flight: SingleFlight, *args: Any) -> None:
        self.scope = trio.CancelScope()
        self.result: Any = None
        self.error: Exception | None = None
        self.ended_at = math.nan
        nursery.start_soon(self._run, flight, args)

    async def _run(self, flight: SingleFlight, args: tuple[Any, ...]) -> None:
        with self.scope:
            try:
                self.result = await flight.call(*args)
            except Exception as error:  # noqa: BLE001  looked at by the test
                self.error = error
        self.ended_at = trio.current_time()


def assert_at_rest(flight: SingleFlight) -> None:
    statistics = flight.statistics()
    assert (statistics.in_flight, statistics.waiting) == (0, 0)
    assert flight._flights == {}


async def two_steps() -> str:
    await trio.sleep(1)
    await trio.sleep(1)
    return "done"
