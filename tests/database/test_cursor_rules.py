"""Cursors: one text for each place, and nothing else is let through."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.database._cursor_rules import (
    DEFAULT_LIMIT,
    LATEST_MICROSECONDS,
    Cursor,
    decode_cursor,
    encode_cursor,
    number_in,
    read_limit,
    uuid_in,
)
from bulkhead_trio.errors import CallerError

PLACES = st.builds(
    Cursor,
    st.integers(0, LATEST_MICROSECONDS),
    st.uuids().map(str) | st.integers(1, 10**18 - 1).map(str),
)


@given(PLACES)
def test_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    """It is text for a URL, and says the same afterwards."""
    text = encode_cursor(cursor)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(text) == cursor


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().strip("=")))
def test_cursor_of_any_text_is_refused_or_exact(text: str) -> None:
    """What is accepted is what would have been given out."""
    try:
        cursor = decode_cursor(text)
    except CallerError:
        return
    assert encode_cursor(cursor) == text


def encoded(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


SOME = UUID("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "a" * 101,
        encoded("1." + str(SOME)) + "=",
        encoded("01." + str(SOME)),
        encoded("-1." + str(SOME)),
        encoded(f"{LATEST_MICROSECONDS + 1}.{SOME}"),
        encoded("1." + str(SOME).upper()),
        encoded("1."),
        encoded("1.x'"),
    ],
)
def test_cursor_that_was_never_given_out_is_refused(text: str) -> None:
    """None of these is our text."""
    with pytest.raises(CallerError):
        decode_cursor(text)


def test_cursor_names_what_its_list_has() -> None:
    """A UUID or a number, whichever is wanted."""
    id_ = str(UUID(int=7))
    assert uuid_in(Cursor(0, id_)) == id_
    assert number_in(Cursor(0, "7")) == 7
    for odd in ("7", "-" * 36, "a" * 36):
        with pytest.raises(CallerError):
            uuid_in(Cursor(0, odd))
    for odd in (id_, "0", "-1", "9" * 19, ""):
        with pytest.raises(CallerError):
            number_in(Cursor(0, odd))


@pytest.mark.parametrize(("text", "limit"), [(None, DEFAULT_LIMIT), ("1", 1), ("100", 100)])
def test_limit_is_read(text: str | None, limit: int) -> None:
    """Said or not."""
    assert read_limit(text) == limit


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "1.0", "1e1", " 1", "1000", "٣"])
def test_limit_out_of_range_is_refused(text: str) -> None:
    """Neither nothing nor everything."""
    with pytest.raises(CallerError):
        read_limit(text)
