"""How much of everything deliveries get, in one frozen record."""

from __future__ import annotations

from typing import Any, Final

import attrs

from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.policies._checks import check_duration, check_seconds, check_whole

MOST_PARALLEL: Final = 100
"""Sends at once, of one pipeline in one process: what one event loop still signs and sends well."""

DAY_SECONDS: Final = 86_400.0


def _parallel(_record: Any, attribute: attrs.Attribute[int], value: int) -> None:
    check_whole(attribute.name, value, minimum=1)
    if value > MOST_PARALLEL:
        raise ValueError(f"{attribute.name} must be at most {MOST_PARALLEL}, not {value!r}")


def _duration(_record: Any, attribute: attrs.Attribute[float], value: float) -> None:
    check_duration(attribute.name, value)


def _seconds(_record: Any, attribute: attrs.Attribute[float], value: float) -> None:
    check_seconds(attribute.name, value)


def _places(_record: Any, attribute: attrs.Attribute[int], value: int) -> None:
    check_whole(attribute.name, value, minimum=1)


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """What `bulkhead_trio.delivery.opening.open_delivery` is told.

    Attributes:
        webhooks_parallel: webhooks sent at once; 1 to 100.
        notifications_parallel: notifications sent at once; 1 to 100.
        schedule: when something is tried again whose send raised.
        timeout_seconds: what one try of a webhook may take; a lease must be longer.
        lease_seconds: how long what is claimed is ours without being renewed.
        limit_seconds: the longest that any send may take, whatever it does.
        retention_seconds: how long what has ended is kept.
        grace_seconds: what sends under way are given at the end; that of the whole server, for
            what is cut off is sent again.
        poll_seconds: between two looks for work when nobody says that there is some.
        event_places: events that may wait to be written.
        domain_places: domain events that may wait to be made durable.

    Raises:
        ValueError: a number makes no sense, or a lease is not longer than a try; it is named.
    """

    webhooks_parallel: int = attrs.field(default=20, validator=_parallel)
    notifications_parallel: int = attrs.field(default=8, validator=_parallel)
    schedule: RetrySchedule = attrs.field(factory=RetrySchedule)
    timeout_seconds: float = attrs.field(default=15.0, validator=_duration)
    lease_seconds: float = attrs.field(default=60.0, validator=_duration)
    limit_seconds: float = attrs.field(default=150.0, validator=_duration)
    retention_seconds: float = attrs.field(default=30 * DAY_SECONDS, validator=_duration)
    grace_seconds: float = attrs.field(validator=_seconds)
    poll_seconds: float = attrs.field(default=1.0, validator=_duration)
    event_places: int = attrs.field(default=1000, validator=_places)
    domain_places: int = attrs.field(default=1000, validator=_places)

    def __attrs_post_init__(self) -> None:
        if self.lease_seconds <= self.timeout_seconds:
            raise ValueError(
                f"lease_seconds must be longer than timeout_seconds, {self.timeout_seconds!r}, "
                f"not {self.lease_seconds!r}"
            )
