"""What has become of events at endpoints: the history, dead letters, and doing it again."""

from __future__ import annotations

from typing import Final

from bulkhead_trio.database._filter_rules import delivery_condition
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.delivery_records import DeliveryFilter, DeliveryRecord
from bulkhead_trio.database.history import MOST_ATTEMPTS, MOST_REPLAYED, History, Table
from bulkhead_trio.database.pool import Pool

__all__ = ["MOST_ATTEMPTS", "MOST_REPLAYED", "DeliveryStore"]


_DELIVERIES: Final = Table(
    noun="delivery",
    make=DeliveryRecord,
    columns="d.id, d.event_id, d.webhook_id, d.tenant_id, e.type, d.state, d.attempts, "
    "d.created_at, d.next_at, d.ended_at",
    source="deliveries AS d JOIN events AS e ON e.id = d.event_id",
    alias="d",
    condition=delivery_condition,
    replay="bulkhead_trio_replay_deliveries",
    owners="webhooks",
    owner=lambda delivery: delivery.webhook_id,
    ownerless="The webhook of this delivery has been deleted.",
)


class DeliveryStore(History[DeliveryRecord, DeliveryFilter]):
    """Reads deliveries, and has them made again; see `History`.

    Args:
        pool: whose connections it uses, in autocommit mode.
    """

    def __init__(self, pool: Pool[Connection]) -> None:
        super().__init__(pool, _DELIVERIES)
