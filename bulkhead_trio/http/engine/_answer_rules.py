"""An answer on the wire: its head, checked, and how its body is framed."""

from __future__ import annotations

import enum
import functools
import http
import re
from collections.abc import Iterable, Sequence

from bulkhead_trio.http.engine.errors import LocalProtocolError

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_IN_LINES = bytes(byte for byte in range(256) if byte == 9 or 32 <= byte <= 126 or byte >= 128)
"""What a line of a head may have in it (RFC 9110, section 5.5)."""

_LENGTH = re.compile(rb"[0-9]{1,18}")

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in http.HTTPStatus
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Framing(enum.Enum):
    """How the end of an answer's body is told."""

    NONE = "there is no body"
    LENGTH = "by its length"
    CHUNKED = "by its last chunk"
    CLOSE = "by the end of the connection"


_BY_LENGTH = Framing.LENGTH
_BODILESS = frozenset([204, 304])


class AnswerHead:
    """The head of an answer, ready to be sent.

    Attributes:
        wire: its bytes, without the lines that the connection adds and the empty one.
        framing: of the body.
        length: of the body, where the framing is `Framing.LENGTH`.
        says_close: whether the application closes the connection with it.
    """

    __slots__ = ("framing", "length", "says_close", "wire")

    def __init__(self, wire: bytes, framing: Framing, length: int, *, says_close: bool) -> None:
        self.wire = wire
        self.framing = framing
        self.length = length
        self.says_close = says_close


def answer_head(
    status: int,
    headers: Iterable[Sequence[bytes]],
    *,
    date_line: bytes,
    is_to_head: bool,
    is_http_11: bool,
) -> AnswerHead:
    """Check and encode an answer's head.

    Args:
        status: 200 to 599; interim answers are the connection's own business.
        headers: names and values.
        date_line: the ``Date`` line to add unless there is one.
        is_to_head: whether the request was ``HEAD``, whose answer has no body.
        is_http_11: what the client speaks.

    Raises:
        LocalProtocolError: the application tries to send what HTTP does not allow.
    """
    if not 200 <= status <= 599:
        raise LocalProtocolError(f"an answer's status is 200 to 599, not {status}")
    lines: list[bytes] = []
    length: int | None = None
    says_close = False
    is_dated = False
    if status == 204:  # has none, nor a length (RFC 9110, section 8.6)
        headers = [field for field in headers if field[0].lower() != b"content-length"]
    for name, value in headers:
        line, special = _line(name, value)
        if special is not None:
            if special == b"content-length":
                if length is not None or _LENGTH.fullmatch(value) is None:
                    raise LocalProtocolError("Content-Length is malformed or there twice")
                length = int(value)
            elif special == b"connection":
                says_close = says_close or b"close" in value.lower()
                continue  # the connection says this itself
            elif special == b"transfer-encoding":
                continue  # as well
            else:
                is_dated = True
        lines.append(line)
    if length is not None and not is_to_head and status not in _BODILESS:
        framing = _BY_LENGTH
    else:
        framing = _framing(status, is_to_head=is_to_head, is_http_11=is_http_11)
        if framing is Framing.CHUNKED:
            lines.append(b"transfer-encoding: chunked\r\n")
    if not is_dated:
        lines.append(date_line)
    status_line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    wire = status_line + b"".join(lines)
    return AnswerHead(wire, framing, length or 0, says_close=says_close)


def switching_head(status: int, headers: Iterable[Sequence[bytes]], *, date_line: bytes) -> bytes:
    """Check and encode the head of an answer after which another protocol is spoken.

    Args:
        status: 101.
        headers: names and values; those that concern HTTP's own framing are left out.
        date_line: the ``Date`` line to add unless there is one.

    Raises:
        LocalProtocolError: the application tries to send what HTTP does not allow.
    """
    if status != 101:
        raise LocalProtocolError(f"a tunnel begins with status 101, not {status}")
    lines = [_STATUS_LINES[101], b"connection: upgrade\r\n"]
    for name, value in headers:
        line, special = _line(name, value)
        if special == b"date":
            date_line = b""
        elif special is not None:
            continue  # there is no body; and what the connection does now has been said
        lines.append(line)
    return b"".join([*lines, date_line, b"\r\n"])


_SPECIAL = frozenset([b"content-length", b"connection", b"transfer-encoding", b"date"])


@functools.lru_cache(maxsize=1024)
def _line(name: bytes, value: bytes) -> tuple[bytes, bytes | None]:
    """A field as a line, and its name in lower case where it means something here.

    Remembered, since an application sends few different fields, and sends them again and again.

    Raises:
        LocalProtocolError: that is no name, or no value.
    """
    if _NAME.fullmatch(name) is None or value.translate(None, _IN_LINES):
        raise LocalProtocolError(f"the header {name!r} cannot be sent as it is")
    lowered = name.lower()
    return b"%b: %b\r\n" % (name, value), lowered if lowered in _SPECIAL else None


def _framing(status: int, *, is_to_head: bool, is_http_11: bool) -> Framing:
    """RFC 9112, section 6.3, from the sender's side, for an answer that says no length."""
    if is_to_head or status in _BODILESS:
        return Framing.NONE
    return Framing.CHUNKED if is_http_11 else Framing.CLOSE


def chunk(data: bytes) -> bytes:
    """One chunk of a body; ``data`` is not empty, since an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
