"""Where a request goes: URLs, addresses, and the patterns of endpoints."""

from __future__ import annotations

import pytest

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._address_rules import addresses_in_order
from bulkhead_trio.http.client._pattern_rules import parse_pattern
from bulkhead_trio.http.client._url_rules import Origin, check_target, split_url


@pytest.mark.parametrize(
    ("url", "origin", "target", "authority"),
    [
        ("http://example.com", Origin("http", "example.com", 80), b"/", "example.com"),
        ("HTTP://Example.COM/A", Origin("http", "example.com", 80), b"/A", "example.com"),
        ("https://example.com:443/", Origin("https", "example.com", 443), b"/", "example.com"),
        ("https://a.b:80/x?y#z", Origin("https", "a.b", 80), b"/x?y", "a.b:80"),
        ("http://a?x=/y", Origin("http", "a", 80), b"/?x=/y", "a"),
        ("http://a#b", Origin("http", "a", 80), b"/", "a"),
        ("http://[::1]:81/%2f/../", Origin("http", "::1", 81), b"/%2f/../", "[::1]:81"),
        ("http://[0:0::1]", Origin("http", "::1", 80), b"/", "[::1]"),
        ("http://127.0.0.1:8000//x", Origin("http", "127.0.0.1", 8000), b"//x", "127.0.0.1:8000"),
        ("http://a_b/@:x", Origin("http", "a_b", 80), b"/@:x", "a_b"),
    ],
)
def test_url_is_taken_apart(url: str, origin: Origin, target: bytes, authority: str) -> None:
    """What is asked for stays as it was written; whom it leads to is made the same."""
    assert split_url(url) == (origin, target)
    assert origin.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "", "/", "example.com", "//example.com", "http:/example.com", "http://", "http:///x",
        "ftp://example.com", "ws://example.com", "file:///etc/passwd", "http://user@example.com",
        "http://user:password@example.com/", "http://example.com:", "http://example.com:0",
        "http://example.com:65536", "http://example.com:8a", "http://a b/", "http://a/b c",
        "http://a/\r\nHost: b", "http://a\r\n.b/", "http://a\\@b/", "http://a/\u00e4",
        "http://\u00e4/", "http://a%2eb/", "http://[::1/", "http://[zz]/", "http://::1/",
        "http://[1.2.3.4]/", "http://.a/", "http://-a/", "http://a/\0", " http://a/", "http://a/ ",
        "http://[fe80::1%eth0]/",
    ],
)  # fmt: skip
def test_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    """So that nothing gets past a check to somewhere else."""
    with pytest.raises(InvalidRequest):
        split_url(url)


@pytest.mark.parametrize("target", [b"", b"x", b"/ ", b"/\r\n", b"/\0", b"http://a/", b"/\xe4"])
def test_target_that_is_none_is_refused(target: bytes) -> None:
    """A path, or ``*``; and nothing that ends the line."""
    with pytest.raises(InvalidRequest):
        check_target(target)
    assert check_target(b"/%00?#") == b"/%00?#"
    assert check_target(b"*") == b"*"


def test_families_of_addresses_take_turns() -> None:
    """Beginning with the one that came first, each address once."""
    given = ["2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1", "2001:db8::3", "192.0.2.2"]
    assert addresses_in_order(given) == [
        "2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3",
    ]  # fmt: skip
    assert addresses_in_order([]) == []


def test_name_is_no_address() -> None:
    """It would be looked up once more, past the check."""
    with pytest.raises(ValueError, match="localhost"):
        addresses_in_order(["localhost"])


@pytest.mark.parametrize(
    ("pattern", "url", "has"),
    [
        ("http://a", "http://a/", True),
        ("http://a/", "http://A:80/x/y?z", True),
        ("http://a/*", "http://a/x", True),
        ("http://a", "https://a/", False),
        ("http://a", "http://a:81/", False),
        ("http://a:81", "http://a:81/", True),
        ("http://a", "http://b.a/", False),
        ("http://a/v1", "http://a/v1", True),
        ("http://a/v1", "http://a/v1?x", True),
        ("http://a/v1/*", "http://a/v1/x", True),
        ("http://a/v1", "http://a/v10", False),
        ("http://a/v1", "http://a/", False),
        ("https://*.a", "https://b.a/", True),
        ("https://*.a", "https://c.b.a/", True),
        ("https://*.a", "https://a/", False),
        ("https://*.a", "https://ba/", False),
        ("https://*.a:8443/x", "https://b.a:8443/x/", True),
        ("http://*", "http://whatever/", True),
        ("http://*", "https://whatever/", False),
        ("http://*:81", "http://whatever:81/x", True),
        ("http://[::1]:81/x", "http://[::1]:81/x", True),
    ],
)
def test_pattern_has_what_it_says(pattern: str, url: str, has: bool) -> None:
    """Scheme, host, port, and whole segments of the path."""
    origin, target = split_url(url)
    path = target.partition(b"?")[0].decode()
    assert parse_pattern(pattern).has(origin, path) is has


@pytest.mark.parametrize(
    "pattern",
    ["", "a", "a/b", "ftp://a", "http://", "http://a*", "http://*a", "http://a/*/b", "http://a/b*",
     "http://*.", "http://*.a:0", "http://*.a:x", "http://a:0", "http://a?x", "http://a/?x",
     "http://u@a"],
)  # fmt: skip
def test_pattern_that_is_none_is_refused(pattern: str) -> None:
    """Rather than that it has something else than was meant."""
    with pytest.raises(ValueError):
        parse_pattern(pattern)


def test_more_specific_pattern_comes_first() -> None:
    """A whole host before any other, then the longer name, then the longer path."""
    in_order = ["http://b.a/x/y", "http://b.a/x", "http://b.a", "http://*.b.a/x", "http://*.b.a",
                "http://*.a/x/y/z", "http://*.a", "http://*/x", "http://*"]  # fmt: skip
    patterns = [parse_pattern(text) for text in reversed(in_order)]
    patterns.sort(key=lambda pattern: pattern.specificity, reverse=True)
    assert [pattern.text for pattern in patterns] == in_order
