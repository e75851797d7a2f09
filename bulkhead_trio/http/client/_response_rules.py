"""An answer's head and what follows it: strict first, then taken apart.

The counterpart of the engine's ``_head_rules``. What is open to doubt in an answer is what one
client's answer is smuggled into another's connection with (RFC 9112, section 11.1), so it is
refused: lines that do not end in CR LF, folded lines, NUL, both Content-Length and
Transfer-Encoding, a length that is there twice or is not plain digits, unknown codings.
"""

from __future__ import annotations

import re

from bulkhead_trio.http.engine._body_rules import BodyDecoder, ChunkedDecoder, LengthDecoder
from bulkhead_trio.http.engine._head_rules import CHUNKED, END, NO_BODY
from bulkhead_trio.http.engine.errors import ProtocolError

UNTIL_CLOSE = -2
"""``ResponseHead.body``, beside a length and `CHUNKED`: it ends with the connection."""

MOST_INTERIM_ANSWERS = 16
"""Of 1xx before the answer itself; whoever sends more never comes to the point."""

_TOKEN = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n"
    rb"((?:[" + _TOKEN + rb"]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_FIELDS = re.compile(rb"([^:\r]+):[ \t]*([^\r]*)\r\n")
_START = b"HTTP/1."
_LENGTH = re.compile(rb"[0-9]{1,18}")
_KEPT_FOR = re.compile(rb"(?:^|[,; \t])timeout[ \t]*=[ \t]*\"?([0-9]{1,9})", re.IGNORECASE)

_INTERPRETED = frozenset(
    [b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade"]
)


class ResponseHead:
    """An answer's head.

    Attributes:
        status: 100 to 599.
        reason: the words after it.
        headers: names in lower case, values stripped of white space, in order.
        is_http_11: or 1.0.
        body: `NO_BODY`, `CHUNKED`, `UNTIL_CLOSE`, or a length.
        keeps_alive: whether another request may follow on the connection.
        kept_for: seconds that the peer says it keeps the connection when nobody uses it.
        upgrade: what ``Upgrade`` says, or ``None``.
    """

    __slots__ = (
        "body", "headers", "is_http_11", "keeps_alive", "kept_for", "reason", "status", "upgrade",
    )  # fmt: skip

    def __init__(self, status: int, reason: bytes, *, is_http_11: bool) -> None:
        self.status = status
        self.reason = reason
        self.is_http_11 = is_http_11
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = NO_BODY
        self.keeps_alive = is_http_11
        self.kept_for: int | None = None
        self.upgrade: bytes | None = None

    @property
    def is_interim(self) -> bool:
        """Whether another answer to the same request follows."""
        return self.status < 200 and self.status != 101


def parse_response_head(data: bytes, *, method: str) -> ResponseHead:
    """Take the bytes of a head, complete with its empty line, apart.

    Args:
        data: nothing before it and nothing after it.
        method: of the request that it answers, which says whether a body may follow.

    Raises:
        ProtocolError: it is none.
    """
    match = _HEAD.fullmatch(data)
    if match is None:
        raise ProtocolError("the answer's head is malformed")
    minor, status, reason, fields = match.groups()
    head = ResponseHead(int(status), (reason or b"").strip(b" \t"), is_http_11=minor == b"1")
    # A value's end is stripped here: in the expression, blanks inside it would cost their square.
    head.headers = headers = [
        (name.lower(), value.rstrip(b" \t")) for name, value in _FIELDS.findall(fields)
    ]
    _interpret(head, headers, method)
    return head


def _interpret(head: ResponseHead, headers: list[tuple[bytes, bytes]], method: str) -> None:
    """What the fields that concern the connection itself say."""
    length: bytes | None = None
    codings: bytes | None = None
    for name, value in headers:
        if name not in _INTERPRETED:
            continue
        if name == b"content-length":
            if length is not None:
                raise ProtocolError("the answer has Content-Length twice")
            length = value
        elif name == b"transfer-encoding":
            codings = value if codings is None else codings + b"," + value
        elif name == b"connection":
            options = {option.strip().lower() for option in value.split(b",")}
            if b"close" in options:
                head.keeps_alive = False
            elif b"keep-alive" in options and not head.is_http_11:
                head.keeps_alive = True
        elif name == b"upgrade":
            head.upgrade = value
        elif (kept := _KEPT_FOR.search(value)) is not None:
            head.kept_for = int(kept[1])
    head.body = _body(head, length, codings, method)
    if head.body == UNTIL_CLOSE:
        head.keeps_alive = False


def _body(head: ResponseHead, length: bytes | None, codings: bytes | None, method: str) -> int:
    """RFC 9112, section 6.3; what is open to doubt there is refused here."""
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise ProtocolError("the answer's Content-Length is malformed")
    if codings is not None:
        if length is not None:
            raise ProtocolError("the answer has both Content-Length and Transfer-Encoding")
        if not head.is_http_11:
            raise ProtocolError("an HTTP/1.0 answer has Transfer-Encoding")
        if codings.lower() != b"chunked":
            raise ProtocolError("the answer has a transfer coding that is not known here")
    if head.status < 200 or head.status == 204:
        if codings is not None or (length is not None and int(length)):
            # It must not say so (section 6.1, RFC 9110, section 8.6). Whatever it sends after this
            # is no answer to the next request.
            head.keeps_alive = False
        return NO_BODY
    if method == "HEAD" or head.status == 304:
        return NO_BODY
    if codings is not None:
        return CHUNKED
    return UNTIL_CLOSE if length is None else int(length)


class UntilCloseDecoder:
    """A body that ends with its connection: everything is part of it."""

    __slots__ = ("is_complete", "rest")

    def __init__(self) -> None:
        self.is_complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of ``data``."""
        return data


def response_decoder(body: int) -> BodyDecoder:
    """What takes a body as `ResponseHead.body` says it comes."""
    if body == CHUNKED:
        return ChunkedDecoder()
    return UntilCloseDecoder() if body == UNTIL_CLOSE else LengthDecoder(body)


class ResponseReader:
    """Takes bytes, gives answers. The same bytes mean the same, however they were cut.

    Args:
        head_bytes: a head is no longer.
        header_count: it has no more fields.
    """

    __slots__ = ("_buffer", "_head_bytes", "_header_count")

    def __init__(self, *, head_bytes: int, header_count: int) -> None:
        self._head_bytes = head_bytes
        self._header_count = header_count
        self._buffer = b""

    @property
    def has_rest(self) -> bool:
        """Whether something has come that no answer has been made of."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what has come in."""
        self._buffer = self._buffer + data if self._buffer else data

    def take_rest(self) -> bytes:
        """What has come in and no answer has been made of."""
        rest, self._buffer = self._buffer, b""
        return rest

    def next_head(self, method: str) -> ResponseHead | None:
        """The head of the answer to a request with ``method``; ``None`` while it is not complete.

        Raises:
            ProtocolError: it is none, is too large, or never can become one.
        """
        buffer = self._buffer
        if not buffer:
            return None
        end = buffer.find(END)
        if end < 0 or end + 4 > self._head_bytes:
            self._check_incomplete(buffer)
            return None
        self._buffer = buffer[end + 4 :]
        head = parse_response_head(buffer[: end + 4], method=method)
        if len(head.headers) > self._header_count:
            raise ProtocolError("the answer has too many header fields")
        return head

    def next_body(self, decoder: BodyDecoder) -> bytes | None:
        """The next piece of a body; ``None`` while there is none. ``b""`` only at its end.

        Raises:
            ProtocolError: it is none.
        """
        if not self._buffer:
            return None
        data, self._buffer = self._buffer, b""
        body = decoder.feed(data)
        if decoder.is_complete:
            self._buffer = decoder.rest
        return body if body or decoder.is_complete else None

    def _check_incomplete(self, buffer: bytes) -> None:
        """Give up on a head that cannot become a good one, before all of it has come."""
        if not buffer.startswith(_START[: len(buffer)]):
            raise ProtocolError("the answer is not HTTP/1")
        if len(buffer) > self._head_bytes:
            raise ProtocolError("the answer's head is too large")
        # The last CR may be half of a line's end.
        lines = buffer[:-1] if buffer.endswith(b"\r") else buffer
        lines = lines.replace(b"\r\n", b"")
        if b"\n" in lines or b"\r" in lines or b"\0" in lines:
            raise ProtocolError("a line of the answer's head does not end in CR LF")
