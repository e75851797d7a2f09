"""``/api/deliveries``: where events went, every try included, and sending them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from bulkhead_trio.api._members import one_of, parameter
from bulkhead_trio.api._paging import PAGE_PARAMETERS, page_answer, page_asked
from bulkhead_trio.api._tenant_door import TenantDoor
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.delivery_records import (
    AttemptRecord,
    DeliveryFilter,
    DeliveryRecord,
    DeliveryState,
    Replayed,
)
from bulkhead_trio.database.pages import Cursor, Page
from bulkhead_trio.database.public_ids import public_id, read_public_id
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.errors import NotFound

STATES: Final[tuple[DeliveryState, ...]] = ("pending", "retrying", "delivered", "dead")


LIST_PARAMETERS: Final = ("state", "webhookId", *PAGE_PARAMETERS)


class DeliveryKeeper(Protocol):
    """Where deliveries are kept; `bulkhead_trio.database.deliveries.DeliveryStore` is one.

    A tenant's are there for that tenant: for others every id is one that nobody has.
    """

    async def get(self, tenant_id: UUID | None, delivery_id: UUID, /) -> DeliveryRecord:
        """The one of that id, or `NotFound`."""

    async def page(
        self,
        tenant_id: UUID | None,
        wanted: DeliveryFilter,
        /,
        *,
        limit: int,
        cursor: Cursor | None = None,
    ) -> Page[DeliveryRecord]:
        """Some of them, newest first."""

    async def attempts(
        self, tenant_id: UUID | None, delivery_id: UUID, /
    ) -> Sequence[AttemptRecord]:
        """Every try there was, the first one first."""

    async def replay(self, tenant_id: UUID | None, delivery_id: UUID, /) -> DeliveryRecord:
        """Send it again, with all its tries before it; `Conflict` where that cannot be."""

    async def replay_matching(
        self,
        tenant_id: UUID | None,
        wanted: DeliveryFilter,
        /,
        *,
        limit: int,
        cursor: Cursor | None = None,
    ) -> Replayed:
        """Look at ``limit`` of them, the newest first, and send them again where that can be."""


class DeliveriesResource:
    """Shows a tenant's deliveries, and sends them again.

    Args:
        store: where they are kept.
        door: who may come.
    """

    name = "deliveries"

    def __init__(self, store: DeliveryKeeper, door: TenantDoor) -> None:
        self._store = store
        self._door = door

    def routes(self) -> tuple[Route, ...]:
        """All three."""
        around, one = self._door.around, "/api/deliveries/{id}"
        return (
            Route("GET", "/api/deliveries", around(self.page, *LIST_PARAMETERS)),
            Route("GET", one, around(self.get)),
            Route("POST", f"{one}/replay", around(self.replay)),
        )

    async def page(self, request: Request, tenant: TenantRecord) -> Response:
        """Some of the tenant's deliveries, newest first."""
        asked = page_asked(request)
        wanted = DeliveryFilter(
            state=parameter(asked.parameters, "state", one_of(*STATES)),
            webhook_id=parameter(asked.parameters, "webhookId", webhook_id),
        )
        page = await self._store.page(
            UUID(tenant.id), wanted, limit=asked.limit, cursor=asked.cursor
        )
        return page_answer(page, wire_delivery)

    async def get(self, request: Request, tenant: TenantRecord) -> Response:
        """One delivery, with every try."""
        tenant_id, delivery_id = UUID(tenant.id), _id(request)
        delivery = await self._store.get(tenant_id, delivery_id)
        attempts = await self._store.attempts(tenant_id, delivery_id)
        return Response.json(
            {**wire_delivery(delivery), "attempts": [wire_attempt(each) for each in attempts]}
        )

    async def replay(self, request: Request, tenant: TenantRecord) -> Response:
        """Send it again, whatever became of it."""
        delivery = await self._store.replay(UUID(tenant.id), _id(request))
        return Response.json(wire_delivery(delivery), status=202)


def wire_delivery(delivery: DeliveryRecord) -> dict[str, Any]:
    """A delivery in JSON, without its tries."""
    return {
        "id": public_id("dlv", delivery.id),
        "eventId": public_id("evt", delivery.event_id),
        "type": delivery.event_type,
        "webhookId": public_id("wh", delivery.webhook_id),
        "state": delivery.state,
        "attemptCount": delivery.attempts,
        "createdAt": wire_time(delivery.created_at),
        "nextAttemptAt": None if delivery.next_at is None else wire_time(delivery.next_at),
        "endedAt": None if delivery.ended_at is None else wire_time(delivery.ended_at),
    }


def wire_attempt(attempt: AttemptRecord) -> dict[str, Any]:
    """One try in JSON."""
    return {
        "number": attempt.number,
        "at": wire_time(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "durationMs": attempt.duration_ms,
        "response": attempt.response,
    }


def webhook_id(value: object) -> UUID:
    """The webhook that an id names.

    Raises:
        ValueError: it is no webhook's; the message follows its name.
    """
    found = read_public_id("wh", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be the id of a webhook")
    return found


def _id(request: Request) -> UUID:
    found = read_public_id("dlv", request.path_values["id"])
    if found is None:
        raise NotFound("There is no delivery with this id.")
    return found
