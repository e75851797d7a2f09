"""Generated requests: what our core takes, h11 reads in the same way; what h11 refuses, it refuses.

h11 is what Hypercorn parses with, so this is also why both fronts mean the same.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkhead_trio.http.hypercorn._guard_rules import Guard

from ._fuzzing import WORDS, as_h11_has_it, check, is_of_http_10
from ._grammar import good_streams, streams
from ._reading import LIMITS, cut, read, read_by_h11

PLACES = st.lists(st.integers(0, 400), max_size=4)
MANY = settings(max_examples=150, deadline=None, derandomize=True)


@MANY
@given(good_streams(), PLACES)
def test_good_requests_are_read_as_h11_reads_them(data: bytes, places: list[int]) -> None:
    """Two parsers, one meaning, however the bytes are cut; none of them is refused."""
    seen = read(*cut(data, places))
    assert not seen.is_refused
    theirs = read_by_h11(data)
    count = len(theirs.requests)
    assert count == len(seen.requests) or is_of_http_10(data)
    assert tuple(map(as_h11_has_it, seen.requests[:count])) == theirs.requests


@MANY
@given(streams(), PLACES)
@example(
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1 ;a\r\nx\r\n0\r\n\r\n", []
)
def test_odd_requests_are_refused_or_read_as_h11_reads_them(data: bytes, places: list[int]) -> None:
    """Parts that are odd now and then, in any combination."""
    check(data, places)


@MANY
@given(streams(share=60), st.data())
def test_damaged_requests_are_refused_or_read_as_h11_reads_them(
    data: bytes, draw: st.DataObject
) -> None:
    """A few bytes changed, left out, put in or repeated."""
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(data)))
        width = draw.draw(st.integers(0, 3))
        what = draw.draw(st.one_of(st.sampled_from([b"", *WORDS]), st.binary(max_size=3)))
        data = data[:place] + what + data[place + width :]
    check(data, draw.draw(PLACES))


@MANY
@given(st.binary(max_size=300), PLACES)
def test_any_bytes_end_in_an_answer_or_wait_for_more(data: bytes, places: list[int]) -> None:
    """Nothing but `ProtocolError` comes of garbage, and it means the same however it is cut."""
    check(data, places)


@MANY
@given(streams(share=30), PLACES)
def test_guard_lets_the_same_through_however_the_bytes_are_cut(
    data: bytes, places: list[int]
) -> None:
    """Whole requests are let through byte for byte, and nothing of one that is refused."""
    whole, cautious = Guard(LIMITS), Guard(LIMITS)
    good = whole.take(data)
    pieces = b"".join(cautious.take(piece) for piece in cut(data, places))
    assert read(pieces).requests == read(good).requests
    assert (whole.error is None) == (cautious.error is None)
    assert whole.held + len(good) <= len(data)
    if whole.error is not None:
        assert whole.error.status == read(data).status
        assert whole.take(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
