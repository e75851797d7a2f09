"""``/api/dead-letters``: what was given up, deliveries and notifications, until it is replayed."""

from __future__ import annotations

import datetime
from contextlib import suppress
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs

from bulkhead_trio.api._documents import read_object
from bulkhead_trio.api._members import Members, Wrong, moment, one_of, parameter
from bulkhead_trio.api._paging import PAGE_PARAMETERS, page_answer, page_asked
from bulkhead_trio.api._tenant_door import TenantDoor
from bulkhead_trio.api.deliveries import DeliveryKeeper, webhook_id, wire_attempt, wire_delivery
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.notifications import NotificationKeeper, wire_notification
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.deliveries import MOST_REPLAYED
from bulkhead_trio.database.delivery_records import (
    DeliveryFilter,
    DeliveryRecord,
    NotificationFilter,
    NotificationRecord,
)
from bulkhead_trio.database.pages import Cursor, Page, decode_cursor, encode_cursor, place_of
from bulkhead_trio.database.public_ids import read_public_id
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.delivery._matching_rules import EVERYTHING, check_pattern
from bulkhead_trio.errors import CallerError, NotFound

KINDS: Final = ("webhook", "notification")

LIST_PARAMETERS: Final = ("kind", "webhookId", "type", "from", "to", *PAGE_PARAMETERS)

Letter: TypeAlias = DeliveryRecord | NotificationRecord

_NOT_OF_WEBHOOKS: Final = {"channel": None, "to": None, "subject": None}
_NOT_OF_NOTIFICATIONS: Final = {"eventId": None, "type": None, "webhookId": None}


@attrs.frozen
class Wanted:
    """Which dead letters; ``None``: none of that kind."""

    deliveries: DeliveryFilter | None
    notifications: NotificationFilter | None


@attrs.frozen
class Place:
    """How far a replay has come: ``w`` among webhooks, ``n`` among notifications."""

    kind: str
    cursor: Cursor


class DeadLettersResource:
    """Shows a tenant's dead letters, and has them tried again.

    Args:
        deliveries: where deliveries are kept.
        notifications: where notifications are.
        door: who may come.
    """

    name = "dead_letters"

    def __init__(
        self, deliveries: DeliveryKeeper, notifications: NotificationKeeper, door: TenantDoor
    ) -> None:
        self._deliveries = deliveries
        self._notifications = notifications
        self._door = door

    def routes(self) -> tuple[Route, ...]:
        """All four."""
        around, one = self._door.around, "/api/dead-letters/{id}"
        return (
            Route("GET", "/api/dead-letters", around(self.page, *LIST_PARAMETERS)),
            Route(
                "POST", "/api/dead-letters/replay", around(self.replay_matching), reads_body=True
            ),
            Route("GET", one, around(self.get)),
            Route("POST", f"{one}/replay", around(self.replay)),
        )

    async def page(self, request: Request, tenant: TenantRecord) -> Response:
        """Some of them, newest first, of both kinds."""
        asked = page_asked(request)
        fields = asked.parameters
        wanted = _wanted(
            kind=parameter(fields, "kind", one_of(*KINDS)),
            webhook=parameter(fields, "webhookId", webhook_id),
            pattern=parameter(fields, "type", _pattern),
            since=parameter(fields, "from", moment),
            until=parameter(fields, "to", moment),
        )
        page = await page_of_letters(
            self._deliveries,
            self._notifications,
            UUID(tenant.id),
            wanted,
            limit=asked.limit,
            cursor=asked.cursor,
        )
        return page_answer(page, wire_dead_letter)

    async def get(self, request: Request, tenant: TenantRecord) -> Response:
        """One of them, with every try."""
        tenant_id, (kind, item_id) = UUID(tenant.id), _id(request)
        keeper = self._deliveries if kind == "webhook" else self._notifications
        letter = await keeper.get(tenant_id, item_id)
        if letter.state != "dead":
            raise _no_letter()
        attempts = await keeper.attempts(tenant_id, item_id)
        return Response.json(
            {**wire_dead_letter(letter), "attempts": [wire_attempt(each) for each in attempts]}
        )

    async def replay(self, request: Request, tenant: TenantRecord) -> Response:
        """Have one tried again, from the first try on."""
        tenant_id, (kind, item_id) = UUID(tenant.id), _id(request)
        keeper = self._deliveries if kind == "webhook" else self._notifications
        if (await keeper.get(tenant_id, item_id)).state != "dead":
            raise _no_letter()
        return Response.json(wire_dead_letter(await keeper.replay(tenant_id, item_id)), status=202)

    async def replay_matching(self, request: Request, tenant: TenantRecord) -> Response:
        """Have all of some description tried again; so many at most by one request.

        What cannot be tried again, since its webhook is gone, stays. So a place says how far this
        has come, not how many are left. A longer statement would hold others up.
        """
        members = Members(read_object(request) if request.body else {})
        wanted = _wanted(
            kind=members.read("kind", one_of(*KINDS), None),
            webhook=members.read("webhookId", webhook_id, None),
            pattern=members.read("type", _pattern, None),
            since=members.read("from", moment, None),
            until=members.read("to", moment, None),
        )
        place = members.read("cursor", _place, None)
        members.check()
        replayed, place = await self._replay(UUID(tenant.id), wanted, place)
        next_cursor = None if place is None else place.kind + encode_cursor(place.cursor)
        return Response.json({"replayed": replayed, "nextCursor": next_cursor}, status=202)

    async def _replay(
        self, tenant_id: UUID, wanted: Wanted, begins: Place | None
    ) -> tuple[int, Place | None]:
        """Webhooks first, then notifications; how many, and where the rest begins."""
        replayed, cursor = 0, None if begins is None else begins.cursor
        if wanted.deliveries is not None and (begins is None or begins.kind == "w"):
            part = await self._deliveries.replay_matching(
                tenant_id, wanted.deliveries, limit=MOST_REPLAYED, cursor=cursor
            )
            if part.next_cursor is not None:
                return part.items, Place("w", part.next_cursor)
            replayed, cursor = part.items, None
        if wanted.notifications is None:
            return replayed, None
        part = await self._notifications.replay_matching(
            tenant_id, wanted.notifications, limit=MOST_REPLAYED, cursor=cursor
        )
        place = None if part.next_cursor is None else Place("n", part.next_cursor)
        return replayed + part.items, place


async def page_of_letters(
    deliveries: DeliveryKeeper,
    notifications: NotificationKeeper,
    tenant_id: UUID | None,
    wanted: Wanted,
    *,
    limit: int,
    cursor: Cursor | None,
) -> Page[Letter]:
    """One page of both lists, newest first; ``None``: everybody's.

    Both go by the moment and the id, so that one place divides both.
    """
    found: list[Letter] = []
    has_more = False
    if wanted.deliveries is not None:
        of_webhooks = await deliveries.page(
            tenant_id, wanted.deliveries, limit=limit, cursor=cursor
        )
        found += of_webhooks.items
        has_more = of_webhooks.next_cursor is not None
    if wanted.notifications is not None:
        messages = await notifications.page(
            tenant_id, wanted.notifications, limit=limit, cursor=cursor
        )
        found += messages.items
        has_more = has_more or messages.next_cursor is not None
    found.sort(key=lambda each: (each.created_at, each.id), reverse=True)
    items = found[:limit]
    if not has_more and len(found) == len(items):
        return Page(items, None)
    return Page(items, place_of(items[-1].created_at, str(items[-1].id)))


def _place(value: object) -> Place:
    """Where an earlier request has ended."""
    if isinstance(value, str) and value[:1] in ("w", "n"):
        with suppress(CallerError):
            return Place(value[0], decode_cursor(value[1:]))
    raise ValueError("must be the nextCursor of an earlier answer")


def wire_dead_letter(letter: Letter) -> dict[str, Any]:
    """A dead letter in JSON: what kind it is, and the members of both kinds."""
    if isinstance(letter, DeliveryRecord):
        return {"kind": "webhook", **_NOT_OF_WEBHOOKS, **wire_delivery(letter)}
    return {"kind": "notification", **_NOT_OF_NOTIFICATIONS, **wire_notification(letter)}


def _wanted(
    *,
    kind: str | None,
    webhook: UUID | None,
    pattern: str | None,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
) -> Wanted:
    """Which ones; what only webhooks have asks for those alone."""
    deliveries = notifications = None
    if kind != "notification":
        deliveries = DeliveryFilter(
            state="dead",
            webhook_id=webhook,
            event_type=None if pattern == EVERYTHING else pattern,
            since=since,
            until=until,
        )
    if kind != "webhook" and webhook is None and pattern is None:
        notifications = NotificationFilter(state="dead", since=since, until=until)
    return Wanted(deliveries, notifications)


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong("must be an event type, the beginning of one and .*, or *")
    return check_pattern(value)


def _id(request: Request) -> tuple[str, UUID]:
    """Of which kind it is, and which one."""
    text = request.path_values["id"]
    delivery_id = read_public_id("dlv", text)
    if delivery_id is not None:
        return "webhook", delivery_id
    notification_id = read_public_id("ntf", text)
    if notification_id is not None:
        return "notification", notification_id
    raise _no_letter()


def _no_letter() -> NotFound:
    return NotFound("There is no dead letter with this id.")
