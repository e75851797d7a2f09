"""Answers taken apart: the corpus, cut in every way, and against h11."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.http.client._response_rules import (
    UNTIL_CLOSE,
    ResponseReader,
    parse_response_head,
    response_decoder,
)
from bulkhead_trio.http.engine._head_rules import NO_BODY
from bulkhead_trio.http.engine.errors import ProtocolError

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("responses.toml").read_text())[
    "case"
]


@attrs.frozen
class Seen:
    """What came of some bytes."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    keeps: bool
    is_open: bool
    rest: bytes


def read(*pieces: bytes, method: str = "GET") -> Seen | None:
    """Feed the pieces one by one; ``None`` where there is no answer in them."""
    reader = ResponseReader(head_bytes=64 * 1024, header_count=200)
    head = decoder = None
    body = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while head is None or head.is_interim:
                if (head := reader.next_head(method)) is None:
                    break
            if head is None or head.body == NO_BODY:
                continue
            decoder = decoder or response_decoder(head.body)
            while not decoder.is_complete and (more := reader.next_body(decoder)) is not None:
                body += more
    except ProtocolError:
        return None
    if head is None:
        return None
    is_open = decoder is not None and not decoder.is_complete
    return Seen(
        head.status, tuple(head.headers), body, head.keeps_alive, is_open, reader.take_rest()
    )


def bytes_of(case: dict[str, Any]) -> bytes:
    if "bytes_hex" in case:
        return bytes.fromhex(case["bytes_hex"])
    return bytes(case["bytes"].encode("latin-1"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_answer_comes_out_as_the_corpus_says(case: dict[str, Any]) -> None:
    """Refused, or understood as it was meant."""
    seen = read(bytes_of(case), method=case.get("method", "GET"))
    if case.get("refused"):
        assert seen is None
        return
    assert seen is not None
    assert seen.status == case["status"]
    assert seen.body == case.get("body", "").encode()
    assert seen.keeps == case.get("keeps", True)
    assert seen.is_open == case.get("open", False)
    assert seen.rest == case.get("rest", "").encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_answer_means_the_same_however_it_is_cut(case: dict[str, Any]) -> None:
    """In two pieces at every place, and byte by byte, the same comes out as in one."""
    data, method = bytes_of(case), case.get("method", "GET")
    whole = read(data, method=method)
    for place in range(1, len(data)):
        assert read(data[:place], data[place:], method=method) == whole, place
    assert read(*(bytes([byte]) for byte in data), method=method) == whole


def test_names_are_lowered_and_values_stripped() -> None:
    """As ASGI wants them, in the order in which they came."""
    head = parse_response_head(b"HTTP/1.1 200 OK\r\nB: \t1 2 \t\r\nA:3\r\nB:\r\n\r\n", method="GET")
    assert head.headers == [(b"b", b"1 2"), (b"a", b"3"), (b"b", b"")]
    assert head.reason == b"OK"
    assert head.body == UNTIL_CLOSE


@pytest.mark.parametrize(
    ("value", "kept_for"),
    [("timeout=5", 5), ("timeout=5, max=100", 5), ("max=100, Timeout=7", 7), ('timeout="3"', 3),
     ("max=100", None), ("timeout=x", None), ("notimeout=5", None), ("", None)],
)  # fmt: skip
def test_keep_alive_says_how_long(value: str, kept_for: int | None) -> None:
    """``timeout`` is understood wherever it stands, and nothing else is."""
    data = f"HTTP/1.1 204 OK\r\nKeep-Alive: {value}\r\n\r\n".encode()
    assert parse_response_head(data, method="GET").kept_for == kept_for


def test_head_has_a_greatest_size() -> None:
    """As long as allowed is allowed; one byte more is not."""
    start, end = b"HTTP/1.1 200 OK\r\na: ", b"\r\n\r\n"
    data = start + b"b" * (1000 - len(start) - len(end)) + end
    reader = ResponseReader(head_bytes=1000, header_count=10)
    reader.feed(data)
    assert reader.next_head("GET") is not None
    longer = data.replace(b"b", b"bb", 1)
    assert len(longer) == 1001
    reader = ResponseReader(head_bytes=1000, header_count=10)
    reader.feed(longer)
    with pytest.raises(ProtocolError, match="too large"):
        reader.next_head("GET")


def test_head_without_an_end_is_given_up() -> None:
    """What is longer than any good head is not waited for."""
    reader = ResponseReader(head_bytes=1000, header_count=10_000)
    reader.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ProtocolError, match="too large"):
        for _ in range(1000):
            reader.feed(b"a: b\r\n")
            assert reader.next_head("GET") is None


def test_fields_have_a_greatest_number() -> None:
    """Ten where ten are allowed."""
    for count, is_good in ((10, True), (11, False)):
        reader = ResponseReader(head_bytes=1000, header_count=10)
        reader.feed(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * count + b"\r\n")
        if is_good:
            assert reader.next_head("GET") is not None
        else:
            with pytest.raises(ProtocolError, match="too many"):
                reader.next_head("GET")


TOKENS = st.from_regex(re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}"), fullmatch=True)
VALUES = st.from_regex(re.compile(r"[!-~]([ -~]{0,10}[!-~])?|"), fullmatch=True)
OWN = {"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"}


@given(
    status=st.integers(200, 599),
    fields=st.lists(
        st.tuples(TOKENS.filter(lambda name: name.lower() not in OWN), VALUES), max_size=5
    ),
    body=st.binary(max_size=50),
    is_chunked=st.booleans(),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
)
def test_answer_means_what_h11_says(
    status: int, fields: list[tuple[str, str]], body: bytes, is_chunked: bool, method: str
) -> None:
    """Status, headers, body and what is left over, on answers that are in order."""
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    lines = [f"HTTP/1.1 {status} Fine", *(f"{name}: {value}" for name, value in fields), framing]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n"
    if method != "HEAD" and status not in (204, 304):
        if is_chunked:
            data += b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data += b"0\r\n\r\n"
        else:
            data += body
    seen = read(data, method=method)
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    head = peer.next_event()
    assert isinstance(head, h11.Response)
    theirs = b""
    while isinstance(event := peer.next_event(), h11.Data):
        theirs += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert seen is not None
    assert seen.status == head.status_code
    assert list(seen.headers) == list(head.headers)
    assert seen.body == theirs
    assert seen.rest == b""
