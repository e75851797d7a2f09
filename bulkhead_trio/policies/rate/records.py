"""What rate limiters tell: statistics and events."""

from __future__ import annotations

from collections.abc import Hashable

import attrs

from bulkhead_trio.policies.rate._decision import Decision


@attrs.frozen
class RateLimiterStatistics:
    """What a limiter knows at one moment.

    Attributes:
        limit: the quota, in units of cost.
        window: what the quota is for, in seconds.
        remaining: the largest cost that would pass now; 0 while somebody waits.
        allowed: requests that went.
        refused: requests that were sent away; in shadow mode, those that would have been.
        waiting: callers and reservations whose moment has not come.
        given_back: places and reservations that were given back before they were used.
        shadow: whether refusals are only counted.
    """

    limit: int
    window: float
    remaining: int
    allowed: int
    refused: int
    name: str = ""
    waiting: int = 0
    given_back: int = 0
    shadow: bool = False


@attrs.frozen
class KeyedRateLimiterStatistics:
    """What a keyed limiter knows at one moment; the counts are over all keys.

    Attributes:
        keys: keys that are remembered.
        max_keys: how many may be.
        forgotten: keys that were forgotten once they were at rest.
        allowed: requests that went.
        refused: requests that were sent away; in shadow mode, those that would have been.
        exempted: requests of exempt keys.
        turned_away: of the refused, those of new keys for which there was no room.
        waiting: callers and reservations whose moment has not come.
        given_back: places and reservations that were given back before they were used.
        shadow: whether refusals are only counted.
    """

    name: str
    keys: int
    max_keys: int
    forgotten: int
    allowed: int
    refused: int
    exempted: int
    turned_away: int
    waiting: int
    given_back: int
    shadow: bool


@attrs.frozen
class KeyStatistics:
    """What a keyed limiter knows of one key: see `RateLimiterStatistics`."""

    name: str
    key: Hashable
    limit: int
    window: float
    remaining: int
    waiting: int


@attrs.frozen
class RateLimitRefused:
    """What a listener is told of a request that was refused.

    Attributes:
        limiter: its name.
        key: whose quota; ``None`` of a limiter without keys.
        cost: the units that were asked for.
        reason: the error's, whether or not one was raised: ``rate_limited``, or
            ``deadline_unreachable`` for a wait that the caller's deadline would cut off.
        decision: what the rule said, also where the caller was let pass.
        shadow: whether the caller was let pass all the same.
        at: when, on Trio's clock.
    """

    limiter: str
    key: Hashable
    cost: int
    reason: str
    decision: Decision
    shadow: bool
    at: float
