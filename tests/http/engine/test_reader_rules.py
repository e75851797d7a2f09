"""The core without input and output: the corpus, cut in every way, and against h11."""

from __future__ import annotations

import attrs
import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.http.engine._body_rules import decoder_for
from bulkhead_trio.http.engine._head_rules import NO_BODY, HeadLimits
from bulkhead_trio.http.engine._reader_rules import RequestReader
from bulkhead_trio.http.engine.errors import ProtocolError

from ._corpus import CASES, Case


@attrs.frozen
class Seen:
    """What came of some bytes: requests, and how it ended."""

    requests: tuple[tuple[str, bytes, tuple[tuple[bytes, bytes], ...], bytes], ...]
    status: int


def read(*pieces: bytes, limits: HeadLimits = HeadLimits()) -> Seen:  # noqa: B008  frozen
    """Feed the pieces one by one, taking whatever can be taken after each."""
    reader = RequestReader(limits)
    requests: list[tuple[str, bytes, tuple[tuple[bytes, bytes], ...], bytes]] = []
    head = decoder = None
    body = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if head is None:
                    if (head := reader.next_head()) is None:
                        break
                    decoder = None if head.body == NO_BODY else decoder_for(head.body)
                    body = b""
                if decoder is not None:
                    if not decoder.is_complete and (more := reader.next_body(decoder)) is not None:
                        body += more
                        continue
                    if not decoder.is_complete:
                        break
                requests.append((head.method, head.target, tuple(head.headers), body))
                if not head.keeps_alive:
                    return Seen(tuple(requests), 200)
                head = None
    except ProtocolError as error:
        return Seen(tuple(requests), error.status)
    return Seen(tuple(requests), 200)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_comes_out_as_the_corpus_says(case: Case) -> None:
    """Refused with the right status, or understood as it was meant."""
    seen = read(case.data)
    assert seen.status in case.statuses
    if case.is_refused:
        return
    assert len(seen.requests) >= case.answers
    method, target, _, body = seen.requests[0]
    for name, value in {"method": method, "target": target, "body": body}.items():
        if name in case.seen:
            assert value == (
                case.seen[name] if name == "method" else case.seen[name].encode("latin-1")
            )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_means_the_same_however_it_is_cut(case: Case) -> None:
    """In two pieces at every place, and byte by byte, the same comes out as in one."""
    whole = read(case.data)
    for place in range(1, len(case.data)):
        assert read(case.data[:place], case.data[place:]) == whole, place
    assert read(*(bytes([byte]) for byte in case.data)) == whole


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


# --- against h11 ----------------------------------------------------------------------------------

TOKEN = st.text(st.sampled_from("abcXYZ019-!#$%&'*+.^`|~"), min_size=1, max_size=8)
FIELD = st.tuples(
    TOKEN.filter(
        lambda name: (
            name.lower()
            not in ("host", "content-length", "transfer-encoding", "connection", "upgrade")
        )
    ),
    st.text(st.sampled_from('ab ,;="/\t'), max_size=12),
)


@st.composite
def good_requests(draw: st.DrawFn) -> bytes:
    """A request that anybody understands, written in one of many ways."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]))
    target = "/" + draw(st.text(st.sampled_from("ab/?&=%20.-_~"), max_size=20))
    fields = [("Host", "x"), *draw(st.lists(FIELD, max_size=5))]
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    wire = b""
    if framing == "length":
        fields.append((draw(st.sampled_from(["Content-Length", "content-length"])), str(len(body))))
        wire = body
    elif framing == "chunked":
        fields.append(("Transfer-Encoding", "chunked"))
        while body:
            size = draw(st.integers(1, len(body)))
            piece, body = body[:size], body[size:]
            wire += b"%x\r\n%b\r\n" % (size, piece)
        wire += b"0\r\n\r\n"
    blank = draw(st.sampled_from(["", " ", "\t "]))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}:{blank}{value}" for name, value in fields)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + wire


def read_by_h11(data: bytes) -> tuple[str, bytes, tuple[tuple[bytes, bytes], ...], bytes]:
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := server.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
    return request.method.decode(), request.target, headers, body


@given(good_requests(), st.data())
def test_good_request_is_read_as_h11_reads_it(data: bytes, draw: st.DataObject) -> None:
    """Two parsers, one meaning, however the bytes are cut."""
    places = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    seen = read(*pieces)
    assert seen.status == 200
    assert seen.requests == (read_by_h11(data),)


@given(good_requests(), st.data())
def test_damaged_request_is_refused_or_read_as_h11_reads_it(
    data: bytes, draw: st.DataObject
) -> None:
    """A byte changed, left out or put in: what we understand, h11 understands in the same way."""
    place = draw.draw(st.integers(0, len(data) - 1))
    what = draw.draw(st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"_", b"\t", b"5"]))
    width = draw.draw(st.integers(0, 1))
    damaged = data[:place] + what + data[place + width :]
    seen = read(damaged)
    for request in seen.requests[:1]:
        try:
            other = read_by_h11(damaged)
        except (h11.RemoteProtocolError, AssertionError):
            continue  # it is stricter there, which harms nobody
        assert request == other


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_end_in_an_answer_or_wait_for_more(data: bytes, place: int) -> None:
    """Nothing but `ProtocolError` comes of garbage, and it means the same however it is cut."""
    assert read(data) == read(data[:place], data[place:])
