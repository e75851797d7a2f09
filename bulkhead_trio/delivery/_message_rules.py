"""What a webhook says, and what is kept of what it is answered. Pure."""

from __future__ import annotations

import codecs
from typing import Final

import msgspec

MOST_RESPONSE_BYTES: Final = 2048
"""Of an answer's body; enough to see what an endpoint complains of."""


def body_of(event_type: str, timestamp: str, payload: bytes) -> bytes:
    """A webhook's body: ``{"type","timestamp","data"}``, the payload as it came, byte for byte.

    Nothing of it depends on when or where it is sent, so every try sends the same bytes.

    Args:
        event_type: of the event.
        timestamp: when the event was accepted, as the body is to say it.
        payload: JSON.
    """
    named, at = msgspec.json.encode(event_type), msgspec.json.encode(timestamp)
    return b'{"type":%b,"timestamp":%b,"data":%b}' % (named, at, payload)


def kept_text(received: bytes, *, is_all: bool) -> str:
    """What is kept of an answer's body: text that a database and a terminal take.

    Args:
        received: its beginning; no more than `MOST_RESPONSE_BYTES` of it are kept.
        is_all: whether there was no more; otherwise half a character at the end is left off.
    """
    kept = received[:MOST_RESPONSE_BYTES]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(kept, final=is_all and len(kept) == len(received))
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\t\n\r" else "\ufffd" for each in text)
