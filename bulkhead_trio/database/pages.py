"""Lists in pages: what a page is, and where it ends, as stores and their callers say it."""

from bulkhead_trio.database._asking import place_of
from bulkhead_trio.database._cursor_rules import (
    DEFAULT_LIMIT,
    MOST_ITEMS,
    Cursor,
    Page,
    decode_cursor,
    encode_cursor,
    read_limit,
)

__all__ = [
    "DEFAULT_LIMIT",
    "MOST_ITEMS",
    "Cursor",
    "Page",
    "decode_cursor",
    "encode_cursor",
    "place_of",
    "read_limit",
]
