"""A request's place in its tier's compartment, which it may give back before it ends."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from bulkhead_trio.policies.compartment import Slot
from bulkhead_trio.tiers import Passage


class Place:
    """A place in a tier's compartment, which a tunnel gives back before it ends.

    Args:
        slot: the place.
        passage: counts the request.
    """

    __slots__ = ("_passage", "_slot")

    def __init__(self, slot: Slot, passage: Passage) -> None:
        self._slot: Slot | None = slot
        self._passage = passage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.__exit__(exc_type, exc, traceback)

    def give_back(self) -> None:
        """The request is done, as far as its tier goes."""
        self.__exit__(None, None, None)
        self._passage.end("ok")
