"""When a worker process that has ended is started again. Pure."""

from __future__ import annotations

from typing import Self

import attrs

YOUNG_SECONDS = 10.0
"""Who dies younger may die of something that kills the next one as well."""

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0

MOST_FAILED_STARTS = 4
"""In a row and without ever being ready: then another try will not help. It takes 0.7 s more than
the starts themselves."""


@attrs.frozen
class Restarts:
    """How the processes of one worker have ended lately.

    Attributes:
        young: in a row that died young.
        failed_starts: in a row that were never ready.
    """

    young: int = 0
    failed_starts: int = 0

    def ended(self, *, lived: float, was_ready: bool) -> Self:
        """One more has ended, after ``lived`` seconds."""
        is_young = not was_ready or lived < YOUNG_SECONDS
        return attrs.evolve(
            self,
            young=self.young + 1 if is_young else 0,
            failed_starts=0 if was_ready else self.failed_starts + 1,
        )

    @property
    def delay(self) -> float:
        """Seconds until the next start: twice as long after each that died young, up to 10 s."""
        if not self.young:
            return 0.0
        return min(FIRST_DELAY_SECONDS * 2.0 ** min(self.young - 1, 30), LONGEST_DELAY_SECONDS)

    @property
    def is_hopeless(self) -> bool:
        """Whether it has never been ready often enough to stop trying."""
        return self.failed_starts >= MOST_FAILED_STARTS
