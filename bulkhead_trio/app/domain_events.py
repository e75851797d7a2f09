"""What happens to tiers and orders, as domain events.

Tiers and orders know nothing of deliveries: they tell their listeners, and these make events of
it. What tenants can subscribe to is kept in the database too: an order's event is written there in
the order's own transaction, and a tier's by `bulkhead_trio.delivery.tier_events`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from bulkhead_trio.delivery.domain import DomainEvent
from bulkhead_trio.orders import OrderEnded
from bulkhead_trio.policies.breaker import BreakerState, BreakerTransition

BREAKER_OPENED: Final = "tier.breaker_opened"
BREAKER_CLOSED: Final = "tier.breaker_closed"

Publish: TypeAlias = Callable[[DomainEvent], None]

_OPEN: Final = (BreakerState.OPEN, BreakerState.FORCED_OPEN)
_PASSING: Final = (BreakerState.CLOSED, BreakerState.DISABLED)


class TierBreakerNews:
    """Listens to one tier's breaker, and says when it has opened and when it has closed.

    A breaker whose probes fail goes from half open to open again and again for as long as the
    database is away. That is one opening: nothing is said of it until the breaker has closed.

    Args:
        tier: whose breaker it is.
        publish: takes the events, without waiting.
    """

    def __init__(self, tier: str, publish: Publish) -> None:
        self._tier = tier
        self._publish = publish
        self._opened_at: float | None = None

    def __call__(self, moved: BreakerTransition) -> None:
        """Hear that the breaker has moved."""
        if moved.after in _OPEN and self._opened_at is None:
            self._opened_at = moved.at
            self._say(BREAKER_OPENED, {"tier": self._tier})
        elif moved.after in _PASSING and self._opened_at is not None:
            open_seconds = round(moved.at - self._opened_at, 3)
            self._opened_at = None
            self._say(BREAKER_CLOSED, {"tier": self._tier, "openSeconds": open_seconds})

    def _say(self, type_: str, payload: dict[str, object]) -> None:
        self._publish(DomainEvent(type_, payload, tier=self._tier))


def order_news(publish: Publish) -> Callable[[OrderEnded], None]:
    """What listens to the order desk and says which orders have ended, ``order.completed`` or
    ``order.failed``.

    For this process alone: what tenants are told of is written with the order itself.
    """

    def listener(ended: OrderEnded) -> None:
        payload = {"orderId": ended.order_id, "attempts": ended.attempts}
        publish(DomainEvent(f"order.{ended.status}", payload))

    return listener
