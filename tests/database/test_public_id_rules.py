"""Ids as the outside sees them."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.database._public_id_rules import (
    RANDOM_BYTES,
    public_id,
    read_public_id,
    time_ordered_id,
)


@given(st.uuids())
def test_public_id_is_read_back(id_: uuid.UUID) -> None:
    """By its own prefix, and by no other."""
    text = public_id("evt", id_)
    assert text == f"evt_{id_.hex}"
    assert read_public_id("evt", text) == id_
    assert read_public_id("wh", text) is None


@pytest.mark.parametrize(
    "text",
    ["", "evt_", "evt", "evt_" + "0" * 31, "evt_" + "0" * 33, "evt_" + "A" * 32,
     "evt_0000000-0000000000000000000000000", "evt_" + "0" * 32 + "\n", "evt__" + "0" * 31],
)  # fmt: skip
def test_public_id_that_is_none_is_not_read(text: str) -> None:
    """Exactly one text for each id."""
    assert read_public_id("evt", text) is None


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10))
def test_time_ordered_ids_are_in_the_order_of_time(moment: int, randomness: bytes) -> None:
    """Of version 7, whatever the randomness; the later millisecond is above."""
    one = time_ordered_id(moment, randomness)
    assert (one.version, one.variant) == (7, uuid.RFC_4122)
    assert one.int >> 80 == moment
    assert one < time_ordered_id(moment + 1, os.urandom(RANDOM_BYTES))


@pytest.mark.parametrize(("moment", "size"), [(-1, 10), (2**48, 10), (0, 9), (0, 11)])
def test_time_ordered_id_of_what_does_not_fit(moment: int, size: int) -> None:
    """Refused instead of cut."""
    with pytest.raises(ValueError):
        time_ordered_id(moment, bytes(size))
