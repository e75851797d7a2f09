"""``/admin/audit``: who changed what, for whoever has the admin key."""

from __future__ import annotations

from typing import Any

from bulkhead_trio.api._paging import page_answer, page_asked
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.api.admin import AdminDoor
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route
from bulkhead_trio.database.audit import AuditRecord, AuditStore, Author


class AuditResource:
    """Shows the changes that there were.

    Args:
        store: where they are kept.
        door: who may look.
    """

    name = "audit"

    def __init__(self, store: AuditStore, door: AdminDoor) -> None:
        self._store = store
        self._door = door

    def routes(self) -> tuple[Route, ...]:
        """The one."""
        return (Route("GET", "/admin/audit", self._door.around(self.page), is_admin=True),)

    async def page(self, request: Request, author: Author) -> Response:  # noqa: ARG002
        """Some of the changes, newest first."""
        asked = page_asked(request)
        page = await self._store.page(
            limit=asked.limit, cursor=asked.cursor, tenant_id=asked.parameters.get("tenantId")
        )
        return page_answer(page, _wire)


def _wire(record: AuditRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": wire_time(record.at),
        "who": record.who,
        "requestId": record.request_id,
        "action": record.action,
        "subjectId": record.subject_id,
        "tenantId": record.tenant_id,
        "before": _camel(record.before),
        "after": _camel(record.after),
    }


def _camel(record: Any) -> Any:
    """A record in the names that clients know; a route's document has them already."""
    if not isinstance(record, dict):
        return record
    return {
        _camel_name(name): member if name == "spec" else _camel(member)
        for name, member in record.items()
    }


def _camel_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
