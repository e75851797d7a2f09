"""Which keys were used since that was last written down. Pure."""

from __future__ import annotations


class Uses:
    """The last use of each of at most so many keys.

    Args:
        most: keys; the uses of others are left out until these have been written down.
    """

    __slots__ = ("_at", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._at)

    def note(self, key_id: str, now: float) -> None:
        """A key was used."""
        if key_id in self._at or len(self._at) < self._most:
            self._at[key_id] = now

    def take(self) -> dict[str, float]:
        """What was noted since this was last asked: keys, and when."""
        taken, self._at = self._at, {}
        return taken
