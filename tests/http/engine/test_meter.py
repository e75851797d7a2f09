"""Loop time is charged to whom it was spent for, in whichever task."""

from __future__ import annotations

import trio
import trio.testing

from bulkhead_trio.http.engine.meter import METERED, LoopMeter


class Bill:
    """Adds up what it is charged."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_step(self, seconds: float) -> None:
        self.seconds += seconds


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_meter_charges_a_task_and_those_it_starts() -> None:
    """Each step is charged to what its task works for; who works for nobody is charged nothing."""
    clock, mine, other = Clock(), Bill(), Bill()

    async def work(seconds: float) -> None:
        clock.now += seconds
        await trio.lowlevel.checkpoint()
        clock.now += seconds

    async def request(bill: Bill, seconds: float) -> None:
        METERED.set(bill)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, seconds)

    meter = LoopMeter(clock)
    meter.turn_on()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, mine, 1.0)
        nursery.start_soon(request, other, 10.0)
        nursery.start_soon(work, 100.0)
    meter.turn_off()
    assert (mine.seconds, other.seconds) == (2.0, 20.0)


async def test_meter_does_not_charge_for_waiting() -> None:
    """The time in which the loop had nothing to do is nobody's."""
    clock, bill = Clock(), Bill()

    class Waiting(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  Trio's
            clock.now += 1000.0

    meter, waiting = LoopMeter(clock), Waiting()
    meter.turn_on()
    trio.lowlevel.add_instrument(waiting)
    METERED.set(bill)
    for _ in range(3):
        await trio.lowlevel.checkpoint()
        clock.now += 1.0
    await trio.lowlevel.checkpoint()
    METERED.set(None)
    meter.turn_off()
    trio.lowlevel.remove_instrument(waiting)
    assert 3.0 <= bill.seconds < 1000.0
