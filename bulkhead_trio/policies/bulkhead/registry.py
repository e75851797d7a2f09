"""A registry of bulkheads: one for each name, made when first asked for, and never too many."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import attrs
import trio

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies._checks import check_wait, check_whole
from bulkhead_trio.policies.bulkhead.bulkhead import (
    Bulkhead,
    BulkheadEvent,
    BulkheadRefused,
    BulkheadStatistics,
)
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.queue._rules import DrainRate

RETRY_SECONDS_UNLESS_KNOWN = 1.0
"""What a refusal says before it is known how often a bulkhead comes to rest."""


@attrs.frozen
class BulkheadSettings:
    """What a bulkhead of a registry is made with; see `Bulkhead`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    max_concurrent: int
    max_wait: float = 0.0
    max_queued: int | None = None
    listeners: tuple[Callable[[BulkheadEvent], None], ...] = ()

    def __attrs_post_init__(self) -> None:
        check_whole("max_concurrent", self.max_concurrent, minimum=1)
        check_wait("max_wait", self.max_wait)
        if self.max_queued is not None:
            check_whole("max_queued", self.max_queued, minimum=0)


def make_bulkhead(name: str, settings: BulkheadSettings) -> Bulkhead:
    """A plain `Bulkhead`."""
    return Bulkhead(
        name,
        settings.max_concurrent,
        max_wait=settings.max_wait,
        max_queued=settings.max_queued,
        listeners=settings.listeners,
    )


class BulkheadRegistry:
    """Bulkheads by name, made with common defaults when first asked for.

    There are at most ``max_bulkheads``. When one more is asked for, the one that has been idle the
    longest makes room: nobody runs or waits in it, and nobody has asked for it since. Whoever still
    has a reference can go on using it, and as long as somebody has one its name stands for that
    same bulkhead: no name ever has two limits.

    Args:
        max_concurrent: permits of each, where nothing else is said.
        max_wait: seconds a caller waits for a permit, where nothing else is said.
        max_queued: callers that may wait for one bulkhead, where nothing else is said.
        max_bulkheads: how many there may be; 1 or more.
        make: makes a bulkhead from a name and its settings; by default a plain `Bulkhead`.
        listeners: told of what every bulkhead tells, and of `BulkheadRefused` when there is no room
            for one more.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        *,
        max_concurrent: int,
        max_wait: float = 0.0,
        max_queued: int | None = None,
        max_bulkheads: int = 1000,
        make: Callable[[str, BulkheadSettings], Bulkhead] = make_bulkhead,
        listeners: Iterable[Callable[[BulkheadEvent], None]] = (),
    ) -> None:
        check_whole("max_bulkheads", max_bulkheads, minimum=1)
        self._defaults = BulkheadSettings(max_concurrent, max_wait, max_queued, tuple(listeners))
        self._max_bulkheads = max_bulkheads
        self._make = make
        self._bulkheads: dict[str, Bulkhead] = {}
        # The longest idle first. One that is busy again leaves when it is come upon, and is back
        # at the end when it comes to rest: so each step costs the same however many there are.
        self._idle: dict[str, None] = {}
        self._evicted = weakref.WeakValueDictionary[str, Bulkhead]()
        self._settings = weakref.WeakKeyDictionary[Bulkhead, BulkheadSettings]()
        self._rests = DrainRate()  # what leaves are bulkheads in use, and a gap is a service time

    def get(self, name: str) -> Bulkhead | None:
        """The bulkhead of that name; ``None`` where there is none."""
        bulkhead = self._bulkheads.get(name)
        if bulkhead is not None:
            self._touch(name)
        return bulkhead

    def get_or_create(
        self,
        name: str,
        *,
        max_concurrent: int | None = None,
        max_wait: float | None = None,
        max_queued: int | None = None,
    ) -> Bulkhead:
        """The bulkhead of that name, made now if there is none.

        Args:
            name: which.
            max_concurrent: permits, instead of the registry's default.
            max_wait: seconds a caller waits for a permit, instead of the registry's default.
            max_queued: callers that may wait, instead of the registry's default.

        Raises:
            BulkheadFull: there are as many bulkheads as there may be, and every one is in use.
            ValueError: there is one already, and it was made with something else; or a number makes
                no sense.
        """
        overrides: dict[str, Any] = {}
        if max_concurrent is not None:
            overrides["max_concurrent"] = max_concurrent
        if max_wait is not None:
            overrides["max_wait"] = max_wait
        if max_queued is not None:
            overrides["max_queued"] = max_queued
        bulkhead = self._bulkheads.get(name)
        if bulkhead is not None:
            self._check_agreement(bulkhead, overrides)
            self._touch(name)
            return bulkhead
        bulkhead = self._evicted.get(name)
        if bulkhead is not None:
            self._check_agreement(bulkhead, overrides)
            self._make_room(name)
        else:
            defaults = self._defaults
            settings = attrs.evolve(defaults, **overrides) if overrides else defaults
            self._make_room(name)
            bulkhead = self._made(name, settings)
        self._bulkheads[name] = bulkhead
        self._touch(name)
        return bulkhead

    def discard(self, name: str) -> None:
        """Forget a bulkhead, if there is one of that name.

        Calls in it go on under its limit; the next `get_or_create` makes a new one beside it.
        """
        self._idle.pop(name, None)
        self._evicted.pop(name, None)
        self._bulkheads.pop(name, None)

    def statistics(self) -> dict[str, BulkheadStatistics]:
        """What each bulkhead holds now, by name."""
        return {name: bulkhead.statistics() for name, bulkhead in self._bulkheads.items()}

    def __len__(self) -> int:
        return len(self._bulkheads)

    def __iter__(self) -> Iterator[str]:
        """The names, as they are now."""
        return iter(tuple(self._bulkheads))

    def __contains__(self, name: object) -> bool:
        return name in self._bulkheads

    # --- inside ----------------------------------------------------------------------------------

    def _made(self, name: str, settings: BulkheadSettings) -> Bulkhead:
        bulkhead = self._make(name, settings)
        if bulkhead.name != name:
            raise ValueError(f"make must name the bulkhead {name!r}, not {bulkhead.name!r}")
        bulkhead._when_at_rest = self._rested
        self._settings[bulkhead] = settings
        return bulkhead

    def _check_agreement(self, bulkhead: Bulkhead, overrides: dict[str, Any]) -> None:
        settings = self._settings[bulkhead]
        for key, value in overrides.items():
            made_with = getattr(settings, key)
            if value != made_with:
                raise ValueError(
                    f"bulkhead {bulkhead.name!r} was made with {key}={made_with!r}, not {value!r}"
                )

    def _touch(self, name: str) -> None:
        self._idle.pop(name, None)
        self._idle[name] = None

    def _rested(self, bulkhead: Bulkhead, now: float) -> None:
        last = self._rests.last_departure
        is_first = last == -math.inf
        self._rests = DrainRate(None, now) if is_first else self._rests.departed(now - last, now)
        if self._bulkheads.get(bulkhead.name) is bulkhead:
            self._touch(bulkhead.name)

    def _make_room(self, name: str) -> None:
        while len(self._bulkheads) >= self._max_bulkheads:
            longest_idle = next(iter(self._idle), None)
            if longest_idle is None:
                self._refuse(name)
            del self._idle[longest_idle]
            if self._bulkheads[longest_idle].is_at_rest:
                self._evicted[longest_idle] = self._bulkheads.pop(longest_idle)

    def _refuse(self, name: str) -> NoReturn:
        now = trio.current_time()
        retry_after = RETRY_SECONDS_UNLESS_KNOWN
        rests = self._rests
        if rests.mean_service is not None:
            last = rests.last_departure
            retry_after = rests.wait_for(1, workers=1, saturated_since=last, now=now)
        refusal = BulkheadFull(
            f"no room for bulkhead {name!r}: all {self._max_bulkheads} are in use",
            retry_after=retry_after,
        )
        listeners = self._defaults.listeners
        if listeners:
            tell(listeners, BulkheadRefused(name, refusal.reason, retry_after, now))
        raise refusal
