"""Requests as hypothesis strategies: each part good most of the time, and odd now and then."""

from __future__ import annotations

from hypothesis import strategies as st

GOOD_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW", "post"]
ODD_METHODS = ["", "G T", "G\x00T", "CONNECT", "GET\t", "G(T", "Ä", "M" * 33]
GOOD_TARGETS = ["/", "/a", "/a?b=c", "/%2f..%00", "//a/./b", "/?", '/a;b=c|{}^`"<>\\']
ODD_TARGETS = [
    "",
    "a",
    "*",
    "http://x/",
    "x:80",
    "?",
    "/a b",
    "/a#b",
    "/\x00",
    "/ä",
    "/\x7f",
    "/a\tb",
]
ODD_VERSIONS = ["HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "", "HTTP/11", "HTTP/1.1\x0b"]
GOOD_HOSTS = ["x", "x:80", "[::1]:8", "", "a.b-c~d"]
ODD_HOSTS = ["a b", "a/b", "a@b", "a\x00", "[::1", "a:b", "ä", "a,b,c:"]
GOOD_FIELDS = [
    "A: b", "a:", "X-B:\t c \t", "Connection: keep-alive", "Connection: Upgrade", "Upgrade: a-pony",
    "Expect: 100-continue", "Cookie: a=b; c=d", "!#$%&'*+-.^`|~: \x80\xff", "A::", "Te: trailers",
]  # fmt: skip
ODD_FIELDS = [
    "A : b", " A: b", "\tA: b", ": b", "A", "A_B: c", "A\x00: b", "A: b\x00", "A: b\rC: d",
    "A: b\nC: d", "A: b\r\n c", "A: \x07", "A: \x7f", "A(: b", "Ä: b", "Host: y",
    "Connection: close", "Content-Length : 5", "Content_Length: 5", "Transfer-Encoding: identity",
]  # fmt: skip
ODD_LENGTHS = [
    "+{}",
    "-{}",
    "{}, {}",
    "0x{}",
    "{}.0",
    "{}_",
    "",
    "{} {}",
    "\x0b{}",
    "\u0661",
    "9" * 30,
]
ODD_CODINGS = [
    "chunked, chunked", "gzip, chunked", "chunked, gzip", "identity", "xchunked", "\x0bchunked",
    "chunked;q=1", "", ",chunked", '"chunked"', "chunked\x00", "chunked\xa0",
]  # fmt: skip
ODD_ENDS = ["\n", "\r", "\r\r\n", "\n\r", "", "\r\n ", "\x00\r\n"]
ODD_SIZES = [
    "+{:x}",
    "0x{:x}",
    " {:x}",
    "{:x} ",
    "{:x} ;a",
    "-{:x}",
    "{:x}_",
    "",
    "{:x};\x00",
    "f" * 17,
]

END = "\r\n"


def mostly(good: st.SearchStrategy[str], odd: list[str], share: int) -> st.SearchStrategy[str]:
    """One in ``share`` is odd; with 0, none is."""
    if not share:
        return good
    return st.integers(1, share).flatmap(lambda n: st.sampled_from(odd) if n == share else good)


def sampled(good: list[str], odd: list[str], share: int) -> st.SearchStrategy[str]:
    """One in ``share`` is odd."""
    return mostly(st.sampled_from(good), odd, share)


def ends(share: int) -> st.SearchStrategy[str]:
    """An end of a line."""
    return mostly(st.just(END), ODD_ENDS, share)


@st.composite
def chunked(draw: st.DrawFn, body: str, share: int) -> str:
    """A body in chunks."""
    wire = ""
    while body:
        size = draw(st.integers(1, len(body)))
        piece, body = body[:size], body[size:]
        written = draw(sampled(["{:x}", "{:X}", "00{:x}", "{:x};a=b", "{:x};"], ODD_SIZES, share))
        wire += written.format(size) + draw(ends(share)) + piece + draw(ends(share))
    wire += draw(sampled(["0", "000", "0;a"], ["00_", "", "-0"], share)) + draw(ends(share))
    for trailer in draw(st.lists(sampled(["A: b", "C:"], ODD_FIELDS, share), max_size=2)):
        wire += trailer + draw(ends(share))
    return wire + draw(ends(share))


@st.composite
def framed(draw: st.DrawFn, share: int) -> tuple[list[str], str]:
    """The fields that say how long a body is, and the body."""
    body = draw(st.text(st.characters(max_codepoint=255), max_size=20))
    length = draw(mostly(st.just("{}"), ODD_LENGTHS, share)).format(len(body), len(body))
    length = draw(st.sampled_from(["Content-Length: ", "content-length:"])) + length
    coding = "Transfer-Encoding: " + draw(sampled(["chunked", "CHUNKED "], ODD_CODINGS, share))
    kinds = ["none", "length", "chunked"]
    if share:
        kinds = kinds * (share // 2) + ["both", "twice", "neither"]
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return [], ""
    if kind == "length":
        return [length], body
    if kind == "twice":
        return [length, length], body
    if kind == "neither":
        return [], body
    fields = [coding] if kind == "chunked" else [length, coding]
    return fields, draw(chunked(body, share))


@st.composite
def requests(draw: st.DrawFn, share: int = 12) -> bytes:
    """One request; of its parts, one in ``share`` is odd, and with 0 none."""
    host = draw(sampled(GOOD_HOSTS, ODD_HOSTS, share))
    framing, body = draw(framed(share))
    fields = draw(st.lists(sampled(GOOD_FIELDS, ODD_FIELDS, share), max_size=4))
    hosts = draw(mostly(st.just(f"Host: {host}"), ["", "Host: x\r\nHost: x"], share))
    lines = draw(st.permutations([*fields, *framing, *([hosts] if hosts else [])]))
    versions = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]
    if not share and any(field.startswith("T") for field in framing):
        versions.pop()  # which has no chunks
    version = draw(sampled(versions, ODD_VERSIONS, share))
    first = " ".join([
        draw(sampled(GOOD_METHODS, ODD_METHODS, share)),
        draw(sampled(GOOD_TARGETS, ODD_TARGETS, share)),
        version,
    ])  # fmt: skip
    head = "".join(line + draw(ends(share * 3)) for line in [first, *lines, ""])
    return (head + body).encode("latin-1", "replace")


def streams(share: int = 12) -> st.SearchStrategy[bytes]:
    """What a client sends on one connection: a few requests, with empty lines between them."""
    between = st.sampled_from([b"", b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\n", b"x"])
    pairs = st.tuples(requests(share), between)
    return st.lists(pairs, min_size=1, max_size=3).map(
        lambda parts: b"".join(part for pair in parts for part in pair)
    )


def good_streams() -> st.SearchStrategy[bytes]:
    """The same without anything odd."""
    return st.lists(requests(share=0), min_size=1, max_size=3).map(b"".join)
