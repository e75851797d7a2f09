"""Shutting down without dropping anybody: new work is refused, what runs is waited for."""

from __future__ import annotations

from types import TracebackType

import trio

from bulkhead_trio.errors import Draining


class DrainGate:
    """Counts the requests under way, and closes."""

    def __init__(self) -> None:
        self._passing: set[trio.CancelScope] = set()
        self._is_draining = False
        self._idle = trio.Event()
        self._counted = 0

    @property
    def is_draining(self) -> bool:
        """Whether new work is refused."""
        return self._is_draining

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._passing) + self._counted

    def passage(self) -> Passage:
        """One request, from its head to its answer: ``with gate.passage():``.

        Raises:
            Draining: the gate is closed, or the time that was left to this request is up.
        """
        return Passage(self)

    def counted(self) -> Counted:
        """As `passage`, for a request that somebody else cuts off: it is only counted.

        Raises:
            Draining: the gate is closed.
        """
        return Counted(self)

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
        if self._is_draining and not self.in_flight:
            self._idle.set()


class Passage:
    """A request's way through a gate; see `DrainGate.passage`.

    Args:
        gate: which counts it.
    """

    __slots__ = ("_gate", "_scope")

    def __init__(self, gate: DrainGate) -> None:
        self._gate = gate
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        if self._gate.is_draining:
            raise Draining("The server is shutting down.", retry_after=1.0)
        self._scope.__enter__()
        self._gate._passing.add(self._scope)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate._passing.discard(self._scope)
        self._gate._note_idle()
        self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught:
            raise Draining("The server shut down before this was done.", retry_after=1.0) from None


class Counted:
    """A request's way through a gate that only counts it; see `DrainGate.counted`.

    Args:
        gate: which counts it.
    """

    __slots__ = ("_gate",)

    def __init__(self, gate: DrainGate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        if self._gate._is_draining:
            raise Draining("The server is shutting down.", retry_after=1.0)
        self._gate._counted += 1

    def __exit__(self, *_: object) -> None:
        self._gate._counted -= 1
        self._gate._note_idle()
