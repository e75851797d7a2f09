"""Where tokens may go."""

from __future__ import annotations

import pytest

from bulkhead_trio.http.client._audience_rules import Audience

API = Audience.of(["https://api.example.com/v1", "https://other.example.com"])


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "https://api.example.com/v1/",
        "https://api.example.com/v1?a=/../b",
        "https://API.example.com:443/v1/users",
        "https://api.example.com/v1/a%2Fb/.well-known/%41",
        "https://other.example.com",
        "https://other.example.com/any/thing",
    ],
)
def test_url_below_a_prefix_is_covered(url: str) -> None:
    """An equal origin, however it is spelt, and the path or one below it."""
    assert API.covers(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v1",
        "https://api.example.com:8443/v1",
        "https://api.example.com.evil.test/v1",
        "https://api.example.com@evil.test/v1",
        "https://evil.test/https://api.example.com/v1",
        "https://api.example.com/",
        "https://api.example.com/v10",
        "https://api.example.com/V1",
        "https://api.example.com/v1/../admin",
        "https://api.example.com/v1/%2e%2E/admin",
        "https://api.example.com/v1/..%2fadmin",
        "https://api.example.com/v1/..;x/admin",
        "https://api.example.com/v1/a\\..\\..\\admin",
        "https://api.example.com/v1%2fusers",
        "//api.example.com/v1",
        "",
    ],
)
def test_url_that_is_elsewhere_is_not_covered(url: str) -> None:
    """Another origin, a path beside, and whatever anybody could read as one that leads out."""
    assert not API.covers(url)


@pytest.mark.parametrize(
    "prefix",
    [
        "api.example.com",
        "ftp://api.example.com",
        "https://api.example.com/?a",
        "https://api.example.com/#a",
        "https://api.example.com/a/../b",
        "https://u:p@api.example.com",
    ],
)
def test_prefix_that_is_none_is_refused(prefix: str) -> None:
    """When it is configured, not when it is used."""
    with pytest.raises(ValueError):
        Audience.of([prefix])
