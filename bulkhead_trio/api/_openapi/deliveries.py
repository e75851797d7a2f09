"""The operations of events, deliveries, dead letters and notifications, and their metrics."""

from __future__ import annotations

from bulkhead_trio.api._openapi._administration import MOMENT, page_of, schema
from bulkhead_trio.api._openapi._delivery_words import EXAMPLE_DIGITS
from bulkhead_trio.api._openapi._objects import JSON
from bulkhead_trio.api._openapi._tenancy import tenancy
from bulkhead_trio.api._openapi.components import QUOTA_HEADERS
from bulkhead_trio.api._openapi.operation import Operation, answer, samples_with_key
from bulkhead_trio.observe.delivery_snapshots import PIPELINES

_EVENT_ID = f"evt_{EXAMPLE_DIGITS}"
_DELIVERY_ID = f"dlv_{EXAMPLE_DIGITS}"
_NOTIFICATION_ID = f"ntf_{EXAMPLE_DIGITS}"
_ENDED = "2026-02-11T12:00:00.120Z"

_DELIVERY: JSON = {
    "id": _DELIVERY_ID,
    "eventId": _EVENT_ID,
    "type": "order.completed",
    "webhookId": f"wh_{EXAMPLE_DIGITS}",
    "state": "delivered",
    "attemptCount": 1,
    "createdAt": MOMENT,
    "nextAttemptAt": None,
    "endedAt": _ENDED,
}
_FAILED: JSON = {
    "number": 1,
    "at": MOMENT,
    "status": 404,
    "error": None,
    "durationMs": 41.7,
    "response": "no such page",
}
_LETTER: JSON = {
    "kind": "webhook",
    "channel": None,
    "to": None,
    "subject": None,
    **_DELIVERY,
    "state": "dead",
}
_AGAIN: JSON = {**_DELIVERY, "state": "pending", "endedAt": None}


def event_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    new = {"type": "order.completed", "payload": {"orderId": "order-1"}}
    event = {"id": _EVENT_ID, **new, "createdAt": MOMENT, "deliveries": [_DELIVERY]}
    return (
        tenancy(
            "post",
            "/api/events",
            "postEvent",
            tag="Events",
            summary="Say that something has happened",
            description="202 means that the event is in the database: every webhook that takes "
            "its type is told of it, or it is in the dead letters, even if the server is killed.",
            parameters=("Idempotency-Key",),
            body=("NewEvent", new),
            answers={
                "202": answer(
                    "It is accepted, now or before.",
                    schema("Accepted"),
                    {"id": _EVENT_ID},
                    headers=QUOTA_HEADERS,
                )
            },
            has_quota=True,
            codes=("idempotency_mismatch",),
            label="An event, accepted once however often it is sent",
            headers={"Idempotency-Key": "order-1-completed"},
        ),
        tenancy(
            "get",
            "/api/events/{id}",
            "getEvent",
            tag="Events",
            summary="An event, and where it went",
            description="The payload is as it was sent.",
            parameters=("eventId",),
            answers={"200": answer("The event.", schema("Event"), event)},
            label="Ask",
            target=f"/api/events/{_EVENT_ID}",
        ),
    )


def delivery_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    one, target = "/api/deliveries/{id}", f"/api/deliveries/{_DELIVERY_ID}"
    again = {"202": answer("It is sent again.", schema("Delivery"), _AGAIN)}
    whole = {**_DELIVERY, "state": "retrying", "endedAt": None, "attempts": [_FAILED]}
    return (
        tenancy(
            "get",
            "/api/deliveries",
            "getDeliveries",
            tag="Deliveries",
            summary="List deliveries",
            description="Newest first.",
            parameters=("deliveryState", "ofWebhook", "pageLimit", "cursor"),
            answers=page_of("DeliveryPage", _DELIVERY),
            label="What is being tried again",
            target="/api/deliveries?state=retrying",
        ),
        tenancy(
            "get",
            one,
            "getDelivery",
            tag="Deliveries",
            summary="One delivery, with every try",
            description="What was answered, or why there was no answer, and how long it took.",
            parameters=("deliveryId",),
            answers={"200": answer("The delivery.", schema("DeliveryWithAttempts"), whole)},
            label="Ask",
            target=target,
        ),
        tenancy(
            "post",
            f"{one}/replay",
            "replayDelivery",
            tag="Deliveries",
            summary="Send it again",
            description="With the same `webhook-id`, from the first try on.",
            parameters=("deliveryId",),
            answers=again,
            codes=("conflict",),
            label="Once more",
            target=f"{target}/replay",
        ),
    )


_LETTER_PATH = "/api/dead-letters/{id}"
_LETTER_TARGET = f"/api/dead-letters/{_DELIVERY_ID}"
_SINCE = "2026-02-11T00:00:00Z"


def dead_letter_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    listing, one = _letters_read()
    many_again, one_again = _letters_replayed()
    return listing, many_again, one, one_again


def _letters_read() -> tuple[Operation, ...]:
    return (
        tenancy(
            "get",
            "/api/dead-letters",
            "getDeadLetters",
            tag="Dead letters",
            summary="List what was given up",
            description="Webhooks and notifications together, newest first. They are kept as long "
            "as deliveries are.",
            parameters=(
                "letterKind",
                "ofWebhook",
                "letterType",
                "from",
                "to",
                "pageLimit",
                "cursor",
            ),
            answers=page_of("DeadLetterPage", _LETTER),
            label="Since this morning",
            target=f"/api/dead-letters?from={_SINCE}",
        ),
        tenancy(
            "get",
            _LETTER_PATH,
            "getDeadLetter",
            tag="Dead letters",
            summary="One of them, with every try",
            description="The id is the delivery's or the notification's.",
            parameters=("deadLetterId",),
            answers={
                "200": answer(
                    "What was given up.",
                    schema("DeadLetterWithAttempts"),
                    {**_LETTER, "attempts": [_FAILED]},
                )
            },
            label="Ask",
            target=_LETTER_TARGET,
        ),
    )


def _letters_replayed() -> tuple[Operation, ...]:
    return (
        tenancy(
            "post",
            "/api/dead-letters/replay",
            "replayDeadLetters",
            tag="Dead letters",
            summary="Have many tried again",
            description="All that the filter describes, 1,000 of each kind at most by one request.",
            body=("ReplayFilter", {"type": "order.*", "from": _SINCE}),
            is_body_required=False,
            answers={
                "202": answer(
                    "They are tried again.",
                    schema("Replayed"),
                    {"replayed": 17, "nextCursor": None},
                )
            },
            label="All of orders since this morning",
        ),
        tenancy(
            "post",
            f"{_LETTER_PATH}/replay",
            "replayDeadLetter",
            tag="Dead letters",
            summary="Have one tried again",
            description="From the first try on.",
            parameters=("deadLetterId",),
            answers={
                "202": answer(
                    "It is tried again.",
                    schema("DeadLetter"),
                    {**_LETTER, "state": "pending", "endedAt": None},
                )
            },
            codes=("conflict",),
            label="Once more",
            target=f"{_LETTER_TARGET}/replay",
        ),
    )


def notification_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    new = {
        "channel": "smtp",
        "to": "ada@example.com",
        "subject": "Your order",
        "body": "It is on its way.",
    }
    notification = {
        "id": _NOTIFICATION_ID,
        **new,
        "state": "delivered",
        "attemptCount": 1,
        "createdAt": MOMENT,
        "nextAttemptAt": None,
        "endedAt": _ENDED,
        "attempts": [{**_FAILED, "status": 250, "response": "2.0.0 Ok: queued"}],
    }
    return (
        tenancy(
            "post",
            "/api/notifications",
            "postNotification",
            tag="Notifications",
            summary="Send a message to somebody",
            description="202 means that it is in the database: it is handed over, or in the dead "
            "letters. It takes from the same quota as events do.",
            parameters=("Idempotency-Key",),
            body=("NewNotification", new),
            answers={
                "202": answer(
                    "It is accepted, now or before.",
                    schema("Accepted"),
                    {"id": _NOTIFICATION_ID},
                    headers=QUOTA_HEADERS,
                )
            },
            has_quota=True,
            codes=("idempotency_mismatch", "channel_unavailable"),
            label="By mail",
        ),
        tenancy(
            "get",
            "/api/notifications/{id}",
            "getNotification",
            tag="Notifications",
            summary="What became of a notification",
            description="With every try.",
            parameters=("notificationId",),
            answers={"200": answer("The notification.", schema("Notification"), notification)},
            label="Ask",
            target=f"/api/notifications/{_NOTIFICATION_ID}",
        ),
    )


def delivery_metrics_operation() -> Operation:
    """The one."""
    at_rest = {
        "maxParallel": 20,
        "active": 0,
        "queued": 0,
        "retrying": 0,
        "deadLettered": 0,
        "circuitBreaker": {"state": "CLOSED", "closed": 3, "halfOpen": 0, "open": 0},
        "circuitBreakers": {},
        "outcomes": {"delivered": 120},
    }
    return Operation(
        path="/metrics/deliveries",
        id="getDeliveryMetrics",
        tag="Metrics",
        summary="What every stage of the deliveries holds now",
        description="Of all processes of the server together; what is in the database is as it "
        "was some seconds ago.",
        key="adminKey",
        answers={
            "200": answer("By stage.", schema("DeliveryMetrics"), dict.fromkeys(PIPELINES, at_rest))
        },
        codes=("admin_key_missing", "admin_key_invalid", "rate_limited"),
        samples=samples_with_key("/metrics/deliveries"),
    )
