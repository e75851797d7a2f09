"""Which of several upstreams gets the next request. Pure, and on the path of every request.

Every function takes the candidates that may get it, at least one, and answers with one of them.
Whoever is not among them is passed over and its share falls to the others in proportion, as nginx
does with peers that are down.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import TypeVar

SLOWEST_START = 0.1
"""Of its weight, what an upstream has at least in its slow start: Envoy's ``min_weight_percent``.
With nothing at all it would never be asked, and two of them would leave nobody to ask."""


class Balancing(enum.Enum):
    """How requests are shared out, by the names of the route document."""

    ROUND_ROBIN = "round-robin"
    WEIGHTED = "weighted"
    RANDOM = "random"
    LEAST_CONNECTIONS = "least-connections"


class Share:
    """What balancing knows of one upstream.

    Attributes:
        weight: its part beside the others' weights now, above 0.
        credit: how far it is behind its part, in units of the weights; of `smooth` alone.
        in_flight: requests that it has now.
    """

    __slots__ = ("credit", "in_flight", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.credit = 0.0
        self.in_flight = 0


S = TypeVar("S", bound=Share)


def smooth(candidates: Sequence[S]) -> S:
    """Smooth weighted round robin: exact proportions, the heavy spread out among the light.

    Everybody is credited with their weight, who has most is chosen, and pays what was given out.
    Among equals the first; with equal weights it is plain rotation. From nginx
    (``ngx_http_upstream_get_peer``, since 1.3.1).
    """
    if len(candidates) == 1:
        return candidates[0]
    total = 0.0
    most = -math.inf
    best = candidates[0]
    for each in candidates:
        weight = each.weight
        total += weight
        each.credit = credit = each.credit + weight
        if credit > most:
            most = credit
            best = each
    best.credit = most - total
    return best


def at_random(candidates: Sequence[S], point: float) -> S:
    """By chance, in proportion to the weights.

    Args:
        candidates: who may be chosen.
        point: a random number, 0 up to but not including 1.
    """
    total = 0.0
    for each in candidates:
        total += each.weight
    mark = point * total
    for each in candidates:
        mark -= each.weight
        if mark < 0:
            return each
    return candidates[-1]  # where rounding has left nothing below 0


def least_connections(candidates: Sequence[S]) -> S:
    """Who has the fewest requests for its weight; who share that take turns by weight.

    From nginx (``least_conn``).
    """
    least = math.inf
    equal: list[S] = []
    for each in candidates:
        load = each.in_flight / each.weight
        if load < least:
            least = load
            equal = [each]
        elif load == least:
            equal.append(each)
    return smooth(equal)


def grown_weight(weight: float, began: float, seconds: float, now: float) -> float:
    """The weight of an upstream in its slow start: from a tenth of its own to all of it, linearly.

    Args:
        weight: its own.
        began: when it came back.
        seconds: how long its slow start lasts, above 0.
        now: on the same clock.
    """
    return weight * min(1.0, max(SLOWEST_START, (now - began) / seconds))
