"""How long a place in a queue will take: pure arithmetic over observed service times.

Little's law turned round: with ``w`` workers and a mean service time ``s``, one departure is
expected every ``s / w`` seconds, so somebody with ``n`` departures ahead waits about ``n * s / w``.
"""

from __future__ import annotations

from typing import Self

import msgspec

WEIGHT_OF_NEWEST = 0.2
"""Share of the newest sample in the moving average: about the last ten departures matter."""


class DrainRate(msgspec.Struct, frozen=True, gc=False):
    """A moving average of service times, and when work last left.

    A struct of msgspec rather than an attrs class: one is made for every call that ends, and this
    takes a tenth of the time.

    Attributes:
        mean_service: seconds, exponentially weighted; ``None`` until something has left.
        last_departure: the clock's time at which something last left; ``-inf`` for never.
    """

    mean_service: float | None = None
    last_departure: float = float("-inf")

    def departed(self, service: float, now: float) -> Self:
        """Count one piece of work that left at ``now`` after ``service`` seconds of running."""
        if self.mean_service is None:
            mean = service
        else:
            mean = self.mean_service + WEIGHT_OF_NEWEST * (service - self.mean_service)
        return type(self)(mean_service=mean, last_departure=now)

    def wait_for(
        self, departures: int, *, workers: int, saturated_since: float, now: float
    ) -> float:
        """Seconds until ``departures`` more pieces of work will have left.

        Args:
            departures: how many must leave first.
            workers: how many run at the same time.
            saturated_since: since when every worker has been busy, on the same clock.
            now: the clock's time.

        While nothing leaves, the average says nothing new; but whatever has been running since the
        last departure has run that long at least, which bounds the service time from below.
        """
        stalled = max(0.0, now - max(self.last_departure, saturated_since))
        service = max(self.mean_service or 0.0, stalled)
        return departures * service / workers
