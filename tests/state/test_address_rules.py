"""What a REDIS_URL says, and which slot of a cluster a key is in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.state._address_rules import RedisAddress, address_of, grouped, slot_of


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress(host="localhost")),
        ("redis://[::1]:7000/3", RedisAddress(host="::1", port=7000, database=3)),
        (
            "rediss://us%3Aer:pa%40ss@redis.example:6380/0?ssl_ca_certs=/ca.pem",
            RedisAddress(
                host="redis.example",
                port=6380,
                username="us:er",
                password="pa@ss",
                is_encrypted=True,
                ca_certs="/ca.pem",
            ),
        ),
        ("redis://:secret@h", RedisAddress(host="h", password="secret")),
        ("unix:///run/re%20dis.sock?db=2", RedisAddress(path="/run/re dis.sock", database=2)),
        ("redis://h?cluster=true", RedisAddress(host="h", is_cluster=True)),
        ("redis://h?cluster=0&db=1", RedisAddress(host="h", is_cluster=False, database=1)),
        (
            "rediss://h?ssl_check_hostname=no",
            RedisAddress(host="h", is_encrypted=True, checks_host=False),
        ),
    ],
)
def test_url_says_where_redis_is(url: str, address: RedisAddress) -> None:
    """Each part of it has its meaning, percent-decoded where it may hold anything."""
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://h",
        "redis://",
        "redis://h:99999",
        "redis://h/x",
        "redis://h?clutser=true",
        "redis://h?cluster=perhaps",
        "redis://h/1?cluster=true",
        "unix://",
        "unix:///s?cluster=true",
    ],
)
def test_url_that_makes_no_sense_is_refused(url: str) -> None:
    """Before anything is connected to."""
    with pytest.raises(ValueError):
        address_of(url)


@given(st.text(alphabet="abc:/?@%#&=1", max_size=12))
def test_refusal_repeats_no_password(tail: str) -> None:
    """Whatever is wrong with a URL, what it hides stays hidden."""
    try:
        shown = repr(address_of(f"redis://u:hunter2@h:x{tail}"))
    except ValueError as error:
        shown = str(error)
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"123456789", 12739), (b"foo", 12182), (b"{user1000}.following", 3443), (b"{}foo", 9500)],
)
def test_slot_is_what_the_specification_says(key: bytes, slot: int) -> None:
    """CRC16 of the key, or of what is in its first braces where that is anything."""
    assert slot_of(key) == slot


def test_keys_of_one_tenant_are_in_one_slot() -> None:
    """So that one script may take them together."""
    keys = [b"ratelimit:{t}", b"cb:{t}:r:1", b"health:{t}:r:2"]
    assert len({slot_of(key) for key in keys}) == 1


@given(
    st.lists(st.binary(max_size=4), max_size=40),
    st.booleans(),
    st.integers(min_value=1, max_value=5),
)
def test_groups_hold_every_key_once(keys: list[bytes], by_slot: bool, most: int) -> None:
    """In parts that are small enough, and of one slot each where that matters."""
    parts = grouped(keys, by_slot=by_slot, most=most)
    assert sorted(number for part in parts for number in part) == list(range(len(keys)))
    for part in parts:
        assert 1 <= len(part) <= most
        if by_slot:
            assert len({slot_of(keys[number]) for number in part}) == 1
