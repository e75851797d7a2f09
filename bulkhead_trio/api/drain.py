"""Shutting down without dropping anybody: new work is refused, what runs is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from bulkhead_trio.errors import Draining


class DrainGate:
    """Counts the requests under way, and closes."""

    def __init__(self) -> None:
        self._passing: set[trio.CancelScope] = set()
        self._is_draining = False
        self._idle = trio.Event()

    @property
    def is_draining(self) -> bool:
        """Whether new work is refused."""
        return self._is_draining

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._passing)

    @contextmanager
    def passage(self) -> Iterator[None]:
        """One request, from its head to its answer.

        Raises:
            Draining: the gate is closed, or the time that was left to this request is up.
        """
        if self._is_draining:
            raise Draining("The server is shutting down.", retry_after=1.0)
        with trio.CancelScope() as scope:
            self._passing.add(scope)
            try:
                yield
            finally:
                self._passing.discard(scope)
                self._note_idle()
        if scope.cancelled_caught:
            raise Draining("The server shut down before this was done.", retry_after=1.0)

    def close(self) -> None:
        """Refuse new work from now on."""
        self._is_draining = True
        self._note_idle()

    def cut_off(self) -> None:
        """End what is still under way; each request is answered `Draining`."""
        for scope in list(self._passing):
            scope.cancel()

    async def wait_idle(self) -> None:
        """Return once the gate is closed and nothing is under way."""
        await self._idle.wait()

    def _note_idle(self) -> None:
        if self._is_draining and not self._passing:
            self._idle.set()
