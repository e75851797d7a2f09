"""Deadlines: one point in time that holds for everything a request does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import attrs
import trio

from bulkhead_trio.errors import DeadlineExceeded


@attrs.frozen
class Deadline:
    """A point on Trio's clock.

    Attributes:
        at: as `trio.current_time` counts.
    """

    at: float

    @classmethod
    def starting_now(cls, *, limit: float, asked: float | None) -> Self:
        """The smaller of the server's ``limit`` and what the caller ``asked`` for, in seconds."""
        wanted = math.inf if asked is None else asked
        return cls(at=trio.current_time() + min(limit, wanted))

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Run a block within the deadline.

        Raises:
            DeadlineExceeded: the deadline passed inside the block and nothing wider was cancelled.
                A block that came to its end all the same has what it came for: nothing it holds is
                lost. Whoever wants it punctual too calls `check`.
        """
        with trio.CancelScope(deadline=self.at) as scope:
            yield
        if scope.cancelled_caught:
            raise DeadlineExceeded("the deadline has passed")

    def check(self) -> None:
        """Refuse to go on, or to answer, when it is too late.

        Raises:
            DeadlineExceeded: the deadline has passed.
        """
        if trio.current_time() >= self.at:
            raise DeadlineExceeded("the deadline has passed")
