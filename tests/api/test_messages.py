"""What is made of a request's body, however it is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bulkhead_trio.api.messages import Headers, Request
from bulkhead_trio.errors import InvalidBody

DEPTH = 50_000


class Form(msgspec.Struct):
    """What a body is wanted to be."""

    a: int


def request_of(body: bytes) -> Request:
    return Request("POST", "/", b"", Headers([]), body=body)


@pytest.mark.parametrize("wanted", [Form, dict[str, Any], Any])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("start", [b"", b'{"a":1,"b":'])
def test_body_that_is_too_deep_is_a_bad_one(wanted: Any, opening: bytes, start: bytes) -> None:
    """Not a mistake of ours, whatever is wanted and however it goes on."""
    for body in (start + opening * DEPTH, start + opening * 3):
        with pytest.raises(InvalidBody) as caught:
            request_of(body).json(msgspec.json.Decoder(wanted))
        assert caught.value.errors
    body = start + b"[" * DEPTH + b"]" * DEPTH + (b"}" if start else b"")
    with pytest.raises(InvalidBody):
        request_of(body).json(msgspec.json.Decoder(wanted))


def test_body_of_some_depth_is_taken() -> None:
    """As deep as anybody writes."""
    body = b"[" * 100 + b"]" * 100
    assert request_of(body).json(msgspec.json.Decoder(Any)) == msgspec.json.decode(body)
