"""Lists in pages: ``?limit=&cursor=`` in, ``{"items": [...], "nextCursor": ...}`` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.database.pages import (
    Cursor,
    Page,
    decode_cursor,
    encode_cursor,
    read_limit,
)

T = TypeVar("T")


PAGE_PARAMETERS: Final = ("limit", "cursor")
"""The query's fields that every list has."""


@attrs.frozen
class PageAsked:
    """Which part of a list is wanted.

    Attributes:
        limit: the most items.
        cursor: where the page before ended; ``None`` for the first.
        parameters: the query's other fields.
    """

    limit: int
    cursor: Cursor | None
    parameters: dict[str, str]


def page_asked(request: Request) -> PageAsked:
    """What the query asks for.

    Raises:
        CallerError: it cannot be read, or asks for something that cannot be.
    """
    parameters = request.parameters()
    cursor = parameters.pop("cursor", "")
    limit = read_limit(parameters.pop("limit", None))
    return PageAsked(limit, decode_cursor(cursor) if cursor else None, parameters)


def page_answer(page: Page[T], written: Callable[[T], Any]) -> Response:
    """One page, each of its items as ``written`` writes it."""
    cursor = None if page.next_cursor is None else encode_cursor(page.next_cursor)
    return Response.json({"items": [written(item) for item in page.items], "nextCursor": cursor})
