"""A bell that one task waits for and anybody rings: rung while nobody waits, it is remembered."""

from __future__ import annotations

import trio


class Bell:
    """Wakes one stage. Any number of rings before it looks are one."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Wake whoever waits, or who waits next; never waits and never fails."""
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most ``seconds``; whether there was one. It is taken back then."""
        with trio.move_on_after(max(0.0, seconds)):
            await self._rung.wait()
        was_rung = self._rung.is_set()
        self._rung = trio.Event()
        return was_rung
