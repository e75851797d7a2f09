"""How much one pipeline takes at a time, and when it asks again. Pure."""

from __future__ import annotations

from typing import Final, Self

import attrs

LOOK_AHEAD_SECONDS: Final = 0.1
"""Work may be claimed so long before a worker is free for it: many claims' round trips, so that
workers never wait for one, and too short for anybody to miss what another instance could send."""

MOST_LOOK_AHEAD: Final = 2
"""And never more than so much for each worker, however quick they are."""

_WEIGHT: Final = 0.1
"""Of the last send in the mean; the mean follows a change within some twenty sends."""


@attrs.frozen
class Pace:
    """How long sends take lately, as a moving mean.

    Attributes:
        mean_seconds: ``None`` before the first has ended.
    """

    mean_seconds: float | None = None

    def sent(self, seconds: float) -> Self:
        """After one more, which took ``seconds``."""
        mean = self.mean_seconds
        new = seconds if mean is None else mean + _WEIGHT * (seconds - mean)
        return attrs.evolve(self, mean_seconds=new)

    def look_ahead(self, parallel: int) -> int:
        """How many may be claimed beyond what the workers have."""
        if self.mean_seconds is None:
            return 0
        most = MOST_LOOK_AHEAD * parallel
        if self.mean_seconds * most <= LOOK_AHEAD_SECONDS * parallel:
            return most
        return int(LOOK_AHEAD_SECONDS * parallel / self.mean_seconds)


def claim_size(*, parallel: int, held: int, look_ahead: int) -> int:
    """How many to claim now; 0: it is not worth a claim yet.

    With everybody idle or little to do, whatever there is room for. Else a claim waits until it can
    fill half of the look-ahead at once, so that claims are few when sends are quick.

    Args:
        parallel: the workers.
        held: what is claimed and not ended: waiting, under way, or to be written.
        look_ahead: what may be held beyond ``parallel``.
    """
    room = parallel + look_ahead - held
    return room if room >= max(1, look_ahead // 2) else 0
