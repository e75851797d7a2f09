"""An answer on the wire: its head, checked, and how its body is framed."""

from __future__ import annotations

import enum
import functools
import http
import re
from collections.abc import Iterable

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
    headers: Iterable[tuple[bytes, bytes]],
    last: Iterable[tuple[bytes, bytes]] = (),
    *,
    date_line: bytes,
    is_to_head: bool,
    is_http_11: bool,
    remembers: bool = False,
) -> AnswerHead:
    """Check and encode an answer's head.

    Args:
        status: 200 to 599; interim answers are the connection's own business.
        headers: names and values.
        last: more of them, that are not the same from answer to answer, and mean nothing here.
        date_line: the ``Date`` line to add unless there is one.
        is_to_head: whether the request was ``HEAD``, whose answer has no body.
        is_http_11: what the client speaks.
        remembers: whether to remember what is made of ``headers`` that are a tuple, for an
            application that gives the same answer again and again.

    Raises:
        LocalProtocolError: the application tries to send what HTTP does not allow.
    """
    if remembers and isinstance(headers, tuple):
        lines = _remembered(status, headers, is_to_head, is_http_11)
    else:
        lines = _lines(status, headers, is_to_head, is_http_11)
    wire = lines.wire if lines.is_dated else lines.wire + date_line
    if last:
        wire += _joined([_field(name)[0] + value for name, value in last])
    return AnswerHead(wire, lines.framing, lines.length, says_close=lines.says_close)


class _Lines:
    """What is made of an answer's status and headers; the same at any time of the day."""

    __slots__ = ("framing", "is_dated", "length", "says_close", "wire")

    def __init__(
        self, wire: bytes, framing: Framing, length: int, *, says_close: bool, is_dated: bool
    ) -> None:
        self.wire = wire
        self.framing = framing
        self.length = length
        self.says_close = says_close
        self.is_dated = is_dated


def _lines(
    status: int, headers: Iterable[tuple[bytes, bytes]], is_to_head: bool, is_http_11: bool
) -> _Lines:
    if not 200 <= status <= 599:
        raise LocalProtocolError(f"an answer's status is 200 to 599, not {status}")
    lines: list[bytes] = []
    length: int | None = None
    says_close = False
    is_dated = False
    if status == 204:  # has none, nor a length (RFC 9110, section 8.6)
        headers = [field for field in headers if field[0].lower() != b"content-length"]
    for name, value in headers:
        start, special = _field(name)
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
        lines.append(start + value)
    if length is not None and not is_to_head and status not in _BODILESS:
        framing = _BY_LENGTH
    else:
        framing = _framing(status, is_to_head=is_to_head, is_http_11=is_http_11)
        if framing is Framing.CHUNKED:
            lines.append(b"transfer-encoding: chunked")
    status_line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    wire = status_line + _joined(lines)
    return _Lines(wire, framing, length or 0, says_close=says_close, is_dated=is_dated)


_remembered = functools.lru_cache(maxsize=512)(_lines)


def switching_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, date_line: bytes
) -> bytes:
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
    lines = [b"connection: upgrade"]
    for name, value in headers:
        start, special = _field(name)
        if special == b"date":
            date_line = b""
        elif special is not None:
            continue  # there is no body; and what the connection does now has been said
        lines.append(start + value)
    return b"%b%b%b\r\n" % (_STATUS_LINES[101], _joined(lines), date_line)


_SPECIAL = frozenset([b"content-length", b"connection", b"transfer-encoding", b"date"])


def _joined(lines: list[bytes]) -> bytes:
    """All lines, each with its end.

    Raises:
        LocalProtocolError: a value has in it what no line may have.
    """
    lines.append(b"")
    fields = b"\r\n".join(lines)
    # One look at all of them: nothing but the line ends that were just put there is left, or there
    # is more on a line than may be, such as another line.
    if fields.translate(None, _IN_LINES) != b"\r\n" * (len(lines) - 1):
        bad = next(line for line in lines if line.translate(None, _IN_LINES))
        name = bad.partition(b":")[0]
        raise LocalProtocolError(f"the header {name!r} cannot be sent as it is")
    return fields


@functools.lru_cache(maxsize=1024)
def _field(name: bytes) -> tuple[bytes, bytes | None]:
    """How a line begins, and the name in lower case where it means something here.

    Remembered, since an application has few names, and sends them again and again.

    Raises:
        LocalProtocolError: that is no name.
    """
    if _NAME.fullmatch(name) is None:
        raise LocalProtocolError(f"the header {name!r} cannot be sent as it is")
    lowered = name.lower()
    return name + b": ", lowered if lowered in _SPECIAL else None


def _framing(status: int, *, is_to_head: bool, is_http_11: bool) -> Framing:
    """RFC 9112, section 6.3, from the sender's side, for an answer that says no length."""
    if is_to_head or status in _BODILESS:
        return Framing.NONE
    return Framing.CHUNKED if is_http_11 else Framing.CLOSE


def chunk(data: bytes) -> bytes:
    """One chunk of a body; ``data`` is not empty, since an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
