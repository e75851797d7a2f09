"""Requests on the wire: what goes out is what was meant, or nothing does."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._request_rules import BodyFraming, Field, RequestHead, request_head
from bulkhead_trio.http.engine._head_rules import CHUNKED, NO_BODY, HeadLimits, HeadParser


def head_of(
    *headers: Field, method: str = "GET", target: bytes = b"/", length: int | None = 0
) -> RequestHead:
    return request_head(method, target, "example.com", headers, length=length)


def test_request_without_anything_has_a_host() -> None:
    """Once, and first; and nothing about a body that is not there."""
    assert head_of().wire == b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n"
    assert head_of().body == NO_BODY


def test_host_of_the_caller_stays() -> None:
    """A gateway may keep what it was asked for."""
    wire = head_of(("Host", "other.example:81")).wire
    assert wire == b"GET / HTTP/1.1\r\nHost: other.example:81\r\n\r\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_method_that_usually_has_a_body_says_that_it_has_none(method: str) -> None:
    """Some servers wait for one, or answer 411, otherwise."""
    assert b"content-length: 0\r\n" in head_of(method=method).wire


def test_length_of_bytes_is_said() -> None:
    """Whatever the method."""
    head = head_of(method="DELETE", length=5)
    assert head.wire.endswith(b"content-length: 5\r\n\r\n")
    assert head.body == 5


def test_body_of_unknown_length_goes_in_chunks() -> None:
    """Unless the caller knows it."""
    head = head_of(method="POST", length=None)
    assert head.wire.endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert head.body == CHUNKED
    known = head_of(("Content-Length", "7"), method="POST", length=None)
    assert b"transfer-encoding" not in known.wire
    assert known.body == 7


def test_transfer_encoding_of_the_caller_is_said_once() -> None:
    """By the connection, which does it; with a known length there is no need for it."""
    head = head_of(("Transfer-Encoding", "Chunked"), method="POST", length=None)
    assert head.wire.lower().count(b"transfer-encoding") == 1
    head = head_of(("Transfer-Encoding", "chunked"), method="POST", length=3)
    assert b"transfer-encoding" not in head.wire.lower()
    assert head.body == 3


@pytest.mark.parametrize(
    "headers",
    [
        [("a", "b\r\nc: d")], [("a", "b\nc: d")], [("a", "b\rc")], [("a", "b\0c")],
        [("a", b"\x7f")],
        [("a\r\nb", "c")], [("a b", "c")], [("a:", "c")], [("", "c")], [("a\0", "c")],
        [("ä", "c")], [("a", "\u20ac")], [("Host", "a"), ("host", "a")], [("Host", "a b")],
        [("Host", "a/b")], [("Host", "user@a")],
        [("Content-Length", "1"), ("content-length", "1")], [("Content-Length", "+1")],
        [("Content-Length", "")], [("Content-Length", "1, 1")],
        [("Transfer-Encoding", "gzip")], [("Transfer-Encoding", "gzip, chunked")],
    ],
    ids=repr,
)  # fmt: skip
def test_header_that_would_be_more_than_one_is_refused(headers: list[Field]) -> None:
    """Nothing gets past the line it stands on, and nothing says twice where a body ends."""
    with pytest.raises(InvalidRequest):
        head_of(*headers, method="POST", length=None)


@pytest.mark.parametrize("length", [0, 4, 6])
def test_length_that_is_not_the_bodys_is_refused(length: int) -> None:
    """What is longer than it says is the next request."""
    with pytest.raises(InvalidRequest):
        head_of(("Content-Length", "5"), length=length)
    assert head_of(("Content-Length", "5"), length=5).wire.count(b"ength: 5") == 1


@pytest.mark.parametrize(
    "method", ["", "GET ", "GE T", "GET\r\n", "CONNECT", "A" * 33, "GÄT", "G/"]
)
def test_method_that_is_none_is_refused(method: str) -> None:
    """Or that turns the connection into something else."""
    with pytest.raises(InvalidRequest):
        head_of(method=method)
    assert head_of(method="PROPFIND").wire.startswith(b"PROPFIND / HTTP/1.1\r\n")


def test_what_concerns_the_connection_is_noticed() -> None:
    """Close, a body that waits, and an upgrade."""
    assert head_of(("Connection", "foo, Close")).says_close
    assert not head_of(("Connection", "closed")).says_close
    assert head_of(("Expect", "100-Continue")).expects_continue
    assert head_of(("Connection", "Upgrade"), ("Upgrade", "websocket")).wants_upgrade


def test_body_framing_counts() -> None:
    """Neither more nor less than was said goes out."""
    framing = BodyFraming(5)
    assert (framing.piece(b"hel"), framing.piece(b""), framing.piece(b"lo")) == (b"hel", b"", b"lo")
    assert framing.end() == b""
    with pytest.raises(InvalidRequest, match="longer"):
        framing.piece(b"!")
    framing = BodyFraming(5)
    framing.piece(b"hell")
    with pytest.raises(InvalidRequest, match="shorter"):
        framing.end()


def test_empty_piece_does_not_end_a_chunked_body() -> None:
    """An empty chunk would."""
    framing = BodyFraming(CHUNKED)
    assert framing.piece(b"") == b""
    assert framing.piece(b"hello") == b"5\r\nhello\r\n"
    assert framing.end() == b"0\r\n\r\n"


TOKENS = st.from_regex(re.compile(rb"[A-Za-z0-9!#$%&'*+.^`|~-]{1,12}"), fullmatch=True)
VALUES = st.from_regex(re.compile(rb"(?:[!-~\x80-\xff](?:[ -~\x80-\xff]{0,10}[!-~\x80-\xff])?)?"),
                       fullmatch=True)  # fmt: skip
OWN = {b"content-length", b"transfer-encoding", b"connection", b"host", b"expect", b"upgrade"}


@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PROPFIND"]),
    target=st.from_regex(re.compile(rb"/[!\"$-~]{0,20}"), fullmatch=True),
    fields=st.lists(
        st.tuples(TOKENS.filter(lambda name: name.lower() not in OWN), VALUES), max_size=6
    ),
    length=st.sampled_from([0, 5, None]),
)
def test_head_is_read_as_it_was_meant(
    method: str, target: bytes, fields: list[tuple[bytes, bytes]], length: int | None
) -> None:
    """By our own strict server, and by h11."""
    head = request_head(method, target, "example.com", fields, length=length)
    ours = HeadParser(HeadLimits()).parse(head.wire)
    assert (ours.method, ours.target, ours.body) == (method, target, head.body)
    sent = [(name.lower(), value) for name, value in fields]
    added = {b"host", b"content-length", b"transfer-encoding"}
    assert [field for field in ours.headers if field[0] not in added] == sent
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(head.wire)
    theirs = peer.next_event()
    assert isinstance(theirs, h11.Request)
    assert [field for field in theirs.headers if field[0] not in added] == sent


@given(
    fields=st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=8)), max_size=4),
)
def test_any_bytes_are_one_head_or_none(fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever is put into headers, it is refused or has as many lines as it has fields."""
    try:
        head = head_of(*fields)
    except InvalidRequest:
        return
    lines = head.wire.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert len(lines) - 3 in {len(fields), len(fields) + 1}
    assert b"\n" not in head.wire.replace(b"\r\n", b"")
    assert b"\r" not in head.wire.replace(b"\r\n", b"")
