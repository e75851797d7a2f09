"""The operations of webhooks."""

from __future__ import annotations

from bulkhead_trio.api._openapi._administration import MOMENT, nothing, page_of, schema
from bulkhead_trio.api._openapi._delivery_words import EXAMPLE_DIGITS
from bulkhead_trio.api._openapi._objects import JSON
from bulkhead_trio.api._openapi._tenancy import tenancy
from bulkhead_trio.api._openapi.components import QUOTA_HEADERS
from bulkhead_trio.api._openapi.operation import Operation, answer

_ONE = "/api/webhooks/{id}"
_ID = f"wh_{EXAMPLE_DIGITS}"
_TARGET = f"/api/webhooks/{_ID}"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the specification's own example
_NEW: JSON = {"url": "https://example.com/hooks", "eventTypes": ["order.*"]}
_WEBHOOK: JSON = {
    "id": _ID,
    **_NEW,
    "description": None,
    "fifo": False,
    "active": True,
    "disabledReason": None,
    "failingSince": None,
    "createdAt": MOMENT,
    "updatedAt": MOMENT,
    "version": 1,
}


def webhook_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    return (*_collection(), *_one(), *_actions())


def _collection() -> tuple[Operation, ...]:
    return (
        tenancy(
            "post",
            "/api/webhooks",
            "postWebhook",
            tag="Webhooks",
            summary="Be told of events",
            description="The secret is in the answer, and nowhere else ever again. What is sent "
            "is signed as Standard Webhooks 1.0 says: `webhook-id`, `webhook-timestamp`, "
            "`webhook-signature`. A tenant has at most 100 webhooks.",
            body=("NewWebhook", _NEW),
            answers={
                "201": answer(
                    "It is made.",
                    schema("CreatedWebhook"),
                    {**_WEBHOOK, "secret": _SECRET},
                    headers=("ETag", "Location"),
                )
            },
            codes=("conflict",),
            label="All events of orders",
        ),
        tenancy(
            "get",
            "/api/webhooks",
            "getWebhooks",
            tag="Webhooks",
            summary="List webhooks",
            description="Newest first.",
            parameters=("pageLimit", "cursor"),
            answers=page_of("WebhookPage", _WEBHOOK),
            label="The newest",
            target="/api/webhooks?limit=20",
        ),
    )


def _one() -> tuple[Operation, ...]:
    after = {**_WEBHOOK, "eventTypes": ["*"], "version": 2}
    return (
        tenancy(
            "get",
            _ONE,
            "getWebhook",
            tag="Webhooks",
            summary="One webhook",
            description="Its secrets are shown nowhere.",
            parameters=("webhookId",),
            answers={"200": answer("The webhook.", schema("Webhook"), _WEBHOOK, headers=("ETag",))},
            label="Ask",
            target=_TARGET,
        ),
        tenancy(
            "patch",
            _ONE,
            "patchWebhook",
            tag="Webhooks",
            summary="Change a webhook",
            description='A JSON merge patch. `{"active": true}` brings back one that was '
            "disabled: what has come for it meanwhile goes out.",
            parameters=("webhookId", "If-Match"),
            body=("WebhookPatch", {"eventTypes": ["*"]}),
            is_patch=True,
            answers={"200": answer("As it is now.", schema("Webhook"), after, headers=("ETag",))},
            codes=("conflict",),
            label="All events",
            target=_TARGET,
        ),
        tenancy(
            "delete",
            _ONE,
            "deleteWebhook",
            tag="Webhooks",
            summary="Delete a webhook",
            description="What has not been sent to it is not sent any more.",
            parameters=("webhookId", "If-Match"),
            answers=nothing("It is deleted."),
            codes=("conflict",),
            label="For good",
            target=_TARGET,
        ),
    )


def _actions() -> tuple[Operation, ...]:
    created = {"id": _ID, "secret": _SECRET, "previousExpiresAt": "2026-02-12T12:00:00.000Z"}
    sent = {"id": f"dlv_{EXAMPLE_DIGITS}", "eventId": f"evt_{EXAMPLE_DIGITS}"}
    return (
        tenancy(
            "post",
            f"{_ONE}/secret",
            "postWebhookSecret",
            tag="Webhooks",
            summary="Change over to a new secret",
            description="The new secret is in the answer, and nowhere else ever again. The one "
            "before signs along for its grace time, so that receivers can change over when they "
            "like: each webhook carries a signature of both.",
            parameters=("webhookId",),
            body=("NewSecret", {"graceSeconds": 86400}),
            is_body_required=False,
            answers={
                "200": answer("The secret.", schema("CreatedSecret"), created, headers=("ETag",))
            },
            codes=("conflict",),
            label="A day to change over",
            target=f"{_TARGET}/secret",
        ),
        tenancy(
            "post",
            f"{_ONE}/test",
            "postWebhookTest",
            tag="Webhooks",
            summary="Send a test event",
            description="An event of the type `webhook.test` goes to this webhook alone, whatever "
            "types it takes.",
            parameters=("webhookId",),
            answers={
                "202": answer("It is on its way.", schema("TestSent"), sent, headers=QUOTA_HEADERS)
            },
            has_quota=True,
            codes=("conflict",),
            label="Try it",
            target=f"{_TARGET}/test",
        ),
    )
