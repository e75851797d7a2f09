"""What may be an event's payload."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.api._payload_rules import (
    MOST_DEPTH,
    MOST_PAYLOAD_BYTES,
    check_payload,
    repeated_member,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), VALUES))
def test_any_object_is_kept_as_it_was_written(value: dict[str, Any]) -> None:
    """Byte for byte, whatever is in its strings."""
    for raw in (json.dumps(value, ensure_ascii=False).encode(), json.dumps(value).encode()):
        assert check_payload(raw) is raw


@pytest.mark.parametrize(
    "raw", [b"[]", b"1", b'"{}"', b"null", b'{"a":"\xff"}', b'{"\xed\xa0\x80":1}']
)
def test_what_is_no_object_in_utf8_is_refused(raw: bytes) -> None:
    """With words that follow the member's name."""
    with pytest.raises(ValueError, match=r"must be an object|is not JSON in UTF-8"):
        check_payload(raw)


def test_payload_has_a_largest_size() -> None:
    """At it, it passes."""
    most = b'{"a":"' + b"x" * (MOST_PAYLOAD_BYTES - 8) + b'"}'
    assert len(check_payload(most)) == MOST_PAYLOAD_BYTES
    with pytest.raises(ValueError, match="at most 262144 bytes"):
        check_payload(most + b" ")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_payload_has_a_largest_depth(opening: bytes, closing: bytes) -> None:
    """At it, it passes; neither brackets in strings nor many side by side count."""

    def nested(depth: int) -> bytes:
        inner = depth - 1
        return b'{"x":' + opening * inner + b"1" + closing * inner + b"}"

    assert check_payload(nested(MOST_DEPTH))
    with pytest.raises(ValueError, match="within each other"):
        check_payload(nested(MOST_DEPTH + 1))
    assert check_payload(b'{"x":"' + b"[{" * 500 + b'\\"[[["}')
    assert check_payload(b'{"x":[' + b",".join([b"{}"] * 500) + b"]}")


def test_depth_is_found_quickly_in_the_largest_payload() -> None:
    """Whatever brackets it is full of: it holds up everybody else for milliseconds at most."""
    raw = b'{"x":[' + b",".join([b"[{}]"] * (MOST_PAYLOAD_BYTES // 5 - 10)) + b"]}"
    assert check_payload(raw) is raw
    assert msgspec.json.decode(raw)


NAMES = st.sampled_from(["a", "b", "\u00e9", 'q"', "\\", ""])
MEMBERS = st.sampled_from([1, 12, "x", "", {"a": 1, "b": [","]}, {}, [1, {"a": "}"}], None, 1.5])


@given(st.lists(st.tuples(NAMES, MEMBERS), max_size=6), st.sampled_from(["", " ", "\n\t"]))
def test_member_that_is_there_twice_is_found(members: list[tuple[str, Any]], space: str) -> None:
    """Whatever its values are and however its name is written; one that is there once is not."""
    written = f"{space},{space}".join(
        f"{json.dumps(name, ensure_ascii=number % 2 == 0)}{space}:{space}{json.dumps(value)}"
        for number, (name, value) in enumerate(members)
    )
    body = f"{space}{{{space}{written}{space}}}{space}".encode()
    names = [name for name, _ in members]
    repeated = repeated_member(body, msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    if len(set(names)) == len(names):
        assert repeated is None
    else:
        assert repeated is not None
        assert names.count(repeated) > 1
