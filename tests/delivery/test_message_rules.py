"""What a webhook says, and what is kept of what it is answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery._message_rules import MOST_RESPONSE_BYTES, body_of, kept_text

MOMENT = "2026-02-11T12:00:00.123Z"


def test_body_has_type_timestamp_and_data() -> None:
    """Exactly these, in this order, without blanks."""
    body = body_of("order.completed", MOMENT, b'{"a":1}')
    assert body == (
        b'{"type":"order.completed","timestamp":"2026-02-11T12:00:00.123Z","data":{"a":1}}'
    )


@pytest.mark.parametrize(
    "payload", [b'{ "b" : 1.0,\n"a":1e2, "a":2}', '{"é":"\\u00e9 é"}'.encode(), b"null", b"[ ]"]
)
def test_payload_goes_out_byte_for_byte(payload: bytes) -> None:
    """As its owner wrote it: blanks, order, numbers and doubled names included."""
    body = body_of("a", MOMENT, payload)
    assert body.endswith(b'"data":' + payload + b"}")
    assert json.loads(body)["data"] == json.loads(payload)


@given(st.binary(max_size=3 * MOST_RESPONSE_BYTES), st.booleans())
def test_kept_text_is_bounded_and_can_be_written_anywhere(received: bytes, is_all: bool) -> None:
    """Whatever came: so many characters at most, none of which a database or terminal chokes on."""
    text = kept_text(received, is_all=is_all)
    assert len(text) <= MOST_RESPONSE_BYTES
    assert all(each.isprintable() or each in "\t\n\r" for each in text)
    text.encode("utf-8")


def test_kept_text_of_plain_text_is_itself() -> None:
    """Tabs and line ends included."""
    for text in ("", "ok", "né\n\tà\r\n", "日本", '{"error":"no"}'):
        assert kept_text(text.encode(), is_all=True) == text


def test_kept_text_replaces_what_cannot_be_shown() -> None:
    """Zero bytes, escapes, direction marks, and what is no UTF-8."""
    assert kept_text(b"a\x00b\x1b[31mc\xff", is_all=True) == "a\ufffdb\ufffd[31mc\ufffd"
    assert kept_text("a\u202eb".encode(), is_all=True) == "a\ufffdb"


def test_kept_text_that_is_cut_has_no_half_character() -> None:
    """Where more came than is kept, the cut may go through a character; it is left off."""
    long = "é".encode() * MOST_RESPONSE_BYTES
    assert kept_text(b"a" + long, is_all=False) == "a" + "é" * (MOST_RESPONSE_BYTES // 2 - 1)
    assert kept_text(b"\xc3", is_all=True) == "\ufffd"
    assert kept_text(b"\xc3", is_all=False) == ""
