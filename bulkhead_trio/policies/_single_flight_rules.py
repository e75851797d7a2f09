"""How long a result may be used again, which ones are kept, and who shares a failure. Pure.

The three ages of a result are those of RFC 5861, section 3: fresh, stale while somebody gets a new
one, and gone.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")


class Age(enum.Enum):
    """What a kept result is good for."""

    FRESH = "fresh"
    STALE = "stale"
    GONE = "gone"


@attrs.frozen
class Lifetime:
    """How long a result lives.

    Attributes:
        ttl: seconds in which it is fresh.
        stale: seconds after those in which it is better than waiting.
    """

    ttl: float
    stale: float = 0.0

    def age(self, kept_at: float, now: float) -> Age:
        """What a result kept at ``kept_at`` is good for at ``now``."""
        if now < kept_at + self.ttl:
            return Age.FRESH
        return Age.STALE if now < kept_at + self.ttl + self.stale else Age.GONE


@attrs.frozen
class Kept(Generic[T]):
    """A result, and since when it is here."""

    value: T
    at: float


class Shelf(Generic[T]):
    """The results of at most ``places`` keys; the one kept longest ago makes room.

    Every result lives equally long, so the order in which they came is the order in which they go,
    and those that are gone are always at the front.

    Args:
        places: how many keys.
        lifetime: of every result.
    """

    __slots__ = ("_kept", "_lifetime", "_places")

    def __init__(self, places: int, lifetime: Lifetime) -> None:
        self._places = places
        self._lifetime = lifetime
        self._kept: OrderedDict[Hashable, Kept[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def look(self, key: Hashable, now: float) -> tuple[Age, Kept[T] | None]:
        """The result of ``key`` and what it is good for; ``None`` where that is nothing."""
        kept = self._kept.get(key)
        if kept is None:
            return Age.GONE, None
        age = self._lifetime.age(kept.at, now)
        if age is Age.GONE:
            del self._kept[key]
            return age, None
        return age, kept

    def keep(self, key: Hashable, value: T, now: float) -> None:
        """Keep a new result, and let go of those that are gone or have no place."""
        self._kept.pop(key, None)
        self._kept[key] = Kept(value, now)
        while True:
            oldest = next(iter(self._kept.values()))
            is_gone = self._lifetime.age(oldest.at, now) is Age.GONE
            if not is_gone and len(self._kept) <= self._places:
                return
            self._kept.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        """Let go of the result of ``key``, if there is one."""
        self._kept.pop(key, None)


def may_still_make_it(
    *, waiter_deadline: float, leader_deadline: float, now: float, was_refused: bool
) -> bool:
    """Whether a failure for want of time was the leader's own, and a waiter has more of it.

    Args:
        waiter_deadline: until when the waiter may wait.
        leader_deadline: until when the leader could run.
        now: when it failed.
        was_refused: whether it was refused for the time it would take. Otherwise it has used up
            its time; with the leader's deadline still to come, that was a limit further in, which
            would be the same for everybody.
    """
    if not was_refused and now < leader_deadline:
        return False
    return waiter_deadline > leader_deadline
