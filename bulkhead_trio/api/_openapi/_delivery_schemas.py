"""The parameters and bodies of events, webhooks, deliveries and notifications."""

from __future__ import annotations

from typing import Final

from bulkhead_trio.api._openapi._delivery_words import (
    MAYBE_MOMENT,
    MOMENT,
    PATTERN,
    TYPE,
    id_pattern,
    in_path,
    in_query,
    own_id,
    page,
    ref,
)
from bulkhead_trio.api._openapi._objects import JSON, counted, described_object, measured
from bulkhead_trio.api._openapi._webhook_schemas import webhook_schemas
from bulkhead_trio.api._payload_rules import MOST_PAYLOAD_BYTES
from bulkhead_trio.api._webhook_documents import LONGEST_URL
from bulkhead_trio.api.dead_letters import KINDS
from bulkhead_trio.api.deliveries import STATES
from bulkhead_trio.api.events import RESERVED_TYPES
from bulkhead_trio.api.notifications import CHANNELS, LONGEST_BODY
from bulkhead_trio.delivery.channels._mail_rules import LONGEST_SUBJECT
from bulkhead_trio.observe.delivery_snapshots import PIPELINES, SEVERITY

_STATE: Final[JSON] = {
    "type": "string",
    "enum": list(STATES),
    "description": "`pending`: not tried yet; `retrying`: tried, and tried again later; "
    "`delivered`; `dead`: given up.",
}


def delivery_parameters() -> JSON:
    """For ``components.parameters``."""
    return {
        "webhookId": in_path("webhook's", "wh"),
        "eventId": in_path("event's", "evt"),
        "deliveryId": in_path("delivery's", "dlv"),
        "notificationId": in_path("notification's", "ntf"),
        "deadLetterId": {
            **in_path("dead letter's", "dlv"),
            "description": "The delivery's or the notification's id.",
            "schema": {"type": "string", "pattern": "^(dlv|ntf)_[0-9a-f]{32}$"},
        },
        "Idempotency-Key": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Your name for what you send, 1 to 255 visible ASCII characters: sent "
            "again with the same content, it is accepted once, and answered with the same id.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            "example": "order-1-completed",
        },
        "deliveryState": in_query("state", "Only those in this state.", {**_STATE}),
        "ofWebhook": in_query(
            "webhookId",
            "Only those of this webhook.",
            {"type": "string", "pattern": id_pattern("wh")},
        ),
        "letterKind": in_query(
            "kind", "Only those of this kind.", {"type": "string", "enum": list(KINDS)}
        ),
        "letterType": in_query(
            "type", "Only those of events that this type or pattern takes.", dict(PATTERN)
        ),
        "from": in_query("from", "Only what was made then or later.", dict(MOMENT)),
        "to": in_query("to", "Only what was made before.", dict(MOMENT)),
    }


def delivery_schemas() -> JSON:
    """For ``components.schemas``."""
    delivery, notification = _delivery(), _notification()
    with_attempts = {
        "attempts": {
            "type": "array",
            "items": ref("Attempt"),
            "description": "Every try, the first one first.",
        }
    }
    content = {"body": {"type": "string", "description": "What it says."}}
    letter = _dead_letter()
    return {
        **webhook_schemas(),
        **_event_schemas(),
        "Delivery": described_object("One event for one webhook.", delivery),
        "DeliveryWithAttempts": described_object(
            "A delivery, with every try.", {**delivery, **with_attempts}
        ),
        "Attempt": _attempt(),
        "DeliveryPage": page("Deliveries, newest first.", "Delivery"),
        "DeadLetter": described_object("What was given up.", letter),
        "DeadLetterWithAttempts": described_object(
            "What was given up, with every try.", {**letter, **with_attempts}
        ),
        "DeadLetterPage": page("Dead letters, newest first.", "DeadLetter"),
        "ReplayFilter": _replay_filter(),
        "Replayed": described_object(
            "What will be tried again.",
            {
                "replayed": counted("How many."),
                "nextCursor": {
                    "type": ["string", "null"],
                    "description": "Send it as `cursor`, with the same filter, for the rest; null: "
                    "these were all.",
                },
            },
        ),
        "NewNotification": _new_notification(),
        "Notification": described_object(
            "A notification, with every try.", {**notification, **content, **with_attempts}
        ),
        "Accepted": described_object(
            "It is in the database.", {"id": {"type": "string", "description": "Its id."}}
        ),
        "DeliveryMetrics": _metrics(),
    }


def _event_schemas() -> JSON:
    payload = {"type": "object", "description": "Any object."}
    return {
        "NewEvent": {
            "type": "object",
            "description": "Something that has happened.",
            "required": ["type", "payload"],
            "properties": {
                "type": {
                    **TYPE,
                    "description": "Names joined by full stops. What begins with "
                    + " or ".join(f"`{each}.`" for each in RESERVED_TYPES)
                    + " is the server's own.",
                },
                "payload": {
                    **payload,
                    "description": "Any object, passed on byte for byte; at most "
                    f"{MOST_PAYLOAD_BYTES} bytes.",
                },
            },
        },
        "Event": described_object(
            "An event, and where it went.",
            {
                "id": {**own_id("evt"), "description": "What receivers see as `webhook-id`."},
                "type": dict(TYPE),
                "payload": payload,
                "createdAt": dict(MOMENT),
                "deliveries": {
                    "type": "array",
                    "items": ref("Delivery"),
                    "description": "One for each webhook that takes it, from some milliseconds "
                    "after the event on.",
                },
            },
        ),
    }


def _delivery() -> JSON:
    return {
        "id": own_id("dlv"),
        "eventId": own_id("evt"),
        "type": {**TYPE, "description": "The event's."},
        "webhookId": own_id("wh"),
        "state": dict(_STATE),
        **_progress(),
    }


def _progress() -> JSON:
    return {
        "attemptCount": counted("How often it was tried."),
        "createdAt": dict(MOMENT),
        "nextAttemptAt": {
            **MAYBE_MOMENT,
            "description": "When it is tried next, at the earliest; null: at once, or never.",
        },
        "endedAt": {**MAYBE_MOMENT, "description": "When it was delivered or given up."},
    }


def _notification() -> JSON:
    return {
        "id": own_id("ntf"),
        "channel": {"type": "string", "enum": list(CHANNELS)},
        "to": {"type": "string", "description": "A mail address, or a URL."},
        "subject": {"type": "string"},
        "state": dict(_STATE),
        **_progress(),
    }


def _new_notification() -> JSON:
    return {
        "type": "object",
        "description": "A message to be sent.",
        "required": ["channel", "to", "subject", "body"],
        "properties": {
            "channel": {"type": "string", "enum": list(CHANNELS)},
            "to": {
                "type": "string",
                "maxLength": LONGEST_URL,
                "description": "For `smtp` a mail address, for `http` a URL as a webhook's.",
            },
            "subject": {
                "type": "string",
                "maxLength": LONGEST_SUBJECT,
                "description": "One line.",
            },
            "body": {"type": "string", "maxLength": LONGEST_BODY, "description": "The text."},
        },
    }


def _dead_letter() -> JSON:
    maybe = {"type": ["string", "null"]}
    return {
        "kind": {"type": "string", "enum": list(KINDS)},
        "id": {"type": "string", "description": "The delivery's or the notification's."},
        "eventId": {**maybe, "description": "Of a webhook."},
        "type": {**maybe, "description": "Of a webhook: the event's."},
        "webhookId": {**maybe, "description": "Of a webhook."},
        "channel": {**maybe, "description": "Of a notification."},
        "to": {**maybe, "description": "Of a notification."},
        "subject": {**maybe, "description": "Of a notification."},
        "state": {**_STATE, "description": "`dead`, and after a replay `pending`."},
        **_progress(),
    }


def _replay_filter() -> JSON:
    return {
        "type": "object",
        "description": "Which dead letters; without members all of them.",
        "properties": {
            "kind": {"type": "string", "enum": list(KINDS)},
            "webhookId": {**own_id("wh")},
            "type": {**PATTERN, "description": "A type or a pattern of the events."},
            "from": {**MOMENT, "description": "Made then or later."},
            "to": {**MOMENT, "description": "Made before."},
            "cursor": {
                "type": "string",
                "description": "The `nextCursor` of the answer before.",
            },
        },
    }


def _attempt() -> JSON:
    return described_object(
        "One try.",
        {
            "number": counted("1 for the first."),
            "at": dict(MOMENT),
            "status": {
                "type": ["integer", "null"],
                "description": "Of the answer; null: there was none.",
            },
            "error": {
                "type": ["string", "null"],
                "description": "Why there was none, or what was wrong with it.",
            },
            "durationMs": measured("Milliseconds."),
            "response": {
                "type": ["string", "null"],
                "description": "The beginning of the answer's body, 2 KiB at most.",
            },
        },
    )


def _metrics() -> JSON:
    breaker = {
        "state": {
            "type": "string",
            "enum": list(SEVERITY),
            "description": "Of the breaker that is worst off.",
        },
        "closed": counted("Breakers that let everything pass."),
        "halfOpen": counted("Breakers that wait for a probe."),
        "open": counted("Breakers that let nothing pass."),
    }
    pipeline = described_object(
        "One stage.",
        {
            "maxParallel": counted("What it works on at once at most."),
            "active": counted("What it works on."),
            "queued": counted("What waits, in memory and in the database."),
            "retrying": counted("Of that, what has been tried before."),
            "deadLettered": counted("What was given up and is still kept."),
            "circuitBreaker": described_object("The breakers of this stage.", breaker),
            "circuitBreakers": {
                "type": "object",
                "description": "By name, where there are few: one for each channel.",
                "additionalProperties": {"type": "string", "enum": list(SEVERITY)},
                "x-additionalPropertiesName": "breaker",
            },
            "outcomes": {
                "type": "object",
                "description": "What it is done with since the start, by how it ended.",
                "additionalProperties": counted("How many."),
                "x-additionalPropertiesName": "outcome",
            },
        },
    )
    return described_object("All stages.", dict.fromkeys(PIPELINES, pipeline))
