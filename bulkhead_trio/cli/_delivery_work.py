"""What the `deliveries` commands do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from uuid import UUID

import attrs

from bulkhead_trio.api.dead_letters import Wanted, page_of_letters
from bulkhead_trio.cli._delivery_filters import Filter
from bulkhead_trio.cli._desk import Desk, Wrong
from bulkhead_trio.cli._tenant_work import find_tenant
from bulkhead_trio.database.deliveries import DeliveryStore
from bulkhead_trio.database.delivery_records import (
    AttemptRecord,
    DeliveryFilter,
    DeliveryRecord,
    NotificationFilter,
    NotificationRecord,
    Replayed,
)
from bulkhead_trio.database.notifications import NotificationStore
from bulkhead_trio.database.pages import MOST_ITEMS, Cursor, decode_cursor, encode_cursor
from bulkhead_trio.database.public_ids import read_public_id
from bulkhead_trio.database.webhooks import WebhookStore
from bulkhead_trio.errors import CallerError, Conflict, NotFound

Item: TypeAlias = DeliveryRecord | NotificationRecord


@attrs.frozen
class Listed:
    """Part of a list.

    Attributes:
        next_cursor: where the next part begins; ``None``: this is the last.
    """

    items: tuple[Item, ...]
    next_cursor: str | None


@attrs.frozen
class Shown:
    """One delivery or notification, and every attempt."""

    item: Item
    attempts: tuple[AttemptRecord, ...]


@attrs.frozen
class _Found:
    """A filter as the stores take it.

    Attributes:
        tenant_id: ``None``: everybody's.
        deliveries: which of them.
        notifications: which of them; ``None``: none.
    """

    tenant_id: UUID | None
    deliveries: DeliveryFilter
    notifications: NotificationFilter | None


async def list_deliveries(desk: Desk, wanted: Filter, limit: int, cursor: str | None) -> Listed:
    """Some of them, newest first; with ``dead`` the notifications among them.

    Raises:
        Wrong: ``cursor`` is none.
    """
    try:
        place = None if cursor is None else decode_cursor(cursor)
    except CallerError:
        raise Wrong("--cursor must be where an earlier list ended.") from None
    found = await _wanted(desk, wanted)
    items: list[Item] = []
    while len(items) < limit:
        page = await page_of_letters(
            DeliveryStore(desk.source),
            NotificationStore(desk.source),
            found.tenant_id,
            Wanted(found.deliveries, found.notifications),
            limit=min(MOST_ITEMS, limit - len(items)),
            cursor=place,
        )
        items += page.items
        place = page.next_cursor
        if place is None:
            break
    return Listed(tuple(items), None if place is None else encode_cursor(place))


async def show_one(desk: Desk, text: str) -> Shown:
    """The delivery or notification of that id.

    Raises:
        Wrong: that is no id of either.
        NotFound: there is none.
    """
    store, item_id = _store_of(desk, text)
    item = await store.get(None, item_id)
    return Shown(item, tuple(await store.attempts(None, item_id)))


async def count_dead(desk: Desk, wanted: Filter) -> int:
    """How many dead letters a filter leaves."""
    found = await _wanted(desk, wanted)
    count = await DeliveryStore(desk.source).count(found.tenant_id, found.deliveries)
    if found.notifications is not None:
        notifications = NotificationStore(desk.source)
        count += await notifications.count(found.tenant_id, found.notifications)
    return count


async def count_these(desk: Desk, texts: Sequence[str]) -> int:
    """How many the ids name, each once; nothing is done that `replay_these` could not do.

    Raises:
        Wrong: one is no id.
        NotFound: one is nobody's.
        Conflict: where one should go is no more.
    """
    named = [_store_of(desk, text) for text in dict.fromkeys(texts)]
    for store, item_id in named:
        item = await store.get(None, item_id)
        try:
            if isinstance(item, DeliveryRecord):
                await WebhookStore(desk.source).get(item.tenant_id, item.webhook_id)
            else:
                await desk.tenants.get(str(item.tenant_id))
        except NotFound:
            raise Conflict(_gone(item)) from None
    return len(named)


def _gone(item: Item) -> str:
    if isinstance(item, DeliveryRecord):
        return "The webhook of this delivery has been deleted."
    return "The tenant of this notification has been deleted."


async def replay_these(desk: Desk, texts: Sequence[str]) -> int:
    """Send those again that the ids name, all of them or none.

    Raises:
        Wrong: one is no id.
        NotFound: one is nobody's.
        Conflict: where one should go is no more.
    """
    named = [_store_of(desk, text) for text in dict.fromkeys(texts)]
    async with desk.connection.transaction():
        for store, item_id in named:
            await store.replay(None, item_id)
    return len(named)


async def replay_matching(desk: Desk, wanted: Filter) -> int:
    """Send again the dead letters that a filter leaves; how many those were.

    In batches, each a transaction of its own: interrupted, what was done is done, and the rest is
    as it was. Each is passed once: what comes back as a dead letter meanwhile is not sent again.
    """
    found = await _wanted(desk, wanted)
    deliveries, notifications = DeliveryStore(desk.source), NotificationStore(desk.source)

    def some_deliveries(place: Cursor | None) -> Awaitable[Replayed]:
        return deliveries.replay_matching(found.tenant_id, found.deliveries, cursor=place)

    done = await _in_batches(some_deliveries)
    if (letters := found.notifications) is None:
        return done

    def some_notifications(place: Cursor | None) -> Awaitable[Replayed]:
        return notifications.replay_matching(found.tenant_id, letters, cursor=place)

    return done + await _in_batches(some_notifications)


async def _in_batches(some: Callable[[Cursor | None], Awaitable[Replayed]]) -> int:
    part = await some(None)
    done = part.items
    while part.next_cursor is not None:
        part = await some(part.next_cursor)
        done += part.items
    return done


def _store_of(desk: Desk, text: str) -> tuple[DeliveryStore | NotificationStore, UUID]:
    """Where the id is one of, and what it stands for there."""
    if (delivery_id := read_public_id("dlv", text)) is not None:
        return DeliveryStore(desk.source), delivery_id
    if (notification_id := read_public_id("ntf", text)) is not None:
        return NotificationStore(desk.source), notification_id
    raise Wrong(f"{text} is no id of a delivery (dlv_...) or a notification (ntf_...).")


async def _wanted(desk: Desk, wanted: Filter) -> _Found:
    webhook_id = None if wanted.webhook is None else read_public_id("wh", wanted.webhook)
    if wanted.webhook is not None and webhook_id is None:
        raise Wrong("--webhook must be the id of a webhook (wh_...).")
    tenant_id = None
    if wanted.tenant is not None:
        tenant_id = UUID((await find_tenant(desk, wanted.tenant)).id)
    deliveries = DeliveryFilter(
        state="dead" if wanted.dead else wanted.state,
        webhook_id=webhook_id,
        event_type=wanted.type,
        since=wanted.since,
    )
    if not wanted.dead or wanted.is_of_webhooks_alone:
        return _Found(tenant_id, deliveries, None)
    return _Found(tenant_id, deliveries, NotificationFilter(state="dead", since=wanted.since))
