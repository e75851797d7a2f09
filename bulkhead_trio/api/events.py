"""``/api/events``: what a tenant's webhooks are told of."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import msgspec

from bulkhead_trio.api._members import Members
from bulkhead_trio.api._payload_rules import check_payload, repeated_member
from bulkhead_trio.api._tenant_door import EventQuota, TenantDoor, spending
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.deliveries import DeliveryKeeper, wire_delivery
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.delivery_records import DeliveryFilter
from bulkhead_trio.database.event_records import Added, EventDraft, EventRecord
from bulkhead_trio.database.pages import MOST_ITEMS
from bulkhead_trio.database.public_ids import public_id, read_public_id
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.delivery._matching_rules import check_event_type
from bulkhead_trio.errors import Conflict, IdempotencyMismatch, InvalidHeader, NotFound
from bulkhead_trio.policies.deadline import Deadline

T = TypeVar("T")

RESERVED_TYPES: Final = ("tier", "webhook")
"""What events of the server's own begin with. Nobody else may send them: a receiver that is told
that its tier's breaker has opened, or that it was disabled, can rely on it."""

_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")


# As it was written: the payload is passed on so.
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TYPE: Final = msgspec.json.Decoder(str)


class EventWriter(Protocol):
    """Keeps events; `bulkhead_trio.delivery.events.EventWriter` does, many in one commit."""

    async def add(self, draft: EventDraft) -> Added:
        """Keep one; when this returns it is committed.

        Raises:
            Conflict: its idempotency key was used before, with another content.
        """


class EventReader(Protocol):
    """Finds events; `bulkhead_trio.database.events.EventStore` does."""

    async def get(self, tenant_id: UUID, event_id: UUID) -> EventRecord:
        """The tenant's event of that id.

        Raises:
            NotFound: there is none.
        """


class EventsResource:
    """Takes events, and says what became of them.

    Args:
        writer: keeps them.
        reader: finds them.
        deliveries: knows where they went.
        door: who may come.
        quota: how many a tenant may send.
    """

    name = "events"

    def __init__(
        self,
        writer: EventWriter,
        reader: EventReader,
        deliveries: DeliveryKeeper,
        door: TenantDoor,
        quota: EventQuota,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._deliveries = deliveries
        self._door = door
        self._quota = quota

    def routes(self) -> tuple[Route, ...]:
        """Both."""
        post = spending(self._door, self._quota, self.post)
        return (
            Route("POST", "/api/events", post, reads_body=True, is_hot=True),
            Route("GET", "/api/events/{id}", self._door.around(self.get)),
        )

    async def post(self, request: Request, tenant: TenantRecord) -> Response:
        """An event; it is committed before this answers."""
        draft = read_event(request, tenant)
        timeout = request.timeout()
        with Deadline.starting_now(limit=self._door.timeout, asked=timeout).enforced():
            added = await added_once(self._writer.add(draft))
        return Response.json({"id": public_id("evt", added.id)}, status=202)

    async def get(self, request: Request, tenant: TenantRecord) -> Response:
        """One event, and where it went."""
        event_id = read_public_id("evt", request.path_values["id"])
        if event_id is None:
            raise NotFound("There is no event with this id.")
        tenant_id = UUID(tenant.id)
        event = await self._reader.get(tenant_id, event_id)
        # No event has more: a tenant has no more webhooks than a page has items.
        page = await self._deliveries.page(
            tenant_id, DeliveryFilter(event_id=event_id), limit=MOST_ITEMS
        )
        deliveries = [wire_delivery(each) for each in page.items]
        return Response.json({**wire_event(event), "deliveries": deliveries})


def read_event(request: Request, tenant: TenantRecord) -> EventDraft:
    """The event that a request brings.

    Raises:
        InvalidBody: it brings none, or one that only the server may send; with every mistake.
        InvalidHeader: its idempotency key is none.
        UnsupportedMediaType: it is no JSON.
    """
    said = request.json(_MEMBERS)
    members = Members(said)
    type_ = members.read("type", _type)
    payload = members.read("payload", _payload)
    repeated = repeated_member(request.body, said)
    if repeated is not None:
        members.refuse(f"$.{repeated}", "is there more than once")
    members.check()
    return EventDraft(
        tenant_id=UUID(tenant.id),
        type=type_,
        payload=payload,
        idempotency_key=idempotency_key(request),
        tier=None,
    )


def _type(written: msgspec.Raw | None) -> str:
    try:
        name = None if written is None else _TYPE.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError):
        name = None
    if not name:
        raise ValueError("must be an event type, such as order.completed")
    check_event_type(name)
    if name.partition(".")[0] in RESERVED_TYPES:
        raise ValueError("is one that only the server itself may send")
    return name


def _payload(written: msgspec.Raw | None) -> bytes:
    return check_payload(b"" if written is None else bytes(written))


async def added_once(adding: Awaitable[T]) -> T:
    """What came of adding something with an idempotency key.

    Raises:
        IdempotencyMismatch: the key was used before, with another content.
    """
    try:
        return await adding
    except Conflict:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used before, with another content."
        ) from None


def idempotency_key(request: Request) -> str | None:
    """What ``Idempotency-Key`` says; ``None`` when it is absent.

    Raises:
        InvalidHeader: it is not 1 to 255 visible ASCII characters.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidHeader("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key


def wire_event(event: EventRecord) -> dict[str, Any]:
    """An event in JSON; its payload as it was sent, byte for byte."""
    return {
        "id": public_id("evt", event.id),
        "type": event.type,
        "payload": msgspec.Raw(event.payload),
        "createdAt": wire_time(event.created_at),
    }
