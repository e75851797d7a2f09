"""What the floods send, and what they make of answers."""

from __future__ import annotations

import pytest

from bench.http.floods import garbage, status_of


def test_garbage_is_the_same_for_the_same_seed() -> None:
    """A run can be made again."""
    assert garbage("1") == garbage("1")
    assert garbage("1") != garbage("2")
    assert len(set(garbage("1"))) == len(garbage("1"))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 400),
        (b"HTTP/1.0 501 No\r\n", 501),
        (b"", 0),
        (b"HTTP/1.1", 0),
        (b"\x15\x03\x01\x00\x02", 0),
        (b"HTTP/1.1 abc", 0),
    ],
)
def test_status_is_that_of_the_first_answer(answer: bytes, status: int) -> None:
    """What is no answer has status 0."""
    assert status_of(answer) == status
