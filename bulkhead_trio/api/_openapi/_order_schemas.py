"""The bodies of the orders, for ``components.schemas``."""

from __future__ import annotations

from bulkhead_trio.api._openapi._objects import JSON, counted, described_object

_ID: JSON = {"type": "string", "minLength": 1, "maxLength": 128}
_AMOUNT: JSON = {"type": "number", "exclusiveMinimum": 0}
_PRIORITY: JSON = {"type": "string", "enum": ["high", "normal", "low"]}


def order_schemas() -> JSON:
    """By name."""
    moment = {"type": "string", "format": "date-time"}
    return {
        "NewOrder": {
            "type": "object",
            "description": "What is asked for.",
            "required": ["orderId", "amount"],
            "properties": {
                "orderId": {**_ID, "description": "Your name for it, unique among all orders."},
                "amount": {**_AMOUNT, "description": "Kept exactly, to its last digit."},
                "priority": {
                    **_PRIORITY,
                    "default": "normal",
                    "description": "What is urgent is done first, and refused last.",
                },
            },
        },
        "AcceptedOrder": described_object(
            "The order is in the database.",
            {
                "message": {"type": "string", "enum": ["Order queued", "Order already queued"]},
                "orderId": dict(_ID),
                "queueSize": counted("Orders that wait."),
            },
        ),
        "Order": described_object(
            "An order, and what became of it.",
            {
                "orderId": dict(_ID),
                "amount": dict(_AMOUNT),
                "priority": dict(_PRIORITY),
                "status": {
                    "type": "string",
                    "enum": ["queued", "processing", "completed", "failed"],
                },
                "attempts": counted("How often its processing has begun."),
                "createdAt": moment,
                "updatedAt": moment,
            },
        ),
        "OrderDesk": described_object(
            "What the orders hold now.",
            {
                "queueSize": counted("Accepted orders that wait for a worker."),
                "queueFull": {"type": "boolean", "description": "No place left in memory."},
                "activeConcurrency": counted("Orders being processed."),
                "queuedConcurrency": counted("Requests that wait to be written."),
                "circuitBreakerState": {
                    "type": "string",
                    "enum": ["CLOSED", "OPEN", "HALF_OPEN"],
                },
                "circuitBreakerFailures": counted("Failures since the last success."),
            },
        ),
    }
