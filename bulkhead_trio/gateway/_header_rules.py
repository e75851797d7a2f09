"""What becomes of headers on the way through: requests to upstreams, answers to clients. Pure.

Names are in lower case, as the server and the client give them. What a route changes is prepared
once, so that a request costs one pass over its headers.

Dropped on both ways: what belongs to one connection (RFC 9110, section 7.6.1), by its name or
because ``Connection`` names it. ``Content-Length`` stays even then: without it, the end of a body
would be found in another way than its sender meant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from bulkhead_trio.gateway._header_names import FORWARDING, HOP_BY_HOP, OURS, TRACING
from bulkhead_trio.gateway._location_rules import LOCATIONS, Asked, led_back

Header: TypeAlias = tuple[bytes, bytes]

PSEUDONYM: Final = b"bulkhead-trio"
"""In ``Via``, in place of a host that is nobody's business."""

UPGRADE: Final = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))

_HARMLESS: Final = frozenset([b"keep-alive", b"close", b"upgrade", b"te", b"", b"content-length"])
"""What ``Connection`` mostly names and is dropped anyway; and what is not dropped even so."""

_NOTED: Final = frozenset(
    [
        b"connection",
        b"host",
        b"traceparent",
        b"tracestate",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    ]
)
"""Headers that are not passed on as they are, and yet say something."""

_NOTHING: Final[Sequence[bytes]] = ()

_TRACEPARENT: Final = re.compile(
    rb"(?:00|(?!00|ff)([0-9a-f]{2}))-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})"
    rb"(?(1)(?:-.*)?)"
)
"""W3C Trace Context, section 3.2; a version to come may have more at its end, 00 may not."""

_KNOWN_FLAGS: Final = 0x03
"""Of ``traceparent``: sampled, and a trace id that is random."""

_HOST: Final = re.compile(rb"(?:[0-9A-Za-z\-._~%!$&'()*+,;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_FORWARDED: Final = b"x-forwarded-"


class HeadersSpec(Protocol):
    """What a document says of headers, checked: ASCII, and nothing that is ours to say."""

    @property
    def set(self) -> Mapping[str, str]: ...

    @property
    def add(self) -> Mapping[str, str]: ...

    @property
    def remove(self) -> Sequence[str]: ...


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request, and of this try, beside its headers.

    Attributes:
        peer: the address of whoever has connected; ``""`` where nobody can know.
        scheme: ``http`` or ``https``, as it came to us.
        request_id: visible ASCII.
        parent_id: ours in the trace: 1 to 2**64 - 1, another one for each try.
        timeout: seconds that the upstream has; ``None`` for no end.
        is_tunnel: whether it asks for a WebSocket, and may.
        is_trusted: whether forwarding headers are believed that the peer sends.
        http_version: as it came to us.
        host: the upstream's authority; ``None`` where whoever sends it will say.
    """

    peer: str
    scheme: str
    request_id: str
    parent_id: int
    timeout: float | None = None
    is_tunnel: bool = False
    is_trusted: bool = False
    http_version: str = "1.1"
    host: bytes | None = None


class RequestHeaderRules:
    """What an upstream is sent of a request's headers; made once for a route.

    Args:
        spec: what the route changes.
        says_who: whether the route says itself who is asking, so that the caller does not.
    """

    __slots__ = ("_last", "_special")

    def __init__(self, spec: HeadersSpec | None = None, *, says_who: bool = False) -> None:
        self._last, gone = _changes(spec)
        own = {b"host", b"via", b"expect"} | ({b"authorization"} if says_who else set())
        self._special = HOP_BY_HOP | OURS | FORWARDING | TRACING | gone | own

    @classmethod
    def of(cls, spec: HeadersSpec | None) -> RequestHeaderRules:
        """The rules of a route, which need not have any of its own."""
        return cls(spec)

    def apply(self, headers: Iterable[Header], facts: RequestFacts) -> list[Header]:
        """The headers for an upstream: what stays, in its order, and what we say.

        Args:
            headers: the client's.
            facts: what else is known.
        """
        special, is_trusted = self._special, facts.is_trusted
        sent: list[Header] = [] if facts.host is None else [(b"host", facts.host)]
        noted: dict[bytes, list[bytes]] = {}
        for header in headers:
            name = header[0]
            if name not in special and not name.startswith(_FORWARDED):
                sent.append(header)
            elif name in _NOTED:
                noted.setdefault(name, []).append(header[1])
            elif is_trusted and (name in FORWARDING or name.startswith(_FORWARDED)):
                sent.append(header)
        if b"connection" in noted and (named := _named_by(noted[b"connection"])):
            sent = [each for each in sent if each[0] not in named or each[0] == b"host"]
        _forward(sent, noted, facts)
        via = b"%b bulkhead-trio" % facts.http_version.encode("ascii")
        sent.append((b"via", b", ".join((*noted.get(b"via", ()), via))))
        request_id = facts.request_id.encode("ascii")
        sent.append((b"x-request-id", request_id))
        _trace(sent, noted, request_id, facts.parent_id)
        if facts.timeout is not None:
            # Rounded down: nobody is to work for somebody who has stopped waiting.
            milliseconds = max(1, int(facts.timeout * 1000))
            sent.append((b"x-request-timeout", b"%d.%03d" % divmod(milliseconds, 1000)))
        if facts.is_tunnel:
            sent += UPGRADE
        sent += self._last
        return sent


def _forward(sent: list[Header], noted: Mapping[bytes, list[bytes]], facts: RequestFacts) -> None:
    """Say for whom, how and where it was asked."""
    peer, scheme = facts.peer.encode("ascii"), facts.scheme.encode("ascii")
    hosts = noted.get(b"host", _NOTHING)
    if facts.is_trusted:
        peers = [*noted.get(b"x-forwarded-for", ()), peer]
        peer = b", ".join([each for each in peers if each])
        schemes = noted.get(b"x-forwarded-proto", _NOTHING)
        if len(schemes) == 1 and schemes[0].lower() in (b"http", b"https"):
            scheme = schemes[0].lower()
        given = noted.get(b"x-forwarded-host", _NOTHING)
        if len(given) == 1 and _HOST.fullmatch(given[0]):
            hosts = given
    if peer:
        sent.append((b"x-forwarded-for", peer))
    sent.append((b"x-forwarded-proto", scheme))
    if hosts and hosts[0]:
        sent.append((b"x-forwarded-host", hosts[0]))


def _trace(
    sent: list[Header], noted: Mapping[bytes, list[bytes]], request_id: bytes, parent_id: int
) -> None:
    """Carry a trace on, or begin one: of an invalid one nothing is kept, its state neither.

    The id of a new one is made from the request's, so that all tries are in the same.
    """
    given = noted.get(b"traceparent", _NOTHING)
    match = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        trace_id = hashlib.blake2b(request_id, digest_size=16).hexdigest().encode("ascii")
        sent.append((b"traceparent", b"00-%b-%016x-00" % (trace_id, parent_id)))
        return
    flags = int(match[3], 16) & _KNOWN_FLAGS
    sent.append((b"traceparent", b"00-%b-%016x-%02x" % (match[2], parent_id, flags)))
    sent += [(b"tracestate", state) for state in noted.get(b"tracestate", ())]


class ResponseHeaderRules:
    """What a client is sent of an answer's headers; made once for a route.

    Args:
        spec: what the route changes.
        leads_back: whether addresses of the upstream itself become the client's.
    """

    __slots__ = ("_last", "_led_back", "_special")

    def __init__(self, spec: HeadersSpec | None = None, *, leads_back: bool = True) -> None:
        self._last, gone = _changes(spec)
        self._led_back = LOCATIONS - gone if leads_back else frozenset()
        self._special = HOP_BY_HOP | gone | self._led_back | {b"via", b"x-request-id"}

    @classmethod
    def of(cls, spec: HeadersSpec | None) -> ResponseHeaderRules:
        """The rules of a route, which need not have any of its own."""
        return cls(spec)

    def apply(
        self,
        headers: Iterable[Header],
        *,
        asked: Asked | None = None,
        ours: Sequence[Header] = (),
        is_tunnel: bool = False,
        http_version: str = "1.1",
    ) -> list[Header]:
        """The headers for a client: what stays, in its order, and what we say.

        Args:
            headers: the upstream's.
            asked: where the request went; ``None``: addresses of the upstream stay as they are.
            ours: what the gateway says itself, such as a limit's state, in place of what the
                upstream says by the same names.
            is_tunnel: whether it is the 101 that a WebSocket begins with.
            http_version: as the answer came to us.
        """
        special = self._special
        if ours:
            special = special | {name for name, _ in ours}
        sent: list[Header] = []
        named: set[bytes] = set()
        via: list[bytes] = []
        for header in headers:
            name = header[0]
            if name not in special:
                sent.append(header)
            elif name == b"connection":
                named |= _named_by((header[1],))
            elif name == b"via":
                via.append(header[1])
            elif name in self._led_back:
                sent.append(header if asked is None else (name, led_back(header[1], asked)))
        if named:
            sent = [each for each in sent if each[0] not in named]
        via.append(b"%b bulkhead-trio" % http_version.encode("ascii"))
        sent.append((b"via", b", ".join(via)))
        if is_tunnel:
            sent += UPGRADE
        sent += ours
        sent += self._last
        return sent


def hops_through_us(headers: Iterable[Header]) -> int:
    """How often a request has been through a gateway such as this one, by its ``Via``.

    More than a few times is a circle: a route whose upstream is the gateway itself.
    """
    hops = 0
    for name, value in headers:
        if name == b"via":
            for entry in value.split(b","):
                hops += entry.strip().split(b" ")[1:2] == [PSEUDONYM]
    return hops


def _changes(spec: HeadersSpec | None) -> tuple[tuple[Header, ...], frozenset[bytes]]:
    """What a route sends at the end, and the names of what it does not let through."""
    if spec is None:
        return (), frozenset()
    put, added = _encoded(spec.set), _encoded(spec.add)
    gone = {name.lower().encode("ascii") for name in spec.remove} | {name for name, _ in put}
    return (*put, *added), frozenset(gone)


def _encoded(headers: Mapping[str, str]) -> tuple[Header, ...]:
    return tuple(
        (name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()
    )


def _named_by(values: Iterable[bytes]) -> set[bytes]:
    """The headers that ``Connection`` names, as far as they are not dropped anyway."""
    names = {name.strip(b" \t").lower() for value in values for name in value.split(b",")}
    return names - _HARMLESS
