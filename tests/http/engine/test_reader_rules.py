"""The core without input and output: the corpus, cut in every way, and the limits."""

from __future__ import annotations

import time

import pytest

from bulkhead_trio.http.engine._body_rules import ChunkedDecoder
from bulkhead_trio.http.engine._head_rules import HeadLimits
from bulkhead_trio.http.engine._reader_rules import RequestReader
from bulkhead_trio.http.engine.errors import ProtocolError

from ._corpus import CASES, Case
from ._reading import read

HEAD_END = b"\r\n\r\n"
ACCEPTED = [case for case in CASES if case.first == case.last == (200,)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_comes_out_as_the_corpus_says(case: Case) -> None:
    """Refused with the right status, understood as it was meant, or waiting for more."""
    seen = read(case.data)
    assert len(seen.requests) == case.served
    if seen.is_refused:
        assert seen.status in case.last
    elif case.ends:
        assert seen.is_half_way == (400 in case.last)
    else:
        assert 200 in case.last or not case.last
    for request in seen.requests[:1]:
        assert request.method.encode() == case.seen.get("method", request.method.encode())
        assert request.target == case.seen.get("target", request.target)
        assert request.body == case.seen.get("body", request.body)
        assert request.headers == (case.headers or request.headers)
    if case.requests is not None:
        assert case.requests == tuple((r.method, r.target, r.body) for r in seen.requests)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_means_the_same_however_it_is_cut(case: Case) -> None:
    """In two pieces at every place, and byte by byte, the same comes out as in one."""
    whole = read(case.data)
    for place in range(1, len(case.data)):
        assert read(case.data[:place], case.data[place:]) == whole, place
    assert read(*(bytes([byte]) for byte in case.data)) == whole


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n ", b"\0"])
def test_line_of_a_good_head_ends_in_cr_lf_and_in_nothing_else(case: Case, end: bytes) -> None:
    """Whichever line it is: with another end, no request comes of it."""
    blank = len(case.data) - len(case.data.lstrip(b"\r\n"))
    head = case.data[blank : case.data.index(HEAD_END, blank) + len(HEAD_END)]
    places = [place for place in range(len(head)) if head.startswith(b"\r\n", place)]
    for place in (
        places if end != b"\r\n " else places[:-1]
    ):  # after the last it is another request's
        damaged = head[:place] + end + head[place + 2 :]
        assert not read(damaged).requests, damaged


@pytest.mark.parametrize(("size", "status"), [(8 * 1024, 200), (8 * 1024 + 1, 414), (100_000, 414)])
@pytest.mark.parametrize("is_whole", [True, False])
def test_target_has_a_limit(size: int, status: int, is_whole: bool) -> None:
    """As long as allowed is allowed; one more byte is not, whether the rest has come or not."""
    data = b"GET /" + b"a" * (size - 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    seen = read(data) if is_whole else read(data[:-2], b"\r\n")
    assert seen.status == status


@pytest.mark.parametrize(("count", "status"), [(99, 200), (100, 431)])
def test_fields_have_a_greatest_number(count: int, status: int) -> None:
    """A hundred with Host."""
    assert read(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * count + b"\r\n").status == status


@pytest.mark.parametrize(("size", "status"), [(16 * 1024 - 6, 200), (16 * 1024 - 5, 431)])
def test_fields_have_a_greatest_size(size: int, status: int) -> None:
    """Names and values together; Host's five bytes and this one's name count."""
    data = b"GET / HTTP/1.1\r\nHost: x\r\na: " + b"b" * size + b"\r\n\r\n"
    assert read(data).status == status


def test_head_without_an_end_is_given_up() -> None:
    """What is longer than any good head is not waited for."""
    reader = RequestReader(HeadLimits())
    with pytest.raises(ProtocolError) as refused:
        for _ in range(10_000):
            reader.feed(b"GET / HTTP/1.1\r\n" if not reader.has_begun else b"a: b\r\n")
            reader.next_head()
    assert refused.value.status == 431


def test_chunk_line_and_trailers_have_limits() -> None:
    """An extension, or trailers, without an end are given up."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(head, b"1;" + b"a" * 250 + b"\r\nx\r\n0\r\n\r\n").status == 200
    assert read(head, b"1;" + b"a" * 300).status == 400
    assert read(head, b"0\r\n", *[b"a: b\r\n"] * 1300).status == 200
    assert read(head, b"0\r\n", *[b"a: b\r\n"] * 1400).status == 400


def test_chunks_of_one_byte_take_time_in_proportion() -> None:
    """Eight times as many tiny chunks in one piece take about eight times as long, not sixty-four.

    One piece is decoded without a pause: what it takes, every other connection waits.
    """

    def seconds(count: int) -> float:
        times = []
        for _ in range(5):
            decoder = ChunkedDecoder()
            began = time.perf_counter()
            decoder.feed(b"1\r\nx\r\n" * count)
            times.append(time.perf_counter() - began)
        return min(times)

    assert seconds(80_000) < 24 * seconds(10_000)
