"""What goes wrong with the embedded server."""

from __future__ import annotations

from bulkhead_trio.errors import BulkheadTrioError


class EmbeddedServerError(BulkheadTrioError):
    """The embedded PostgreSQL cannot be made, started or used; the message says why."""
