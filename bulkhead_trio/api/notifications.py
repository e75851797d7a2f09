"""``/api/notifications``: messages to somebody by a channel, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from bulkhead_trio.api._documents import read_object
from bulkhead_trio.api._members import Members, Wrong, one_of, text
from bulkhead_trio.api._tenant_door import EventQuota, TenantDoor, spending
from bulkhead_trio.api._webhook_documents import LONGEST_URL, CheckURL, url
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.deliveries import wire_attempt
from bulkhead_trio.api.events import added_once, idempotency_key
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.delivery_records import (
    AttemptRecord,
    NotificationDraft,
    NotificationFilter,
    NotificationRecord,
    Replayed,
)
from bulkhead_trio.database.pages import Cursor, Page
from bulkhead_trio.database.public_ids import public_id, read_public_id
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.delivery.channels._mail_rules import (
    LONGEST_SUBJECT,
    mail_address,
    subject_mistake,
)
from bulkhead_trio.errors import ChannelUnavailable, NotFound

CHANNELS: Final = ("smtp", "http")
"""Those that there are, configured or not."""

LONGEST_BODY: Final = 100_000
"""Characters."""

UNAVAILABLE_SECONDS: Final = 60.0
"""After which to ask again for a channel that is not configured: a restart may have changed it."""


class NotificationKeeper(Protocol):
    """Where notifications are kept; `bulkhead_trio.database.notifications.NotificationStore`.

    A tenant's are there for that tenant: for others every id is one that nobody has.
    """

    async def add(self, draft: NotificationDraft, /) -> UUID:
        """Keep one; its id. When this returns it is committed.

        Raises:
            Conflict: its idempotency key was used before, with another content.
        """

    async def get(self, tenant_id: UUID | None, notification_id: UUID, /) -> NotificationRecord:
        """The one of that id, or `NotFound`."""

    async def page(
        self,
        tenant_id: UUID | None,
        wanted: NotificationFilter,
        /,
        *,
        limit: int,
        cursor: Cursor | None = None,
    ) -> Page[NotificationRecord]:
        """Some of them, newest first."""

    async def attempts(
        self, tenant_id: UUID | None, notification_id: UUID, /
    ) -> Sequence[AttemptRecord]:
        """Every try there was, the first one first."""

    async def replay(self, tenant_id: UUID | None, notification_id: UUID, /) -> NotificationRecord:
        """Send it again."""

    async def replay_matching(
        self,
        tenant_id: UUID | None,
        wanted: NotificationFilter,
        /,
        *,
        limit: int,
        cursor: Cursor | None = None,
    ) -> Replayed:
        """Look at ``limit`` of them, the newest first, and send them again where that can be."""


class NotificationsResource:
    """Takes notifications, and says what became of them.

    Args:
        store: where they are kept.
        door: who may come.
        quota: how many a tenant may send, events included.
        channels: those of `CHANNELS` that are configured.
        check_url: refuses where nothing may be sent; `_webhook_documents.webhook_urls`.
    """

    name = "notifications"

    def __init__(
        self,
        store: NotificationKeeper,
        door: TenantDoor,
        quota: EventQuota,
        *,
        channels: Collection[str],
        check_url: CheckURL,
    ) -> None:
        self._store = store
        self._door = door
        self._quota = quota
        self._channels = frozenset(channels)
        self._recipients: dict[str, Callable[[object], str]] = {
            "smtp": _mailbox,
            "http": url(check_url),
        }

    def routes(self) -> tuple[Route, ...]:
        """Both."""
        post = spending(self._door, self._quota, self._post_within)
        return (
            Route("POST", "/api/notifications", post, reads_body=True),
            Route("GET", "/api/notifications/{id}", self._door.around(self.get)),
        )

    async def _post_within(self, request: Request, tenant: TenantRecord) -> Response:
        draft = self._read(request, tenant)
        self._check_channel(draft.channel)

        async def add(_: Request, __: TenantRecord) -> Response:
            added_id = await added_once(self._store.add(draft))
            return Response.json({"id": public_id("ntf", added_id)}, status=202)

        return await self._door.within(request, tenant, add)

    def _read(self, request: Request, tenant: TenantRecord) -> NotificationDraft:
        members = Members(read_object(request))
        channel = members.read("channel", one_of(*CHANNELS))
        recipient = self._recipients.get(channel, text(LONGEST_URL))
        draft = NotificationDraft(
            tenant_id=UUID(tenant.id),
            channel=channel,
            recipient=members.read("to", recipient),
            subject=members.read("subject", _subject),
            body=members.read("body", text(LONGEST_BODY, least=0)),
            idempotency_key=idempotency_key(request),
        )
        members.check()
        return draft

    def _check_channel(self, channel: str) -> None:
        if channel not in self._channels:
            raise ChannelUnavailable(
                f"The channel {channel} is not configured on this server.",
                retry_after=UNAVAILABLE_SECONDS,
            )

    async def get(self, request: Request, tenant: TenantRecord) -> Response:
        """One notification, with every try."""
        found = read_public_id("ntf", request.path_values["id"])
        if found is None:
            raise NotFound("There is no notification with this id.")
        tenant_id = UUID(tenant.id)
        notification = await self._store.get(tenant_id, found)
        attempts = await self._store.attempts(tenant_id, found)
        return Response.json(
            {
                **wire_notification(notification),
                "body": notification.body,
                "attempts": [wire_attempt(each) for each in attempts],
            }
        )


def wire_notification(notification: NotificationRecord) -> dict[str, Any]:
    """A notification in JSON, without its body and its tries."""
    at, ended_at = notification.next_at, notification.ended_at
    return {
        "id": public_id("ntf", notification.id),
        "channel": notification.channel,
        "to": notification.recipient,
        "subject": notification.subject,
        "state": notification.state,
        "attemptCount": notification.attempts,
        "createdAt": wire_time(notification.created_at),
        "nextAttemptAt": None if at is None else wire_time(at),
        "endedAt": None if ended_at is None else wire_time(ended_at),
    }


def _mailbox(value: object) -> str:
    """An address that mail can be sent to, as it was written."""
    if not isinstance(value, str):
        raise Wrong("must be a mail address, such as ada@example.com")
    mail_address(value)
    return value


def _subject(value: object) -> str:
    read = text(LONGEST_SUBJECT, least=0)(value)
    mistake = subject_mistake(read)
    if mistake is not None:
        raise ValueError(mistake)
    return read
