"""A receiver of webhooks that misbehaves on purpose: many endpoints at one port, each in its way.

As a process: ``python -m bulkhead_trio.testing.receiver --port 0``.
"""

from bulkhead_trio.testing.receiver.behaviour import (
    Answers,
    Behaviour,
    InTurn,
    Resets,
    busy,
    dead,
    flapping,
    gone,
    ok,
    redirecting,
    slow,
)
from bulkhead_trio.testing.receiver.process import ReceiverFailed, ReceiverProcess
from bulkhead_trio.testing.receiver.seen import Arrival, EndpointSeen, Received
from bulkhead_trio.testing.receiver.server import Receiver, Verify

__all__ = [
    "Answers",
    "Arrival",
    "Behaviour",
    "EndpointSeen",
    "InTurn",
    "Received",
    "Receiver",
    "ReceiverFailed",
    "ReceiverProcess",
    "Resets",
    "Verify",
    "busy",
    "dead",
    "flapping",
    "gone",
    "ok",
    "redirecting",
    "slow",
]
