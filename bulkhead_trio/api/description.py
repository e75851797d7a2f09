"""``/openapi.json`` for programs and ``/docs`` for people: what this API is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bulkhead_trio.api._docs_page import docs_page
from bulkhead_trio.api._openapi import openapi_document
from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route


class DescriptionResource:
    """Answers with one description in two forms, both made once, when this is made.

    Args:
        version: the server's.
        tiers: the names of the tiers that it has, at least one.
        guard: who may look.
    """

    name = "description"

    def __init__(self, *, version: str, tiers: Sequence[str], guard: AdminGuard) -> None:
        document = openapi_document(version=version, tiers=tiers)
        page = docs_page(document)
        self._document = Response(200, msgspec.json.encode(document))
        self._page = Response(
            200,
            page.html,
            content_type="text/html; charset=utf-8",
            headers=((b"content-security-policy", page.policy.encode("ascii")),),
        )
        self._guard = guard

    def routes(self) -> tuple[Route, ...]:
        """Both forms."""
        around = self._guard.around
        return (
            Route("GET", "/openapi.json", around(self.openapi), is_admin=True),
            Route("GET", "/docs", around(self.docs), is_admin=True),
        )

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002
        """The OpenAPI 3.1 document."""
        return self._document

    async def docs(self, request: Request) -> Response:  # noqa: ARG002
        """The page."""
        return self._page
