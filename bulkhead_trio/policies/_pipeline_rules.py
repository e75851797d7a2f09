"""Which orders of policies are known to be wrong, and why: a table, and one function that reads it.

Every row is an order that runs, and does something else than whoever wrote it thinks.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import attrs

from bulkhead_trio.policies.policy import Kind


@attrs.frozen
class Layer:
    """What the rules need to know of one policy.

    Attributes:
        kind: what it does.
        title: how to call it in a message.
        max_wait: seconds a call may wait in it before it runs; ``math.inf``: as long as the
            caller's deadline allows, which it reads.
        seconds: the limit of a timeout; ``math.inf`` for everything else.
        obeys_cancellation: whether a call in it ends when its caller is cancelled.
    """

    kind: Kind
    title: str
    max_wait: float = 0.0
    seconds: float = math.inf
    obeys_cancellation: bool = True


class When(enum.Enum):
    """What else has to be so for an order to be wrong."""

    ALWAYS = enum.auto()
    INNER_WAITS = enum.auto()
    INNER_OUTLASTS_OUTER = enum.auto()
    INNER_GOES_ON = enum.auto()
    INNER_WAITS_UNDER_TIMEOUT = enum.auto()
    INNER_ENDS_LATER = enum.auto()


@attrs.frozen
class WrongOrder:
    """``outer`` anywhere outside ``inner`` is wrong ``when`` that holds, for the ``reason``."""

    outer: Kind
    inner: Kind
    reason: str
    when: When = When.ALWAYS


@attrs.frozen
class Finding:
    """A wrong order found: the two policies, and what is wrong with them."""

    outer: str
    inner: str
    reason: str


WRONG_ORDERS = (
    WrongOrder(
        Kind.BREAKER,
        Kind.RETRY,
        "one probe would be several calls, and a failure would count only after the last try",
    ),
    WrongOrder(Kind.BREAKER, Kind.HEDGE, "one probe would be several calls"),
    WrongOrder(Kind.BREAKER, Kind.FALLBACK, "the breaker would never see a failure"),
    WrongOrder(Kind.RETRY, Kind.FALLBACK, "the retry would never see a failure"),
    WrongOrder(Kind.HEDGE, Kind.FALLBACK, "a fallback's answer would win against a real one"),
    WrongOrder(Kind.THROTTLE, Kind.FALLBACK, "the throttle would never see a refusal"),
    WrongOrder(Kind.RETRY, Kind.RETRY, "the tries would multiply"),
    WrongOrder(Kind.HEDGE, Kind.HEDGE, "the calls would multiply"),
    WrongOrder(Kind.HEDGE, Kind.RETRY, "each hedge would retry by itself, and the tries multiply"),
    WrongOrder(
        Kind.BREAKER,
        Kind.SINGLE_FLIGHT,
        "one failure would count once for each who shares it",
    ),
    WrongOrder(
        Kind.THROTTLE,
        Kind.SINGLE_FLIGHT,
        "one refusal would count once for each who shares it",
    ),
    WrongOrder(
        Kind.TIMEOUT,
        Kind.TIMEOUT,
        "the inner limit is not the shorter one, so it never acts",
        When.INNER_ENDS_LATER,
    ),
    WrongOrder(
        Kind.HEDGE, Kind.SINGLE_FLIGHT, "a second try would join the first, and hedge nothing"
    ),
    WrongOrder(
        Kind.BULKHEAD,
        Kind.SINGLE_FLIGHT,
        "each who shares a call would hold a permit while it waits for it",
    ),
    WrongOrder(Kind.BULKHEAD, Kind.RETRY, "a permit would be held between the tries, for nothing"),
    WrongOrder(Kind.BULKHEAD, Kind.HEDGE, "one permit would let several calls run at once"),
    WrongOrder(
        Kind.BULKHEAD,
        Kind.RATE_LIMIT,
        "a permit would be held while waiting for quota",
        When.INNER_WAITS,
    ),
    WrongOrder(
        Kind.TIMEOUT,
        Kind.BULKHEAD,
        "the timeout ends before the longest wait for a permit: a call that never ran would count"
        " as one that was too slow",
        When.INNER_OUTLASTS_OUTER,
    ),
    WrongOrder(
        Kind.TIMEOUT,
        Kind.RATE_LIMIT,
        "the timeout ends before the longest wait for quota: a call that never ran would count as"
        " one that was too slow",
        When.INNER_OUTLASTS_OUTER,
    ),
    WrongOrder(
        Kind.TIMEOUT,
        Kind.BULKHEAD,
        "the timeout cannot see into it: what it cuts off goes on and keeps its permit",
        When.INNER_GOES_ON,
    ),
    WrongOrder(
        Kind.BREAKER,
        Kind.BULKHEAD,
        "a wait for a permit that the timeout between them ends would count as a failure",
        When.INNER_WAITS_UNDER_TIMEOUT,
    ),
)


def first_wrong_order(layers: Sequence[Layer]) -> Finding | None:
    """The first pair, from the outside, that is in a wrong order; ``None`` where none is.

    Args:
        layers: outermost first.
    """
    for place, outer in enumerate(layers):
        inside = layers[place + 1 :]
        for depth, inner in enumerate(inside):
            for rule in WRONG_ORDERS:
                if (outer.kind, inner.kind) != (rule.outer, rule.inner):
                    continue
                if _holds(rule.when, outer, inside[:depth], inner):
                    return Finding(outer.title, inner.title, rule.reason)
    return None


def _holds(when: When, outer: Layer, between: Sequence[Layer], inner: Layer) -> bool:
    match when:
        case When.ALWAYS:
            return True
        case When.INNER_WAITS:
            return inner.max_wait > 0
        case When.INNER_OUTLASTS_OUTER:
            return 0 < inner.max_wait < math.inf and outer.seconds <= inner.max_wait
        case When.INNER_GOES_ON:
            return not inner.obeys_cancellation
        case When.INNER_ENDS_LATER:
            return outer.seconds <= inner.seconds
        case When.INNER_WAITS_UNDER_TIMEOUT:
            return inner.max_wait > 0 and any(layer.kind is Kind.TIMEOUT for layer in between)
