"""The bodies of webhooks."""

from __future__ import annotations

from bulkhead_trio.api._openapi._delivery_words import MAYBE_MOMENT, MOMENT, PATTERN, own_id, page
from bulkhead_trio.api._openapi._objects import JSON, counted, described_object, measured
from bulkhead_trio.api._webhook_documents import LONGEST_DESCRIPTION, LONGEST_URL
from bulkhead_trio.api.webhooks import GRACE_SECONDS, LONGEST_GRACE_SECONDS


def webhook_schemas() -> JSON:
    """For ``components.schemas``."""
    written, kept = _webhook_members(), _kept_members()
    secret = {
        "secret": {
            "type": "string",
            "pattern": "^whsec_",
            "description": "What its webhooks are signed with. Shown this once.",
        }
    }
    active = {"type": "boolean", "description": "True brings back one that was disabled."}
    grace = {
        **measured("For how long the secret before signs along, in seconds."),
        "maximum": int(LONGEST_GRACE_SECONDS),
        "default": int(GRACE_SECONDS),
    }
    return {
        "NewWebhook": {
            "type": "object",
            "description": "A webhook to be made.",
            "required": ["url", "eventTypes"],
            "properties": written,
        },
        "WebhookPatch": {
            "type": "object",
            "description": "What to change, as a JSON merge patch (RFC 7396).",
            "properties": {
                **_without_defaults(written),
                "active": active,
            },
        },
        "Webhook": described_object("Where a tenant is told of events.", kept),
        "CreatedWebhook": described_object("A webhook and its secret.", {**kept, **secret}),
        "WebhookPage": page("Webhooks, newest first.", "Webhook"),
        "NewSecret": {
            "type": "object",
            "description": "How to change over.",
            "properties": {"graceSeconds": grace},
        },
        "CreatedSecret": described_object(
            "A new secret.",
            {
                "id": own_id("wh"),
                **secret,
                "previousExpiresAt": {
                    **MAYBE_MOMENT,
                    "description": "Until when the secret before signs along; null: it does not.",
                },
            },
        ),
        "TestSent": described_object(
            "A test event is on its way.", {"id": own_id("dlv"), "eventId": own_id("evt")}
        ),
    }


def _kept_members() -> JSON:
    return {
        "id": own_id("wh"),
        **_without_defaults(_webhook_members()),
        "active": {"type": "boolean", "description": "While false, what comes for it waits."},
        "disabledReason": {
            "type": ["string", "null"],
            "description": "Why the server has switched it off: `gone` (it answered 410), "
            "`failing` (nothing but failures for days); null: it has not.",
        },
        "failingSince": {
            **MAYBE_MOMENT,
            "description": "Since when nothing could be delivered; null: the last try was good.",
        },
        "createdAt": dict(MOMENT),
        "updatedAt": dict(MOMENT),
        "version": counted("One more with each change; `ETag` names it."),
    }


def _without_defaults(members: JSON) -> JSON:
    """What is there already has no defaults."""
    return {
        name: {key: value for key, value in each.items() if key != "default"}
        for name, each in members.items()
    }


def _webhook_members() -> JSON:
    return {
        "url": {
            "type": "string",
            "format": "uri",
            "maxLength": LONGEST_URL,
            "description": "Where to, by POST: http or https (https only in production, but for "
            "addresses of `ALLOWED_PRIVATE_NETWORKS`), without credentials or a fragment.",
        },
        "eventTypes": {
            "type": "array",
            "items": dict(PATTERN),
            "description": "Which events: `order.completed`, `order.*`, or `*` for all; 1 to 100, "
            "each once.",
        },
        "description": {
            "type": ["string", "null"],
            "maxLength": LONGEST_DESCRIPTION,
            "default": None,
            "description": "For people.",
        },
        "fifo": {
            "type": "boolean",
            "default": False,
            "description": "One after the other, in the order of the events: what fails holds up "
            "what comes after it.",
        },
    }
