"""What handlers take and give: small frozen types that know neither Quart nor sockets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar
from urllib.parse import parse_qsl

import msgspec

from bulkhead_trio.api._body_paths import named_path
from bulkhead_trio.errors import CallerError, InvalidBody, InvalidHeader, UnsupportedMediaType

Listener = Literal["public", "admin"]

MAX_QUERY_FIELDS = 100
"""More parameters than any of our resources has; bounds what parsing may cost."""

_ENCODER = msgspec.json.Encoder(decimal_format="number")

T = TypeVar("T")

_POSITIVE_DECIMAL = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)?")


class Headers:
    """A request's header fields, looked up by lower-case name.

    Nothing is unpacked before it is asked for: most requests are asked for three fields of ten.

    Args:
        raw: names in lower case, and values.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def get(self, name: str) -> str | None:
        """The value; repeated fields joined by commas (RFC 9110, 5.3); ``None`` when absent."""
        wanted = name.encode("latin-1")
        values = [value for found, value in self._raw if found == wanted]
        if not values:
            return None
        if len(values) == 1:
            return values[0].decode("latin-1").strip()
        return ", ".join([value.decode("latin-1").strip() for value in values])


class Request(msgspec.Struct, frozen=True):
    """One request, as a handler sees it.

    Attributes:
        method: in upper case.
        path: decoded, beginning with a slash.
        query: the raw query string, without the question mark.
        headers: all of them.
        listener: which of the server's listeners it came in by.
        target: the path as it was sent, escapes included.
        body: all of it.
        path_values: what stands in the path where its route has names in braces.
        notes: what handlers want in the request's log line.
        client: the address of whoever sent it; empty where the listener knows none.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    listener: Listener = "public"
    target: str = ""
    body: bytes = b""
    path_values: dict[str, str] = {}
    notes: dict[str, str] = {}
    client: str = ""

    def __repr__(self) -> str:
        # Headers and body may hold what is not to be seen: keys, and what people send.
        return f"Request({self.method} {self.target or self.path})"

    @classmethod
    def from_scope(
        cls, scope: Mapping[str, Any], *, body: bytes = b"", path_values: dict[str, str]
    ) -> Self:
        """From an ASGI ``http`` scope, and what was read and matched by it."""
        return cls(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"],
            headers=Headers(scope["headers"]),
            listener=scope.get("bulkhead_trio.listener", "public"),
            target=scope["raw_path"].decode("ascii", errors="replace"),
            body=body,
            path_values=path_values,
            notes=scope.get("bulkhead_trio.notes", {}),
            client=(scope.get("client") or ("",))[0] or "",
        )

    def json(
        self,
        decoder: msgspec.json.Decoder[T],
        *,
        media_types: Collection[str] = ("application/json",),
    ) -> T:
        """The body, decoded and checked.

        Args:
            decoder: knows the form.
            media_types: what the body may say that it is.

        Raises:
            UnsupportedMediaType: it says that it is something other than JSON.
            InvalidBody: it is not JSON, or not of the form that ``decoder`` wants, or too deep.
        """
        media_type = (self.headers.get("content-type") or "application/json").partition(";")[0]
        if media_type.strip().lower() not in media_types:
            raise UnsupportedMediaType(f"Send the body as {' or '.join(media_types)}.")
        try:
            return decoder.decode(self.body)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `")
            where = named_path(self.body, path.rstrip("`") or "$")
            raise invalid_body(where, message) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise invalid_body("$", "is not JSON in UTF-8") from None
        except RecursionError:
            raise invalid_body("$", "has too many objects or arrays within each other") from None

    def parameters(self) -> dict[str, str]:
        """The query's fields.

        Raises:
            CallerError: it is not a query, has too many fields, or says one thing twice.
        """
        if not self.query:
            return {}
        try:
            pairs = parse_qsl(
                self.query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAX_QUERY_FIELDS,
            )
        except ValueError:
            raise CallerError("the query string cannot be read") from None
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise CallerError("a query parameter is given twice")
        return fields

    def timeout(self) -> float | None:
        """What ``X-Request-Timeout`` asks for, in seconds; ``None`` when it is absent.

        Raises:
            InvalidHeader: it is not a decimal number above 0.
        """
        text = self.headers.get("x-request-timeout")
        return None if text is None else read_timeout(text)


def read_timeout(text: str) -> float:
    """The seconds that ``X-Request-Timeout`` says.

    Raises:
        InvalidHeader: it is not a decimal number above 0.
    """
    if not _POSITIVE_DECIMAL.fullmatch(text):
        raise InvalidHeader("X-Request-Timeout must be decimal seconds above 0")
    return float(text)


def invalid_body(path: str, message: str) -> InvalidBody:
    """What to raise for a body that is wrong at ``path``, such as ``$.amount``."""
    return InvalidBody(
        "The body is not what it should be.", errors=[{"path": path, "message": message}]
    )


class Response(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        status: the HTTP status code.
        body: all of it.
        content_type: of the body.
        headers: others as on the wire, their names in lower case; the front adds length, date
            and request id.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def json(cls, value: Any, *, status: int = 200) -> Self:
        """Encode ``value``."""
        return cls(status=status, body=_ENCODER.encode(value))

    def with_headers(self, more: Iterable[tuple[bytes, bytes]]) -> Response:
        """The same answer with more headers."""
        return Response(self.status, self.body, self.content_type, (*self.headers, *more))
