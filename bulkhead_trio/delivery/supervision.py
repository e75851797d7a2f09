"""One stage's supervisor: a stage that crashes is started again, and everybody can see that it did.

A crash is a mistake in the stage: what the database or a receiver does to it, it deals with itself.
It is logged with its traceback, counted, and contained: the other stages never notice.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

FIRST_RESTART_SECONDS: Final = 0.1
LONGEST_RESTART_SECONDS: Final = 10.0
"""A crashed stage is restarted after 0.1 s, then twice as long each time, up to 10 s."""

STEADY_SECONDS: Final = 60.0
"""A stage that has lived this long starts again from the shortest restart delay."""

_log = logging.getLogger("bulkhead_trio.delivery")


class Supervisor:
    """Runs a stage for as long as it is wanted, whatever it does.

    Args:
        name: of the stage, for logs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._crashes = 0

    @property
    def crashes(self) -> int:
        """How often the stage has crashed and was started again."""
        return self._crashes

    async def run(self, stage: Callable[[], Awaitable[None]]) -> None:
        """Run ``stage`` until it returns or is cancelled, starting it again after every crash."""
        delay = FIRST_RESTART_SECONDS
        while True:
            born = trio.current_time()
            try:
                await stage()
            except Exception:  # noqa: BLE001  containing any crash is its purpose
                if trio.current_time() - born >= STEADY_SECONDS:
                    delay = FIRST_RESTART_SECONDS
                self._crashes += 1
                _log.exception("%s crashed; it is started again in %.1f s", self.name, delay)
            else:
                return
            await trio.sleep(delay)
            delay = min(2 * delay, LONGEST_RESTART_SECONDS)
