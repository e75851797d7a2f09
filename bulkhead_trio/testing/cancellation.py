"""Cancel a piece of code at each of its checkpoints in turn, and check what is left each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal

import trio

Moment = Literal["parked", "entering"]

MOST_CHECKPOINTS = 10_000
"""A scenario that has more does not end."""


class CancellationPoint(trio.abc.Instrument):
    """A ``with`` block that is cancelled at the ``number``-th checkpoint of its task.

    Args:
        number: counted from 1.
        moment: ``parked`` cancels while the task waits there; ``entering`` has the cancellation
            pending already when it arrives.
    """

    def __init__(self, number: int, moment: Moment) -> None:
        self._number = number
        self._moment = moment
        self._seen = 0
        self._scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None

    @property
    def was_reached(self) -> bool:
        """Whether the block had that many checkpoints."""
        return self._scope.cancel_called

    @property
    def was_cancelled(self) -> bool:
        """Whether the block ended by being cancelled."""
        return self._scope.cancelled_caught

    def __enter__(self) -> CancellationPoint:
        self._task = trio.lowlevel.current_task()
        self._scope.__enter__()
        if self._moment == "entering" and self._number == 1:
            self._scope.cancel()
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        trio.lowlevel.remove_instrument(self)
        return self._scope.__exit__(exc_type, exc, traceback)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's call: the task goes on, so its next checkpoint is one further."""
        if task is self._task and self._moment == "entering":
            self._count(1)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's call: the task has reached a checkpoint."""
        if task is self._task and self._moment == "parked":
            self._count(0)

    def _count(self, ahead: int) -> None:
        self._seen += 1
        if self._seen + ahead == self._number:
            self._scope.cancel()


async def sweep_cancellations(
    scenario: Callable[[CancellationPoint], Awaitable[None]],
) -> int:
    """Run ``scenario`` once for every checkpoint in its block, cancelling it there.

    The scenario makes what it needs, runs the code in question inside ``with point:``, and checks
    afterwards that everything is at rest; it should do so whether or not it was cancelled.

    Returns:
        how many checkpoints there were.

    Raises:
        RuntimeError: there seems to be no end of them.
    """
    counts = [await _sweep(scenario, moment) for moment in ("parked", "entering")]
    return max(counts)


async def _sweep(scenario: Callable[[CancellationPoint], Awaitable[None]], moment: Moment) -> int:
    for number in range(1, MOST_CHECKPOINTS):
        point = CancellationPoint(number, moment)
        await scenario(point)
        if not point.was_reached:
            return number - 1
    raise RuntimeError(f"more than {MOST_CHECKPOINTS} checkpoints")
