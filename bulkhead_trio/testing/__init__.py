"""Fakes that ship with the package, for deterministic tests on Trio's mock clock."""

from bulkhead_trio.testing.asgi import Answer, ASGIClient
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.database import ScriptedConnection, ScriptedDatabase, tenant_rows
from bulkhead_trio.testing.orders import ScriptedOrderStore
from bulkhead_trio.testing.upstream import ScriptedUpstream, ScriptedUpstreamProcess

__all__ = [
    "ASGIClient",
    "Answer",
    "CancellationPoint",
    "ScriptedConnection",
    "ScriptedDatabase",
    "ScriptedOrderStore",
    "ScriptedUpstream",
    "ScriptedUpstreamProcess",
    "sweep_cancellations",
    "tenant_rows",
]
