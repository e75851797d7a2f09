"""The head of an answer on the wire: checked whatever it is made from."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead_trio.http.engine._answer_rules import AnswerHead, Framing, answer_head
from bulkhead_trio.http.engine.errors import LocalProtocolError

NOON = b"date: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
LATER = b"date: Sat, 21 Nov 2026 12:00:01 GMT\r\n"
FIELDS = ((b"content-type", b"text/plain"), (b"content-length", b"2"))


def made(
    headers: Any, last: Any = (), *, status: int = 200, date_line: bytes = NOON, **others: bool
) -> AnswerHead:
    options = {"is_to_head": False, "is_http_11": True, "remembers": True, **others}
    return answer_head(status, headers, last, date_line=date_line, **options)


def test_remembered_head_is_as_if_made_anew() -> None:
    """Only what differs from answer to answer does."""
    ids = [(b"x-request-id", b"%d" % number) for number in range(3)]
    for moment in (NOON, LATER):
        for own in ids:
            head = made(FIELDS, [own], date_line=moment)
            anew = made([*FIELDS], [own], date_line=moment, remembers=False)
            assert head.wire == anew.wire
            assert head.wire == (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n"
                + moment + b"x-request-id: " + own[1] + b"\r\n"
            )  # fmt: skip
            assert (head.framing, head.length) == (Framing.LENGTH, 2)


def test_same_headers_mean_something_else_for_another_request() -> None:
    """What is remembered is for one status, method and version."""
    plain = ((b"content-type", b"text/plain"),)
    assert made(plain).framing is Framing.CHUNKED
    assert made(plain, is_http_11=False).framing is Framing.CLOSE
    assert made(plain, is_to_head=True).framing is Framing.NONE
    assert made(plain, status=304).framing is Framing.NONE
    assert made(plain, status=201).wire.startswith(b"HTTP/1.1 201 Created\r\n")


@pytest.mark.parametrize(
    "bad",
    [
        (b"x", b"a\r\nset-cookie: b"), (b"x", b"a\rb"), (b"x", b"a\nb"), (b"x", b"a\0"),
        (b"x\r\ny", b"a"), (b"x y", b"a"), (b"", b"a"), (b"x:", b"a"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["headers", "list", "last"])
def test_head_that_would_be_another_one_is_refused(where: str, bad: tuple[bytes, bytes]) -> None:
    """Each time, and in each place."""
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="cannot be sent as it is"):
            if where == "last":
                made(FIELDS, [bad])
            elif where == "list":
                made([*FIELDS, bad], remembers=False)
            else:
                made((*FIELDS, bad))


def test_headers_of_other_types_are_taken() -> None:
    """ASGI wants iterables of iterables; what is not to be remembered need not be hashable."""
    head = made([[b"content-length", b"0"]], remembers=False)
    assert head.length == 0
    head = made(iter(FIELDS))
    assert head.length == 2


def test_own_date_is_the_only_one() -> None:
    """An application that has said when is not corrected."""
    head = made(((b"date", b"then"), (b"content-length", b"0")), [(b"x", b"y")])
    assert head.wire == b"HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 0\r\nx: y\r\n"
