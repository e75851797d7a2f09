"""The client credentials grant without the network."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.http.client._token_rules import (
    LONGEST_LIFE,
    ClientCredentials,
    pack,
    read_answer,
    refusal_word,
    request_of,
    retry_after,
    token_of,
    unpack,
)


def test_request_says_who_by_basic_escaped_as_in_a_form() -> None:
    """RFC 6749, section 2.3.1: what has a colon in it would otherwise be cut there."""
    credentials = ClientCredentials("https://id.test/t", "a:b c", "s%é+", scope="x y")
    headers, body = request_of(credentials)
    scheme, basic = dict(headers)["Authorization"].split(" ")
    user, password = base64.b64decode(basic).decode().split(":")
    assert (scheme, unquote_plus(user), unquote_plus(password)) == ("Basic", "a:b c", "s%é+")
    assert parse_qs(body.decode()) == {"grant_type": ["client_credentials"], "scope": ["x y"]}


def test_request_without_a_scope_asks_for_none() -> None:
    """An empty scope is none that the grant allows."""
    _, body = request_of(ClientCredentials("https://id.test/t", "a", "b"))
    assert body == b"grant_type=client_credentials"


def test_secret_is_in_no_repr() -> None:
    """Neither the client's nor a token."""
    credentials = ClientCredentials("https://id.test/t", "a", "hush-hush")
    token = token_of("hush-hush", 60, ends_at=60, random=0.5)
    assert "hush" not in repr(credentials) + repr(token)


@pytest.mark.parametrize(
    ("members", "life"),
    [
        ('"expires_in":3600', 3600),
        ('"expires_in":"3600"', 3600),
        ('"expires_in":0.5', 0.5),
        ('"expires_in":99999999999', LONGEST_LIFE),
        ('"expires_in":null', 300),
        ('"scope":"x"', 300),
    ],
)
def test_answer_gives_a_token_and_its_life(members: str, life: float) -> None:
    """As numbers or text, within a day; without one, five minutes."""
    content = b'{"access_token":"ab.c-_~+/=","token_type":"bEaReR",%b}' % members.encode()
    assert read_answer(content) == ("ab.c-_~+/=", life)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"access_token":"hush","token_type":"mac"}',
        b'{"access_token":"hush\\r\\nx: y","token_type":"bearer"}',
        b'{"access_token":"","token_type":"bearer"}',
        b'{"access_token":"%b","token_type":"bearer"}' % (b"hush" * 5000),
        b'{"access_token":7,"token_type":"bearer"}',
        b'{"access_token":"hush","token_type":"bearer","expires_in":0}',
        b'{"access_token":"hush","token_type":"bearer","expires_in":-1}',
        b'{"access_token":"hush","token_type":"bearer","expires_in":true}',
        b'{"access_token":"hush","token_type":"bearer","expires_in":"soon"}',
        b'{"access_token":"hush","token_type":"bearer","expires_in":1e999}',
        b'{"access_token":"hush","token_type":"bearer","expires_in":NaN}',
        b'\xff{"access_token":"hush"}',
    ],
)
def test_answer_that_is_of_no_use_is_refused(content: bytes) -> None:
    """With a reason that repeats nothing of it."""
    with pytest.raises(ValueError, match=r"^it") as caught:
        read_answer(content)
    assert "hush" not in str(caught.value)


def test_refusal_tells_a_word_and_nothing_else() -> None:
    """What the endpoint says beside may repeat the secret."""
    assert refusal_word(b'{"error":"invalid_client","error_description":"hush"}') == (
        "invalid_client"
    )
    for content in (b'{"error":"hush HUSH"}', b'{"error":7}', b"", b"\xff", b'{"error":"%b"}'):
        assert refusal_word(content) == ""


@given(life=st.floats(0.001, LONGEST_LIFE), random=st.floats(0, 1, exclude_max=True))
def test_times_of_a_token_are_in_their_order(life: float, random: float) -> None:
    """It is given up before its end, and the next one asked for before that; neither too early."""
    token = token_of("x", life, ends_at=1000 + life, random=random)
    assert 1000 <= token.refresh_at < token.good_until < token.ends_at
    assert token.ends_at - token.good_until <= min(30, life / 10) + 1e-6
    assert token.good_until - token.refresh_at <= 60 + 1e-6


def test_token_is_packed_for_others() -> None:
    """What is left of its life is theirs to know from elsewhere."""
    token = token_of("abc", 3600, ends_at=3600, random=0)
    found = unpack(pack(token), seconds_left=100, now=50, random=0)
    assert found is not None
    assert (found.value, found.life, found.ends_at) == ("abc", 3600, 150)
    assert found.good_until == 120


@pytest.mark.parametrize(
    "packed", [b"", b"{}", b'["a b",60]', b'["a",0]', b'["a",1e9]', b'["a"]', b"\xff"]
)
def test_packed_token_that_is_none_is_left(packed: bytes) -> None:
    """Whoever can write where it is kept must not be able to do harm."""
    assert unpack(packed, seconds_left=60, now=0, random=0) is None


def test_retry_after_is_read_as_seconds() -> None:
    """A date is none: nobody has a clock in common with the endpoint."""
    assert retry_after(" 7 ") == 7
    for value in (None, "", "-1", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"):
        assert retry_after(value) is None
