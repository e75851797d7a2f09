"""Who the client is: whoever has connected, or whom a trusted proxy says it speaks for."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.http._forwarding_rules import MOST_PROXIES, client_address, is_trusted

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))

ADDRESSES = st.ip_addresses().map(str)


def of(peer: str, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return client_address((peer, 1), [(b"host", b"x"), *headers], TRUSTED)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # anybody can write that
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9", "10.0.0.2"], "203.0.113.9"),  # two lines are one list
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0:0:0:0:0:1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["0177.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", ["\xe9"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1%eth0", ["203.0.113.9"], "203.0.113.9"),
        ("fe80::1%eth0", ["203.0.113.9"], "fe80::1"),
        ("/run/proxy.sock", ["203.0.113.9"], ""),
    ],
)
def test_client_is_found(peer: str, forwarded: list[str], client: str) -> None:
    """From the right, for as long as what added an entry is trusted."""
    assert of(peer, *forwarded) == client


def test_nobody_is_trusted_unless_said() -> None:
    """And behind a socket without addresses nobody knows anything."""
    headers = [(b"x-forwarded-for", b"203.0.113.9")]
    assert client_address(("10.0.0.1", 1), headers, ()) == "10.0.0.1"
    assert client_address(None, headers, TRUSTED) == ""
    assert not is_trusted(None, TRUSTED)
    assert not is_trusted(("10.0.0.1", 1), ())
    assert not is_trusted(("192.0.2.1", 1), TRUSTED)
    assert not is_trusted(("/run/proxy.sock", None), TRUSTED)
    assert is_trusted(("::ffff:10.0.0.1", 1), TRUSTED)


@given(st.lists(ADDRESSES, max_size=5), st.ip_addresses(), st.integers(0, 5))
def test_client_cannot_choose_its_address(
    invented: list[str], client: ipaddress.IPv4Address | ipaddress.IPv6Address, proxies: int
) -> None:
    """Whatever it sends itself: what trusted proxies have added decides."""
    plain = ipaddress.ip_address(of(str(client)))
    if any(plain in network for network in TRUSTED):
        return
    chain = [*invented, str(client), *[f"10.1.1.{number}" for number in range(proxies)]]
    assert of("10.0.0.1", ", ".join(chain)) == str(plain)


def test_list_without_an_end_is_not_read_to_it() -> None:
    """However long somebody makes it."""
    first = "203.0.113.9, " + "10.0.0.2, " * MOST_PROXIES + "10.0.0.3"
    assert of("10.0.0.1", first) == "10.0.0.2"
