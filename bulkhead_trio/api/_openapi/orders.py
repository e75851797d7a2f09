"""The operations of the orders."""

from __future__ import annotations

from bulkhead_trio.api._openapi.components import QUOTA_HEADERS
from bulkhead_trio.api._openapi.errors import JSON
from bulkhead_trio.api._openapi.operation import DEFAULT_ADDRESS, Operation, answer, curl

_KEY_CODES = ("api_key_missing", "api_key_invalid", "tenant_inactive")
_DATABASE_CODES = (
    "circuit_open", "bulkhead_full", "deadline_unreachable", "database_unavailable",
    "deadline_exceeded",
)  # fmt: skip
_QUOTA_STATUSES = (400, 409, 415, 429, 500, 503, 504)
_NEW = {"orderId": "order-1", "amount": 12.5, "priority": "high"}


def order_operations() -> tuple[Operation, ...]:
    """In the order in which a reader wants them."""
    return (_post(), _get(), _metrics())


def _schema(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def _post() -> Operation:
    body = '{"orderId": "order-1", "amount": 12.5, "priority": "high"}'
    sample = (
        f"curl -i {DEFAULT_ADDRESS}/api/orders -H 'X-User-Id: user-7'"
        f" -H 'Content-Type: application/json' -d '{body}'"
    )
    return Operation(
        path="/api/orders",
        method="post",
        id="postOrder",
        tag="Orders",
        summary="Send an order",
        description="202 means that the order is in the database: it will be completed, once, even "
        "if the server is killed. Sending it again is safe. When the queue is full, what is "
        "least urgent is refused first.",
        parameters=("X-User-Id", "X-Request-Timeout"),
        key="apiKey",
        body={
            "required": True,
            "content": {"application/json": {"schema": _schema("NewOrder"), "example": _NEW}},
        },
        answers={
            "202": answer(
                "It is accepted, now or before.",
                _schema("AcceptedOrder"),
                {"message": "Order queued", "orderId": "order-1", "queueSize": 5},
                headers=QUOTA_HEADERS,
            )
        },
        codes=(
            "invalid_header",
            "invalid_body",
            *_KEY_CODES,
            "conflict",
            "unsupported_media_type",
            "rate_limited",
            *_DATABASE_CODES,
        ),
        has_quota=True,
        quota_statuses=_QUOTA_STATUSES,
        samples=(("An order", sample),),
    )


def _get() -> Operation:
    example = {
        "orderId": "order-1",
        "amount": 12.5,
        "priority": "high",
        "status": "completed",
        "attempts": 1,
        "createdAt": "2026-02-11T12:00:00.000Z",
        "updatedAt": "2026-02-11T12:00:00.250Z",
    }
    return Operation(
        path="/api/orders/{orderId}",
        id="getOrder",
        tag="Orders",
        summary="What became of an order",
        description="`failed` is an order that was tried several times with the database there, "
        "and is given up.",
        parameters=("orderId", "X-Request-Timeout"),
        key="apiKey",
        answers={"200": answer("The order.", _schema("Order"), example)},
        codes=("invalid_header", *_KEY_CODES, "not_found", *_DATABASE_CODES),
        samples=(("Ask", curl("/api/orders/order-1")),),
    )


def _metrics() -> Operation:
    example = {
        "queueSize": 5,
        "queueFull": False,
        "activeConcurrency": 3,
        "queuedConcurrency": 2,
        "circuitBreakerState": "CLOSED",
        "circuitBreakerFailures": 0,
    }
    return Operation(
        path="/api/metrics",
        id="getOrderMetrics",
        tag="Orders",
        summary="What the orders hold now",
        description="Reads statistics only: it answers while the orders are saturated.",
        key="apiKey",
        answers={"200": answer("Now.", _schema("OrderDesk"), example)},
        codes=(*_KEY_CODES, "database_unavailable"),
        samples=(("Ask", curl("/api/metrics")),),
    )
