"""What is made of a request's body, however it is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bulkhead_trio.api._body_paths import MOST_NAMES
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


GIANT = ["1e999", "-1e400", "9" * 5000, "1" * 400 + ".5"]


@pytest.mark.parametrize("number", GIANT)
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"a":%s}', "$.a"),
        ('{"x":1,"a":{"b c":{"d":%s}},"y":[]}', "$.a.b c.d"),
        ('{"a":[1,{"b":%s}]}', "$.a[1].b"),
        ('{"a":[[0,%s]]}', "$.a[0][1]"),
        ('{"a":{"[...].x":{"y":[%s]}}}', "$.a.[...].x.y[0]"),
    ],
)
def test_number_that_is_too_large_is_told_where_it_is(number: str, body: str, path: str) -> None:
    """By the names of the members."""
    with pytest.raises(InvalidBody) as caught:
        request_of((body % number).encode()).json(msgspec.json.Decoder(dict[str, Any]))
    assert [each["path"] for each in caught.value.errors] == [path]


def test_number_that_is_too_large_is_looked_for_so_deep() -> None:
    """As deep as anybody writes; below that, the way to it is told as far as it goes."""
    for depth, names in ((MOST_NAMES, MOST_NAMES), (500, MOST_NAMES)):
        body = '{"a":' * depth + "1e999" + "}" * depth
        with pytest.raises(InvalidBody) as caught:
            request_of(body.encode()).json(msgspec.json.Decoder(dict[str, Any]))
        assert caught.value.errors[0]["path"] == "$" + ".a" * names


def test_value_of_another_type_is_told_as_it_was() -> None:
    """What can be read, and is not what is wanted, has no name that could be found."""
    with pytest.raises(InvalidBody) as caught:
        request_of(b'{"a":"x"}').json(msgspec.json.Decoder(dict[str, int]))
    assert caught.value.errors[0]["path"] in ("$", "$[...]")
