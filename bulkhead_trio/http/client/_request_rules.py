"""A request on the wire: its head, checked, and how its body is framed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import TypeAlias

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.engine._head_rules import CHUNKED, NO_BODY

Field: TypeAlias = tuple[bytes | str, bytes | str]
"""A header's name and value; text is sent as Latin-1."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_HOST = re.compile(rb"(?:[0-9A-Za-z\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_IN_LINES = bytes(byte for byte in range(256) if byte == 9 or 32 <= byte <= 126 or byte >= 128)
"""What a line of a head may have in it (RFC 9110, section 5.5)."""

IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
"""RFC 9110, section 9.2.2: sent twice, they do what they do once."""

_SAYS_LENGTH_OF_NOTHING = frozenset(["POST", "PUT", "PATCH"])
"""RFC 9110, section 8.6: methods whose requests usually have a body say when they have none."""

LAST_CHUNK = b"0\r\n\r\n"


class RequestHead:
    """The head of a request, ready to be sent.

    Attributes:
        wire: its bytes, with the empty line.
        body: `NO_BODY`, `CHUNKED`, or a length.
        says_close: whether the connection ends with the answer.
        expects_continue: whether the body waits to be asked for.
        wants_upgrade: whether the answer may be 101.
    """

    __slots__ = ("body", "expects_continue", "says_close", "wants_upgrade", "wire")

    def __init__(self, body: int) -> None:
        self.wire = b""
        self.body = body
        self.says_close = False
        self.expects_continue = False
        self.wants_upgrade = False


def request_head(
    method: str, target: bytes, host: str, headers: Iterable[Field], *, length: int | None
) -> RequestHead:
    """Check and encode a request's head.

    Args:
        method: a token; ``CONNECT`` is nothing for an origin.
        target: checked already: path and query.
        host: for ``Host``, unless ``headers`` have one.
        headers: names and values. ``Transfer-Encoding`` is said by the connection itself.
        length: of the body in bytes, 0 for none; ``None`` where only the body knows: then
            ``headers`` may say, and otherwise it goes in chunks.

    Raises:
        InvalidRequest: this cannot be sent.
    """
    _check_method(method)
    head = RequestHead(CHUNKED if length is None else length)
    names: list[bytes] = []
    lines: list[bytes] = []
    for name, value in headers:
        start, special = _field(name)
        if type(value) is not bytes:
            value = _latin_1(value)
        if special is not None:
            if special in names:
                raise InvalidRequest(f"the header {special.decode()} may be there once")
            if _say(head, special, value, length):
                names.append(special)
            else:
                continue
        lines.append(start + value)
    if b"host" not in names:
        lines.insert(0, b"host: " + host.encode("ascii"))
    if b"content-length" not in names:
        _add_framing(head, method, lines)
    head.wire = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), target, _joined(lines))
    return head


def _joined(lines: list[bytes]) -> bytes:
    lines.append(b"")
    fields = b"\r\n".join(lines)
    # One look at all of them: nothing but the line ends that were just put there is left, or there
    # is more on a line than may be, such as another line.
    if fields.translate(None, _IN_LINES) != b"\r\n" * (len(lines) - 1):
        raise InvalidRequest("a header's value cannot be sent as it is")
    return fields


def _add_framing(head: RequestHead, method: str, lines: list[bytes]) -> None:
    if head.body == CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    elif head.body != NO_BODY or method in _SAYS_LENGTH_OF_NOTHING:
        lines.append(b"content-length: %d" % head.body)


def _check_method(method: str) -> None:
    if method not in IDEMPOTENT and (_METHOD.fullmatch(method) is None or method == "CONNECT"):
        raise InvalidRequest(f"{method!r} is no method for an origin")


def _say(head: RequestHead, name: bytes, value: bytes, length: int | None) -> bool:
    """Note what a field says that means something here; is it to be sent?

    Raises:
        InvalidRequest: it cannot say that.
    """
    match name:
        case b"host":
            if _HOST.fullmatch(value) is None:
                raise InvalidRequest("Host is malformed")
        case b"content-length":
            if _LENGTH.fullmatch(value) is None or (length is not None and int(value) != length):
                raise InvalidRequest("Content-Length is malformed, or not the body's")
            head.body = int(value)
        case b"transfer-encoding":
            if value.lower() != b"chunked":
                raise InvalidRequest("no transfer coding but chunked can be sent")
            return False
        case b"expect":
            head.expects_continue = value.lower() == b"100-continue"
        case b"upgrade":
            head.wants_upgrade = True
        case _:
            head.says_close = b"close" in {part.strip() for part in value.lower().split(b",")}
    return True


_SPECIAL = frozenset(
    [b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"connection"]
)


@functools.lru_cache(maxsize=1024)
def _field(name: bytes | str) -> tuple[bytes, bytes | None]:
    """How a line begins, and the name in lower case where it means something here.

    Remembered, since a program has few names and sends them again and again.

    Raises:
        InvalidRequest: that is no name.
    """
    encoded = name if isinstance(name, bytes) else _latin_1(name)
    if _NAME.fullmatch(encoded) is None:
        raise InvalidRequest(f"the header {name!r} cannot be sent as it is")
    lowered = encoded.lower()
    return encoded + b": ", lowered if lowered in _SPECIAL else None


def _latin_1(text: bytes | str) -> bytes:
    """Text as it is sent.

    Raises:
        InvalidRequest: it cannot be.
    """
    try:
        return text if isinstance(text, bytes) else text.encode("latin-1")
    except (UnicodeEncodeError, AttributeError):
        raise InvalidRequest(f"{text!r} in a header cannot be sent as it is") from None


class BodyFraming:
    """Puts the pieces of a body on the wire.

    Args:
        body: `CHUNKED`, or the length that the head has said.
    """

    __slots__ = ("_left",)

    def __init__(self, body: int) -> None:
        self._left = None if body == CHUNKED else body

    def piece(self, data: bytes) -> bytes:
        """A piece as it is sent.

        Raises:
            InvalidRequest: it is not bytes, or more than Content-Length has said.
        """
        if not isinstance(data, bytes):
            raise InvalidRequest(f"a piece of a body must be bytes, not {data!r}")
        if self._left is None:
            # An empty chunk would end the body.
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._left -= len(data)
        if self._left < 0:
            raise InvalidRequest("the body is longer than Content-Length says")
        return data

    def end(self) -> bytes:
        """What is sent after the last piece.

        Raises:
            InvalidRequest: there was less than Content-Length has said.
        """
        if self._left is None:
            return LAST_CHUNK
        if self._left:
            raise InvalidRequest("the body is shorter than Content-Length says")
        return b""
