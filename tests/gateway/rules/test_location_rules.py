"""Where upstreams say that something is: led back where it is their own, and nowhere else."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway._location_rules import Asked, led_back
from bulkhead_trio.http.client._url_rules import origin_of

PLAIN = Asked(origin_of("http://inner:3001"))
BELOW = Asked(origin_of("http://inner:3001"), b"/v2")
STRIPPED = Asked(origin_of("http://inner:3001"), b"/v2", b"/api")
TLS = Asked(origin_of("https://[fd00::7]"))


@pytest.mark.parametrize(
    ("asked", "location", "wanted"),
    [
        (PLAIN, b"http://inner:3001/x?y=http://inner:3001#z", b"/x?y=http://inner:3001#z"),
        (PLAIN, b"HTTP://INNER:3001/X", b"/X"),
        (PLAIN, b"//inner:3001/x", b"/x"),
        (PLAIN, b"http://inner:3001", b"/"),
        (PLAIN, b"http://inner:3001?a=/b", b"/?a=/b"),
        (PLAIN, b"http://inner:3001#top", b"/#top"),
        (PLAIN, b"http://inner:3001/\xc3\xa4", b"/\xc3\xa4"),
        (TLS, b"https://[fd00:0::7]:443/x", b"/x"),
        (TLS, b"https://[fd00::7]/x", b"/x"),
        (BELOW, b"http://inner:3001/v2/x", b"/x"),
        (BELOW, b"http://inner:3001/v2", b"/"),
        (BELOW, b"http://inner:3001/v2?a", b"/?a"),
        (BELOW, b"http://inner:3001/v20/x", b"/v20/x"),
        (BELOW, b"http://inner:3001/", b"/"),
        (STRIPPED, b"http://inner:3001/v2/x/", b"/api/x/"),
        (STRIPPED, b"http://inner:3001/v2", b"/api/"),
        (STRIPPED, b"http://inner:3001/login", b"/login"),
    ],
)
def test_own_location_is_led_back(asked: Asked, location: bytes, wanted: bytes) -> None:
    """Without scheme, host and base path, with what the route took off, and the rest as it was."""
    assert led_back(location, asked) == wanted


@pytest.mark.parametrize(
    "location",
    [
        b"/v2/x", b"x", b"", b"?a", b"../x", b"https://inner:3001/x", b"http://inner/x",
        b"http://inner:3002/x", b"http://other:3001/x", b"http://inner.example:3001/x",
        b"http://user@inner:3001/x", b"http://inner:3001@evil.example/x", b"ftp://inner:3001/x",
        b"http:/inner:3001/x", b"http://inner:3001x/", b"http://inner:99999/", b"http:///x",
        b"mailto:a@inner", b"javascript:alert(1)", b"http://inner:3001\\x", b"http://\xff/x",
        b"http://inner:3001/a b", b"http://inner:3001/\t/evil.example",
        b"http://" + b"i" * 70_000 + b"/x",
    ],
)  # fmt: skip
def test_other_location_stays(location: bytes) -> None:
    """Another origin, a reference that is relative already, and what is no URL."""
    assert led_back(location, STRIPPED) == location


PATHS = st.text(st.sampled_from("/\\.ab@:"), max_size=8).map(lambda text: f"/{text}")


@given(PATHS, st.sampled_from([PLAIN, BELOW, STRIPPED]))
def test_nobody_is_led_elsewhere(path: str, asked: Asked) -> None:
    """Whatever the path: for who follows, it stays with the host that was asked."""
    location = led_back(f"http://inner:3001{path}".encode(), asked).decode()
    for followed in (location, location.replace("\\", "/")):
        assert urlsplit(urljoin("https://outer.example/x/y", followed)).netloc == "outer.example"
