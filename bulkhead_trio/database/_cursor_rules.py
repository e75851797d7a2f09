"""Where a page of a list ends, as the opaque text that a client brings back for the next.

A keyset cursor: it names the last item shown, so that a page is found by an index however far into
the list it is, and nothing is shown twice or left out because something was added meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from typing import Final, Generic, TypeVar

import msgspec

from bulkhead_trio.errors import CallerError

T = TypeVar("T")

DEFAULT_LIMIT: Final = 50
MOST_ITEMS: Final = 100
"""Of a page: a page of documents of some kilobytes each is still small."""

LATEST_MICROSECONDS: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""

_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PLACE: Final = re.compile(rb"(0|[1-9][0-9]{0,17})\.([0-9a-f-]{1,36})")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")

_REFUSAL: Final = "cursor must be the nextCursor of an earlier page"


class Cursor(msgspec.Struct, frozen=True):
    """The place of one item in a list.

    Attributes:
        at: when it was made, in microseconds since 1970 in UTC.
        id: of the item, which tells those of one moment apart.
    """

    at: int
    id: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Part of a list.

    Attributes:
        next_cursor: where the next part begins; ``None``: this is the last.
    """

    items: list[T]
    next_cursor: Cursor | None


def encode_cursor(cursor: Cursor) -> str:
    """The text for ``cursor``; only `decode_cursor` knows what it says."""
    place = f"{cursor.at}.{cursor.id}".encode("ascii")
    return base64.urlsafe_b64encode(place).rstrip(b"=").decode("ascii")


def decode_cursor(text: str) -> Cursor:
    """What `encode_cursor` made ``text`` of.

    Raises:
        CallerError: it has made nothing of the kind.
    """
    if not _TEXT.fullmatch(text):
        raise CallerError(_REFUSAL)
    try:
        place = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise CallerError(_REFUSAL) from None
    match = _PLACE.fullmatch(place)
    if match is None or int(match[1]) > LATEST_MICROSECONDS:
        raise CallerError(_REFUSAL)
    cursor = Cursor(int(match[1]), match[2].decode("ascii"))
    if encode_cursor(cursor) != text:  # exactly one text for each place
        raise CallerError(_REFUSAL)
    return cursor


def uuid_in(cursor: Cursor) -> str:
    """The id of the item that ``cursor`` names, in a list of what has UUIDs.

    Raises:
        CallerError: it is a cursor of another list.
    """
    if not is_uuid(cursor.id):
        raise CallerError(_REFUSAL)
    return cursor.id


def number_in(cursor: Cursor) -> int:
    """The id of the item that ``cursor`` names, in a list of what has numbers.

    Raises:
        CallerError: it is a cursor of another list.
    """
    if not _NUMBER.fullmatch(cursor.id):
        raise CallerError(_REFUSAL)
    return int(cursor.id)


def read_limit(text: str | None) -> int:
    """The size of a page that a client asks for, 1 to `MOST_ITEMS`; `DEFAULT_LIMIT` for ``None``.

    Raises:
        CallerError: it is no such number.
    """
    if text is None:
        return DEFAULT_LIMIT
    number = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 0
    if not 1 <= number <= MOST_ITEMS:
        raise CallerError(f"limit must be a whole number from 1 to {MOST_ITEMS}")
    return number


def check_limit(limit: int) -> None:
    """What every list asks of the size of its page.

    Raises:
        ValueError: it is not from 1 to `MOST_ITEMS`.
    """
    if not 1 <= limit <= MOST_ITEMS:
        raise ValueError(f"limit must be from 1 to {MOST_ITEMS}, not {limit}")


def is_uuid(text: str) -> bool:
    """Whether it is a UUID as PostgreSQL writes one."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
