"""What every stage does while the database is away: ask again, at growing distances, and say so."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

import trio

from bulkhead_trio.database._rules import Reconnection
from bulkhead_trio.errors import DeadlineExceeded, Unavailable

STORE_SECONDS: Final = 10.0
"""The longest that one statement of a stage may take; then the database counts as away."""

EXPLAIN_SECONDS: Final = 60.0
"""Between two log lines of one stage about a database that is away."""

_log = logging.getLogger("bulkhead_trio.delivery")


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says that the database is away, rather than that we made a mistake."""
    return isinstance(error, Unavailable | DeadlineExceeded)


class Backoff:
    """One stage's patience.

    Args:
        what: the stage does, for logs.
        uniform: a source of numbers in [0, 1).
    """

    def __init__(self, what: str, *, uniform: Callable[[], float] = random.random) -> None:
        self._what = what
        self._uniform = uniform
        self._reconnection = Reconnection()
        self._explained_at = float("-inf")

    @property
    def is_failing(self) -> bool:
        """Whether the last try failed."""
        return self._reconnection.is_failing

    def succeeded(self) -> None:
        """The database is there."""
        if self._reconnection.is_failing:
            _log.info("%s works again", self._what)
            self._reconnection = self._reconnection.succeeded()
            self._explained_at = float("-inf")

    def failed(self, error: BaseException) -> float:
        """The database is away; seconds until it should be asked again."""
        now = trio.current_time()
        self._reconnection = self._reconnection.failed(now, self._uniform())
        if now - self._explained_at >= EXPLAIN_SECONDS:
            self._explained_at = now
            _log.warning("%s waits for the database: %s", self._what, error)
        return self._reconnection.seconds_left(now)

    async def wait_after(self, error: BaseException) -> None:
        """Wait as long as should be waited after ``error``."""
        await trio.sleep(self.failed(error))
