"""What must hold of any bytes whatever, and how to make bytes that are worth trying."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

from bulkhead_trio.http.engine._body_rules import MOST_CHUNK_LINE_BYTES, MOST_TRAILER_BYTES
from bulkhead_trio.http.engine._head_rules import HeadLimits
from bulkhead_trio.http.engine.errors import ProtocolError
from bulkhead_trio.http.hypercorn._guard_rules import Guard

from ._corpus import CASES
from ._reading import LIMITS, Reading, Request, Seen, cut, read, read_by_h11

STATUSES = frozenset([200, 400, 414, 431, 501])
TOO_MUCH = frozenset([414, 431])
WIDE = HeadLimits(header_bytes=2 * LIMITS.header_bytes, header_count=2 * LIMITS.header_count)
MOST_HELD = max(LIMITS.head_bytes, MOST_TRAILER_BYTES, MOST_CHUNK_LINE_BYTES) + 4
MOST_BYTES = 64 * 1024

WORDS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"_", b",", b";", b"#", b"*",
    b"0", b"1", b"5", b"ff", b"+", b"-", b"0x", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0",
    b"HTTP/1.1", b"HTTP/2.0", b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"chunked",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"\x7f",
    b"Upgrade: a-pony\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"A: b\r\n", b"\r\n c", b"\x80",
    b"CONNECT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"http://x/", b"%2f", b"\xff",
]  # fmt: skip
SEEDS = [case.data for case in CASES]


def check(data: bytes, places: Sequence[int]) -> Seen:
    """Everything that must hold of ``data``, sent whole or cut at these places.

    Raises:
        AssertionError: something does not hold.
    """
    whole = read(data)
    assert whole.status in STATUSES
    _assert_alike(_read_with_care(cut(data, places)), whole, len(data))
    for request in whole.requests:
        assert read(written(request), limits=WIDE).requests == (_framed_anew(request),)
    _check_against_h11(data, whole)
    return whole


def _assert_alike(one: Seen, other: Seen, size: int) -> None:
    """The same came of both. Only why is up to how it was cut, where it was too much as well."""
    is_too_much = size > min(LIMITS.target_bytes, LIMITS.header_bytes)
    if is_too_much and one.status in TOO_MUCH | {400} and other.status in TOO_MUCH | {400}:
        assert one.requests == other.requests
    else:
        assert one == other


def _read_with_care(pieces: list[bytes]) -> Seen:
    """As `read`, looking after each piece at what is kept, and whether more could be had."""
    reading = Reading()
    try:
        for piece in pieces:
            reading.feed(piece)
            assert reading.is_over or reading.held <= MOST_HELD, reading.held
            before = len(reading.requests)
            reading.feed(b"")
            assert len(reading.requests) == before, "more was there to be had"
    except ProtocolError as error:
        return Seen(tuple(reading.requests), error.status)
    return Seen(tuple(reading.requests), 200, reading.is_half_way)


def _check_against_h11(data: bytes, seen: Seen) -> None:
    """Behind the guard h11 reads what we read, and whatever it refuses by itself we refuse."""
    guard = Guard(LIMITS)
    theirs = read_by_h11(guard.take(data))
    count = len(theirs.requests)
    assert theirs.status == 200, "h11 refuses what the guard lets through"
    assert theirs.requests == tuple(map(as_h11_has_it, seen.requests[:count]))
    if count < len(seen.requests):
        assert is_of_http_10(data), "h11 reads less"
    if not data.startswith(b"\r\n"):
        alone = read_by_h11(data)
        if alone.is_refused and not alone.requests:
            assert not seen.requests, "h11 refuses what we take"


def is_of_http_10(data: bytes) -> bool:
    """h11 keeps no connection of HTTP/1.0, we do when asked to."""
    return b"HTTP/1.0\r\n" in data


def as_h11_has_it(request: Request) -> Request:
    """h11 writes the one transfer coding that there is in lower case."""
    headers = tuple(
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in request.headers
    )
    return attrs.evolve(request, headers=headers)


def written(request: Request) -> bytes:
    """A request on the wire again, in HTTP/1.1 and framed by its length."""
    lines = [b"%b: %b\r\n" % field for field in _framed_anew(request).headers]
    first = b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.target)
    return first + b"".join(lines) + b"\r\n" + request.body


def _framed_anew(request: Request) -> Request:
    framing = (b"content-length", b"transfer-encoding")
    headers = [field for field in request.headers if field[0] not in framing]
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", b""))  # HTTP/1.0 has none
    headers.append((b"content-length", b"%d" % len(request.body)))
    return attrs.evolve(request, headers=tuple(headers))


class Mutator:
    """Makes new inputs of old ones; keeps those that did something that was not seen before.

    Args:
        seed: the same one makes the same inputs.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._pool = list(SEEDS)
        self._known: set[object] = set()

    def next_input(self) -> tuple[bytes, list[int]]:
        """Bytes to try, and where to cut them."""
        data = self._random.choice(self._pool)
        for _ in range(self._random.choice([1, 1, 1, 2, 3, 5, 8])):
            data = self._changed(data)
        data = data[:MOST_BYTES]
        places = [self._random.randrange(len(data) + 1) for _ in range(self._random.randrange(4))]
        return data, places

    def learn(self, data: bytes, seen: Seen) -> None:
        """What came of an input; where it is news, more will be made of it."""
        what = (
            seen.status,
            seen.is_half_way,
            tuple((r.method[:8], len(r.headers), len(r.body).bit_length()) for r in seen.requests),
        )
        if what not in self._known:
            self._known.add(what)
            self._pool.append(data)

    def _changed(self, data: bytes) -> bytes:
        rng = self._random
        place = rng.randrange(len(data) + 1)
        width = min(rng.choice([0, 0, 1, 1, 2, 4, 16, 64]), len(data) - place)
        before, middle, after = data[:place], data[place : place + width], data[place + width :]
        match rng.randrange(6):
            case 0:
                return before + after
            case 1 | 2:
                return before + rng.choice(WORDS) + after
            case 3:
                return before + rng.randbytes(rng.randrange(1, 4)) + after
            case 4:
                return before + middle * rng.choice([2, 3, 50, 1000]) + after
            case _:
                other = rng.choice(self._pool)
                start = rng.randrange(len(other) + 1)
                return before + other[start:]
