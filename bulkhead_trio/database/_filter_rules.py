"""What a list of deliveries or notifications is asked for, as SQL. Pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from bulkhead_trio.database.delivery_records import DeliveryFilter, NotificationFilter


def delivery_condition(tenant_id: UUID | None, wanted: DeliveryFilter) -> tuple[str, list[Any]]:
    """What must hold of a delivery ``d`` of an event ``e``, and the parameters of that.

    Args:
        tenant_id: whose; ``None``: anybody's.
        wanted: which.
    """
    conditions: list[str] = []
    parameters: list[Any] = []

    def add(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    if tenant_id is not None:
        add("d.tenant_id = %s", tenant_id)
    if wanted.state is not None:
        add("d.state = %s", wanted.state)
        if wanted.state != "delivered":
            add("d.state <> 'delivered'")  # the index is of those
    if wanted.event_id is not None:
        add("d.event_id = %s", wanted.event_id)
    if wanted.webhook_id is not None:
        add("d.webhook_id = %s", wanted.webhook_id)
    if wanted.event_type is not None and wanted.event_type.endswith(".*"):
        add("starts_with(e.type, %s)", wanted.event_type[:-1])
    elif wanted.event_type is not None and wanted.event_type != "*":
        add("e.type = %s", wanted.event_type)
    if wanted.since is not None:
        add("d.created_at >= %s", wanted.since)
    if wanted.until is not None:
        add("d.created_at < %s", wanted.until)
    return " AND ".join(conditions), parameters


def notification_condition(
    tenant_id: UUID | None, wanted: NotificationFilter
) -> tuple[str, list[Any]]:
    """What must hold of a notification ``n``, and the parameters of that; as above."""
    conditions = {
        "n.tenant_id = %s": tenant_id,
        "n.state = %s": wanted.state,
        "n.channel = %s": wanted.channel,
        "n.created_at >= %s": wanted.since,
        "n.created_at < %s": wanted.until,
    }
    asked = {condition: value for condition, value in conditions.items() if value is not None}
    return " AND ".join(asked), [*asked.values()]
