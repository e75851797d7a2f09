"""``/api/webhooks``: where a tenant wants to be told of events, and the secrets that prove by whom.

A secret is shown once, in the answer to the request that has it made; what is kept of it is sealed.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from uuid import UUID

import attrs

from bulkhead_trio.api._documents import merged_document, read_object, read_only_mistakes
from bulkhead_trio.api._members import Members, seconds
from bulkhead_trio.api._paging import PAGE_PARAMETERS, page_answer, page_asked
from bulkhead_trio.api._tenant_door import EventQuota, TenantDoor, spending
from bulkhead_trio.api._version_rules import Precondition, etag_of
from bulkhead_trio.api._webhook_documents import (
    READ_ONLY,
    CheckURL,
    WebhookMembers,
    read_webhook,
    webhook_document,
)
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.delivery_records import DeliveryRecord
from bulkhead_trio.database.events import new_id
from bulkhead_trio.database.pages import Cursor, Page
from bulkhead_trio.database.public_ids import public_id, read_public_id
from bulkhead_trio.database.tenant_records import TenantRecord
from bulkhead_trio.database.webhook_records import WebhookChanges, WebhookDraft, WebhookRecord
from bulkhead_trio.delivery._signing_rules import RANDOM_BYTES, WebhookSecret, make_secret
from bulkhead_trio.delivery.sealing import Sealer
from bulkhead_trio.errors import Conflict, NotFound

GRACE_SECONDS: Final = 86_400.0
"""For which a secret signs along once there is a newer one, unless configuration says otherwise."""

LONGEST_GRACE_SECONDS: Final = 30 * 86_400.0

PATCH_TRIES: Final = 32
"""How often a patch without a version begins again because somebody was quicker."""

TEST_TYPE: Final = "webhook.test"
"""The type of test events; an endpoint need not ask for it."""


class WebhookKeeper(Protocol):
    """Where webhooks are kept; `bulkhead_trio.database.webhooks.WebhookStore` is one.

    A tenant's webhooks are there for that tenant: for others every id is one that nobody has.
    """

    async def create(self, draft: WebhookDraft, /) -> WebhookRecord:
        """Make one; `Conflict` where the tenant has as many as it may."""

    async def get(self, tenant_id: UUID, webhook_id: UUID, /) -> WebhookRecord:
        """The one of that id, or `NotFound`."""

    async def page(
        self, tenant_id: UUID, /, *, limit: int, cursor: Cursor | None = None
    ) -> Page[WebhookRecord]:
        """Some of them, newest first."""

    async def update(
        self,
        tenant_id: UUID,
        webhook_id: UUID,
        changes: WebhookChanges,
        expected_version: int | None,
        /,
    ) -> WebhookRecord:
        """Change one; `Conflict` where it has another version than that."""

    async def delete(
        self, tenant_id: UUID, webhook_id: UUID, expected_version: int | None, /
    ) -> None:
        """Delete one, or `NotFound`."""

    async def add_secret(
        self, tenant_id: UUID, webhook_id: UUID, sealed: bytes, grace_seconds: float, /
    ) -> WebhookRecord:
        """Have it signed with a new secret, and for a while with the one before."""


class EndpointTests(Protocol):
    """Sends test events; `bulkhead_trio.database.webhook_tests.WebhookTests` does."""

    async def send(
        self, tenant_id: UUID, webhook_id: UUID, event_type: str, payload: str, /
    ) -> DeliveryRecord:
        """An event for this endpoint alone, whatever it asks for; `Conflict` if it is disabled."""


@attrs.frozen
class Secrets:
    """Makes webhooks' secrets, and what is kept of them.

    Attributes:
        sealer: the one whose `Sealer.unseal` whoever signs uses.
        random_bytes: so many bytes that nobody can predict.
    """

    sealer: Sealer
    random_bytes: Callable[[int], bytes] = secrets.token_bytes

    def make(self, webhook_id: UUID) -> tuple[WebhookSecret, bytes]:
        """A new one for a webhook, and as it is kept."""
        secret = make_secret(self.random_bytes(RANDOM_BYTES))
        return secret, self.sealer.seal(secret.key, bound_to=webhook_id)


class WebhooksResource:
    """Makes, shows, changes and deletes a tenant's webhooks.

    Args:
        store: where they are kept.
        tests: sends test events.
        door: who may come.
        quota: what test events take from.
        secrets: makes them.
        check_url: refuses where nothing may be sent; `_webhook_documents.webhook_urls`.
        grace_seconds: for which an earlier secret signs along unless the request says otherwise.
        make_id: a new id.
    """

    name = "webhooks"

    def __init__(
        self,
        store: WebhookKeeper,
        tests: EndpointTests,
        door: TenantDoor,
        quota: EventQuota,
        *,
        secrets: Secrets,
        check_url: CheckURL,
        grace_seconds: float = GRACE_SECONDS,
        make_id: Callable[[], UUID] = new_id,
    ) -> None:
        self._store = store
        self._tests = tests
        self._door = door
        self._quota = quota
        self._secrets = secrets
        self._check_url = check_url
        self._grace_seconds = grace_seconds
        self._make_id = make_id

    def routes(self) -> tuple[Route, ...]:
        """All seven."""
        around, one = self._door.around, "/api/webhooks/{id}"
        test = spending(self._door, self._quota, self._test_within)
        return (
            Route("POST", "/api/webhooks", around(self.post), reads_body=True),
            Route("GET", "/api/webhooks", around(self.page, *PAGE_PARAMETERS)),
            Route("GET", one, around(self.get)),
            Route("PATCH", one, around(self.patch), reads_body=True),
            Route("DELETE", one, around(self.delete)),
            Route("POST", f"{one}/secret", around(self.post_secret), reads_body=True),
            Route("POST", f"{one}/test", test),
        )

    async def post(self, request: Request, tenant: TenantRecord) -> Response:
        """A new webhook with its first secret, which is told here and never again."""
        said = read_webhook(read_object(request), check_url=self._check_url, is_new=True)
        webhook_id = self._make_id()
        secret, sealed = self._secrets.make(webhook_id)
        draft = WebhookDraft(
            id=webhook_id,
            tenant_id=UUID(tenant.id),
            url=said.url,
            event_types=said.event_types,
            description=said.description,
            fifo=said.fifo,
            sealed_secret=sealed,
        )
        webhook = await self._store.create(draft)
        made = Response.json({**webhook_document(webhook), "secret": secret.text}, status=201)
        location = f"/api/webhooks/{public_id('wh', webhook.id)}".encode("ascii")
        return made.with_headers((_etag(webhook), (b"location", location)))

    async def page(self, request: Request, tenant: TenantRecord) -> Response:
        """Some of the tenant's webhooks, newest first."""
        asked = page_asked(request)
        page = await self._store.page(UUID(tenant.id), limit=asked.limit, cursor=asked.cursor)
        return page_answer(page, webhook_document)

    async def get(self, request: Request, tenant: TenantRecord) -> Response:
        """One webhook."""
        return _answer(await self._store.get(UUID(tenant.id), _id(request)))

    async def patch(self, request: Request, tenant: TenantRecord) -> Response:
        """Change what a JSON merge patch (RFC 7396) says."""
        patch = read_object(request, is_patch=True)
        precondition = Precondition.of(request.headers.get("if-match"))
        for _ in range(PATCH_TRIES):
            before = await self._store.get(UUID(tenant.id), _id(request))
            expected = precondition.expected(before.version)
            try:
                return _answer(await self._apply(patch, before))
            except Conflict:
                if expected is not None:
                    raise  # otherwise the last one wins, but nobody's change is lost
        raise Conflict("The webhook is being changed by others all the time.")

    async def _apply(self, patch: Mapping[str, Any], before: WebhookRecord) -> WebhookRecord:
        current = webhook_document(before)
        said = read_webhook(
            merged_document(current, patch, read_only=READ_ONLY),
            check_url=self._check_url,
            is_new=False,
            mistakes=read_only_mistakes(current, patch, read_only=READ_ONLY),
        )
        if said == _said_of(before):
            return before
        changes = WebhookChanges(
            url=said.url,
            event_types=said.event_types,
            description=said.description,
            fifo=said.fifo,
            active=said.active,
        )
        return await self._store.update(before.tenant_id, before.id, changes, before.version)

    async def delete(self, request: Request, tenant: TenantRecord) -> Response:
        """Delete a webhook; what is on its way to it is not sent any more."""
        tenant_id, webhook_id = UUID(tenant.id), _id(request)
        precondition = Precondition.of(request.headers.get("if-match"))
        expected = None
        if precondition.versions is not None:
            expected = precondition.expected((await self._store.get(tenant_id, webhook_id)).version)
        await self._store.delete(tenant_id, webhook_id, expected)
        return Response(204, b"")

    async def post_secret(self, request: Request, tenant: TenantRecord) -> Response:
        """A new secret, told here and never again; the one before signs along for a while."""
        members = Members(read_object(request) if request.body else {})
        grace = members.read("graceSeconds", seconds(LONGEST_GRACE_SECONDS), self._grace_seconds)
        members.check()
        webhook_id = _id(request)
        secret, sealed = self._secrets.make(webhook_id)
        webhook = await self._store.add_secret(UUID(tenant.id), webhook_id, sealed, grace)
        body = {
            "id": public_id("wh", webhook.id),
            "secret": secret.text,
            "previousExpiresAt": _previous_expires_at(webhook),
        }
        return Response.json(body).with_headers([_etag(webhook)])

    async def _test_within(self, request: Request, tenant: TenantRecord) -> Response:
        return await self._door.within(request, tenant, self.test)

    async def test(self, request: Request, tenant: TenantRecord) -> Response:
        """An event that goes to this endpoint alone, whatever it asks for."""
        webhook_id = _id(request)
        payload = f'{{"webhookId":"{public_id("wh", webhook_id)}"}}'
        delivery = await self._tests.send(UUID(tenant.id), webhook_id, TEST_TYPE, payload)
        body = {"id": public_id("dlv", delivery.id), "eventId": public_id("evt", delivery.event_id)}
        return Response.json(body, status=202)


def _said_of(webhook: WebhookRecord) -> WebhookMembers:
    return WebhookMembers(
        url=webhook.url,
        event_types=tuple(webhook.event_types),
        description=webhook.description,
        fifo=webhook.fifo,
        active=webhook.active,
    )


def _previous_expires_at(webhook: WebhookRecord) -> str | None:
    """Until when the secret before the newest signs along."""
    moments: list[datetime.datetime] = [
        secret.expires_at for secret in webhook.secrets[1:] if secret.expires_at is not None
    ]
    return wire_time(moments[0]) if moments else None


def _id(request: Request) -> UUID:
    found = read_public_id("wh", request.path_values["id"])
    if found is None:
        raise NotFound("There is no webhook with this id.")
    return found


def _answer(webhook: WebhookRecord) -> Response:
    return Response.json(webhook_document(webhook)).with_headers([_etag(webhook)])


def _etag(webhook: WebhookRecord) -> tuple[bytes, bytes]:
    return (b"etag", etag_of(webhook.version).encode("ascii"))
