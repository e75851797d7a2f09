"""A request's head: strict first, then parsed.

llhttp (by httptools) parses. It is forgiving in places where two parsers on one way may differ,
which is how requests are smuggled (RFC 9112, section 11.2); so a head has to match one strict
grammar before llhttp sees it. A head that both take means one thing to everybody.

Stricter than the grammar of RFC 9112, on purpose:

* A line ends in CR LF. A bare CR or LF, a folded line, a NUL: refused (sections 2.2, 5.2).
* A field's name has no underscore: beside ``X-A`` an ``X_A`` is the same thing to many a gateway.
* A request target is a path, with its query, or ``*`` for ``OPTIONS``. A proxy's absolute form and
  ``CONNECT`` are nothing for an origin server; a fragment is nothing for any (RFC 9112, 3.2).
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import httptools

from bulkhead_trio.http.engine.errors import ProtocolError

_TOKEN = rb"!#$%&'*+\-.^`|~0-9A-Za-z"
_LINE = rb"([" + _TOKEN + rb"_]{1,32}) (?:/[!\"$-~]*|\*) HTTP/1\.([01])"
_HEAD = re.compile(_LINE + rb"\r\n(?:[" + _TOKEN + rb"]+:[\t -~\x80-\xff]*\r\n)*\r\n")
_REQUEST_LINE = re.compile(_LINE)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"(?:[0-9A-Za-z\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")

_KNOWN_TO_LLHTTP = frozenset([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])

_INTERPRETED = frozenset(
    [b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"]
)

END = b"\r\n\r\n"

NO_BODY = 0
CHUNKED = -1
"""``Head.body``: how long a body is, in bytes, or that it comes in chunks."""


@attrs.frozen
class HeadLimits:
    """What a request's head may be.

    Attributes:
        target_bytes: path and query together.
        header_bytes: names and values of all fields together.
        header_count: how many fields.
    """

    target_bytes: int = 8 * 1024
    header_bytes: int = 16 * 1024
    header_count: int = 100
    least_bytes: int = attrs.field(init=False)
    """A head of no more is within the limits on bytes, whatever they are used for."""

    @least_bytes.default
    def _least_bytes(self) -> int:
        return min(self.target_bytes, self.header_bytes)

    @property
    def head_bytes(self) -> int:
        """No head within the other limits is longer."""
        return self.target_bytes + self.header_bytes + 4 * self.header_count + 256


class Head:
    """A request's head.

    Attributes:
        method: as it was sent.
        target: path and query, as they were sent.
        headers: names in lower case, values stripped of white space, in order.
        is_http_11: or 1.0, whose connections close and whose bodies come in no chunks.
        body: `NO_BODY`, `CHUNKED`, or a length.
        keeps_alive: whether another request may follow on the connection.
        expects_continue: whether the client waits to be told to send its body.
        upgrade: what ``Upgrade`` asks for, or ``None``.
        wire: all of its bytes.
    """

    __slots__ = (
        "body", "expects_continue", "headers", "is_http_11", "keeps_alive", "method", "target",
        "upgrade", "wire",
    )  # fmt: skip

    def __init__(self, wire: bytes = b"") -> None:
        self.wire = wire
        self.method = ""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_http_11 = True
        self.body = NO_BODY
        self.keeps_alive = True
        self.expects_continue = False
        self.upgrade: bytes | None = None


class HeadParser:
    """Turns the bytes of a head, complete with its empty line, into a `Head`.

    Args:
        limits: on what it may be.
    """

    __slots__ = ("_head", "_limits")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._head = Head()

    # Called by llhttp.

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self._head.headers.append((name.lower(), value.strip(b" \t")))

    def parse(self, data: bytes) -> Head:
        """Parse one head.

        Raises:
            ProtocolError: it is none, or beyond the limits.
        """
        match = _HEAD.fullmatch(data)
        if match is None:
            raise _what_is_wrong(data)
        method, minor = match.groups()
        self._head = head = Head(data)
        head.method = method.decode("ascii")
        # A new one each time: what it thinks of a head, and of fields that mean nothing to us such
        # as Proxy-Connection, would otherwise decide on how it takes the next one.
        llhttp: Any = httptools.HttpRequestParser(self)
        try:
            # llhttp knows a list of methods; what one means is the application's to say.
            known = method in _KNOWN_TO_LLHTTP
            llhttp.feed_data(data if known else b"POST" + data[len(method) :])
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise ProtocolError("the head is malformed") from error
        if method == b"CONNECT" or (head.target == b"*" and method != b"OPTIONS"):
            raise ProtocolError("this target is nothing for this method")
        limits = self._limits
        if len(data) > limits.least_bytes or len(head.headers) > limits.header_count:
            _check_size(head, limits)
        _interpret(head, is_http_11=minor == b"1")
        return head


def _check_size(head: Head, limits: HeadLimits) -> None:
    if len(head.target) > limits.target_bytes:
        raise ProtocolError("the target is too long", status=414)
    headers = head.headers
    if (
        len(headers) > limits.header_count
        or sum([len(name) + len(value) for name, value in headers]) > limits.header_bytes
    ):
        raise ProtocolError("there is too much of headers", status=431)


def _interpret(head: Head, *, is_http_11: bool) -> None:
    """What the fields that concern the connection itself say."""
    head.is_http_11 = head.keeps_alive = is_http_11
    hosts = 0
    lengths: bytes | None = None
    codings: bytes | None = None
    for name, value in head.headers:
        if name not in _INTERPRETED:
            continue
        match name:
            case b"host":
                hosts += 1
                if _HOST.fullmatch(value) is None:
                    raise ProtocolError("Host is malformed")
            case b"content-length":
                if lengths is not None:
                    raise ProtocolError("Content-Length is there twice")
                lengths = value
            case b"transfer-encoding":
                codings = value if codings is None else codings + b"," + value
            case b"connection":
                options = {option.strip().lower() for option in value.split(b",")}
                if b"close" in options:
                    head.keeps_alive = False
                elif b"keep-alive" in options and not is_http_11:
                    head.keeps_alive = True
            case b"expect":
                head.expects_continue = is_http_11 and value.lower() == b"100-continue"
            case b"upgrade":
                head.upgrade = value
    if hosts != 1 and (is_http_11 or hosts):
        raise ProtocolError("Host has to be there once")
    head.body = _body(lengths, codings, is_http_11=is_http_11)


def _body(lengths: bytes | None, codings: bytes | None, *, is_http_11: bool) -> int:
    """RFC 9112, section 6.3; what is open to doubt there is refused here."""
    if codings is not None:
        if lengths is not None:
            raise ProtocolError("both Content-Length and Transfer-Encoding")
        if not is_http_11:
            raise ProtocolError("HTTP/1.0 has no Transfer-Encoding")
        if codings.lower() != b"chunked":
            raise ProtocolError("this transfer coding is not known here", status=501)
        return CHUNKED
    if lengths is None:
        return NO_BODY
    if _LENGTH.fullmatch(lengths) is None:
        raise ProtocolError("Content-Length is malformed")
    return int(lengths)


def check_request_line(line: bytes) -> None:
    """Look at a head's first line before the rest has come.

    Raises:
        ProtocolError: no head can begin with it.
    """
    if _REQUEST_LINE.fullmatch(line) is None:
        raise _what_is_wrong(line)


def _what_is_wrong(data: bytes) -> ProtocolError:
    """Say why the grammar refused a head; it is refused whatever this finds."""
    line = data.partition(b"\r\n")[0]
    parts = line.split(b" ")
    if len(parts) == 3 and re.fullmatch(rb"HTTP/[0-9]\.[0-9]", parts[2]):
        if parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
            return ProtocolError("only HTTP/1.1 and HTTP/1.0 are spoken here")
        if not parts[1].startswith(b"/") and parts[1] != b"*":
            return ProtocolError("the target must be a path")
    return ProtocolError("the head is malformed")
