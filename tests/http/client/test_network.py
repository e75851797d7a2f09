"""Where a client may connect to: addresses of every kind, in every spelling, behind every name."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.errors import AddressForbidden, InvalidRequest, UpstreamUnreachable
from bulkhead_trio.http.client import HTTPClient, NetworkPolicy, guarded_resolve
from bulkhead_trio.http.client._network_rules import (
    METADATA,
    carried_by,
    kind_of,
    literal_address,
    plain_address,
    why_not,
)
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._upstream import Talk, answering, assert_at_rest, ok, upstream

TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("addresses.toml").read_text())
EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


class Answers:
    """A resolver that gives one answer after the other, and the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


# --- the table -----------------------------------------------------------------------------------


def test_table_is_large_enough() -> None:
    """Each row once, and more than a few."""
    assert len(TABLE["addresses"]) >= 120
    for rows in (TABLE["addresses"], TABLE["hosts"]):
        assert len(rows) == len({text for text, _ in rows})


@pytest.mark.parametrize(("address", "why"), TABLE["addresses"])
def test_address_is_judged(address: str, why: str) -> None:
    """What is inside may not be connected to, and it is known what it is."""
    assert (NetworkPolicy().why_not(address) or "") == why


@pytest.mark.parametrize(("host", "why"), TABLE["hosts"])
def test_url_is_judged_without_a_resolver(host: str, why: str) -> None:
    """Literal addresses are seen when a URL is saved, and odd spellings are taken for nothing."""
    policy = NetworkPolicy()
    if not why:
        policy.check_url(f"http://{host}:8080/x")
        return
    with pytest.raises(AddressForbidden) as caught:
        policy.check_url(f"https://{host}/x?y")
    assert caught.value.kind == why
    assert caught.value.code == "upstream_error"


@pytest.mark.parametrize(
    "url",
    ["http://[fe80::1%25eth0]/", "http://127.0.0.1%00/", "http://①②⑦.0.0.1/", "http://a@10.0.0.1/",
     "http://127.0.0.1\\@example.com/", "gopher://127.0.0.1/", "http://[::1]x/", "//127.0.0.1"],
)  # fmt: skip
def test_url_that_is_none_is_refused(url: str) -> None:
    """Zones, escapes, other digits, user names, other schemes: nothing of that gets further."""
    with pytest.raises(InvalidRequest):
        NetworkPolicy(EVERYTHING).check_url(url)


@pytest.mark.parametrize("case", TABLE["allowed"], ids=lambda case: " ".join(case["networks"]))
def test_allowed_network_opens_itself_alone(case: dict[str, list[str]]) -> None:
    """Never metadata, and nothing that an address in it merely carries."""
    policy = NetworkPolicy([ipaddress.ip_network(text) for text in case["networks"]])
    assert {address: policy.why_not(address) for address in case["open"]} == dict.fromkeys(
        case["open"]
    )
    assert [address for address in case["closed"] if policy.why_not(address) is None] == []


# --- for all addresses ---------------------------------------------------------------------------


@given(V4)
def test_what_python_calls_inside_is_inside(address: ipaddress.IPv4Address) -> None:
    """The standard library's tables, made from the same registries, find nothing more."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert kind_of(address) is not None


@given(V6)
def test_only_global_unicast_is_outside(address: ipaddress.IPv6Address) -> None:
    """And of that only what the standard library calls global as well."""
    if kind_of(address) is None:
        assert int(address) >> 125 == 1
        assert address.is_global
        assert not address.is_multicast


@given(V4, st.sampled_from(["::{}", "::ffff:{}", "::ffff:0:{}", "64:ff9b::{}", "64:ff9b:1::{}"]))
def test_address_inside_another_is_judged_as_itself(
    inner: ipaddress.IPv4Address, form: str
) -> None:
    """Where every such range is allowed, what it leads to decides."""
    outer = plain_address(form.format(inner))
    if int(outer) <= 1:
        return  # no address inside of it: unspecified, and loopback
    translators = [ipaddress.ip_network(text) for text in ("::/32", "64::/16")]
    assert inner in carried_by(outer)
    assert why_not(outer, translators) == why_not(inner, translators)
    assert why_not(outer, ()) is not None


@given(st.one_of(V4, V6))
def test_everything_but_metadata_can_be_allowed(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """And metadata cannot, in whatever form."""
    secrets = address in METADATA or any(each in METADATA for each in carried_by(address))
    assert why_not(address, EVERYTHING) == ("metadata" if secrets else None)


@given(V6, st.text("abcdefg0123456789.-", min_size=1, max_size=8))
def test_zone_changes_nothing(address: ipaddress.IPv6Address, zone: str) -> None:
    """An address with a zone is the address."""
    policy = NetworkPolicy()
    assert policy.why_not(f"{address}%{zone}") == policy.why_not(address)


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.data())
def test_number_is_an_address_in_one_spelling_only(parts: list[int], data: st.DataObject) -> None:
    """Whatever its parts are written in, it is four plain decimal numbers, or refused."""
    forms = st.sampled_from(["{}", "{:#x}", "0{:o}", "00{}", "{:#X}"])
    host = ".".join([data.draw(forms).format(part) for part in parts])
    host += data.draw(st.sampled_from(["", "."]))
    try:
        address = literal_address(host)
    except ValueError:
        return
    assert str(address) == host


# --- names ---------------------------------------------------------------------------------------


async def test_one_bad_address_refuses_all(autojump_clock: MockClock) -> None:
    """A name that leads outside and inside is an attempt to get in, wherever the bad one stands."""
    for answer in (["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"], ["8.8.8.8", "nonsense"]):
        guarded = guarded_resolve(NetworkPolicy(), Answers(answer))
        with pytest.raises(AddressForbidden) as caught:
            await guarded("api.example.com", 443)
        assert caught.value.origin == "api.example.com:443"
        for address in answer:
            assert address not in str(caught.value)


async def test_all_good_addresses_are_given_as_they_are(autojump_clock: MockClock) -> None:
    """In the resolver's order; it is asked once."""
    answers = Answers(["8.8.8.8", "2606:4700:4700::1111", "1.1.1.1"])
    guarded = guarded_resolve(NetworkPolicy(), answers)
    assert list(await guarded("api.example.com", 443)) == answers.answers[0]
    assert answers.asked == [("api.example.com", 443)]


@pytest.mark.parametrize(("host", "why"), [row for row in TABLE["hosts"] if row[1]])
async def test_literal_host_is_checked_before_a_connection(
    host: str, why: str, autojump_clock: MockClock
) -> None:
    """Whatever the resolver would say: it is not even asked."""
    answers = Answers(["8.8.8.8"])
    async with HTTPClient(resolve=guarded_resolve(NetworkPolicy(), answers)) as client:
        with pytest.raises(AddressForbidden) as caught:
            await client.get(f"http://{host}/")
        assert caught.value.kind == why
        assert caught.value.origin.startswith("http://")
        assert_at_rest(client)
    assert answers.asked == []


async def test_metadata_behind_a_name_is_refused_even_where_all_is_allowed(
    autojump_clock: MockClock,
) -> None:
    """A name is looked at by where it leads."""
    guarded = guarded_resolve(NetworkPolicy(EVERYTHING), Answers(["::ffff:169.254.169.254"]))
    with pytest.raises(UpstreamUnreachable) as caught:
        await guarded("innocent.example", 80)
    assert isinstance(caught.value, AddressForbidden)
    assert caught.value.kind == "metadata"


async def test_literal_address_that_is_allowed_is_connected_to(autojump_clock: MockClock) -> None:
    """Without a resolver."""
    answers = Answers(["192.0.2.1"])
    async with (
        HTTPClient(resolve=guarded_resolve(NetworkPolicy(LOOPBACK), answers)) as client,
        upstream(answering(ok())) as there,
    ):
        assert (await client.get(f"http://127.0.0.1:{there.port}/")).status == 200
    assert answers.asked == []


# --- rebinding -----------------------------------------------------------------------------------


async def test_name_that_changes_its_mind_gets_no_connection(autojump_clock: MockClock) -> None:
    """Each new connection is checked anew; what was checked is what is connected to."""
    answers = Answers(["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"])

    async def behave(talk: Talk) -> None:
        await talk.request()
        await talk.send(ok(b"hello", b"Connection: close"))

    async with (
        HTTPClient(resolve=guarded_resolve(NetworkPolicy(LOOPBACK), answers)) as client,
        upstream(behave) as there,
    ):
        url = f"http://rebound.example:{there.port}/"
        for connections in (1, 2):
            assert (await client.get(url)).status == 200
            assert there.connections == connections
        with pytest.raises(AddressForbidden):
            await client.get(url)
        assert len(answers.asked) == 3  # once for each connection, never a second time
        assert there.connections == 2


async def test_kept_connection_goes_where_it_was_checked(autojump_clock: MockClock) -> None:
    """A name that changes while a connection is kept changes nothing for that one."""
    answers = Answers(["127.0.0.1"], ["169.254.169.254"])
    async with (
        HTTPClient(resolve=guarded_resolve(NetworkPolicy(LOOPBACK), answers)) as client,
        upstream(answering(ok())) as there,
    ):
        url = f"http://rebound.example:{there.port}/"
        assert (await client.get(url)).status == 200
        assert (await client.get(url)).status == 200
        assert (there.connections, len(answers.asked)) == (1, 1)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "x" * 254])
async def test_name_that_no_dns_has_leads_nowhere(host: str) -> None:
    """The system's resolver does not even try; that is an upstream that cannot be reached."""
    async with HTTPClient(resolve=guarded_resolve(NetworkPolicy())) as client:
        with pytest.raises(UpstreamUnreachable, match="nowhere"):
            await client.get(f"http://{host}/")


async def test_refusal_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """Cancelled wherever it may be, no connection is left, made or half made."""

    async def scenario(point: CancellationPoint) -> None:
        guarded = guarded_resolve(NetworkPolicy(), Answers(["8.8.8.8", "127.0.0.1"]))
        async with HTTPClient(resolve=guarded) as client:
            with point, pytest.raises(AddressForbidden):
                await client.get("http://inside.example/")
            assert_at_rest(client)

    await sweep_cancellations(scenario)
